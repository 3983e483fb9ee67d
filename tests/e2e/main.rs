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
mod egress;
mod faults;
mod forward;
mod operate;
mod program;
mod quota;
mod tunnel;
