//! kintone-egress: an outbound gateway for kintone.

pub mod config;
pub mod model;
pub mod quota;
pub mod telemetry;
