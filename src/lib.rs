//! kintone-egress: an outbound gateway for kintone.

pub mod config;
pub mod drain;
pub mod model;
pub mod server;
pub mod telemetry;
