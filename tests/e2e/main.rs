//! Whole calls through a real gateway to a simulated kintone, over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod callers;
mod faults;
mod forward;
mod quota;
mod tunnel;
