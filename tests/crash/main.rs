//! The end of the process and of the machine under load: what kintone still works on stays counted.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod days;
mod kills;
mod load;
mod power;
mod site;
mod unknown;
