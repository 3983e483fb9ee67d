//! kintone-egress: an outbound gateway for kintone.

pub mod admin;
pub mod config;
pub mod drain;
pub mod egress;
pub mod gateway;
pub mod kintone;
pub mod model;
pub mod proxy;
pub mod quota;
pub mod server;
pub mod telemetry;
pub mod tls;
