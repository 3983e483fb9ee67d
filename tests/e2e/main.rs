//! Whole calls through a real gateway to a simulated kintone, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod callers;
mod canary;
mod change;
mod egress;
mod explain;
mod faults;
mod forward;
mod me;
mod operate;
mod process;
mod program;
mod quota;
mod schema;
mod tunnel;
