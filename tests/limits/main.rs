//! What this host can bear: the program itself under callers who ask too much of it.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(unreachable_pub, reason = "a test program exports nothing")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod alone;
mod crowd;
mod declared;
mod descriptors;
mod ports;
