//! kintone-egress: an outbound gateway for kintone.

pub mod config;
pub mod egress;
pub mod model;
pub mod telemetry;
pub mod tls;
