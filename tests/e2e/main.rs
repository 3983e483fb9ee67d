//! Whole calls through a real gateway to a simulated kintone, over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod egress;
mod faults;
mod forward;
mod operate;
mod program;
mod quota;
mod tunnel;
