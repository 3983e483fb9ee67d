//! kintone-egress: an outbound gateway for kintone.

pub mod admin;
pub mod config;
pub mod kintone;
pub mod model;
pub mod telemetry;
