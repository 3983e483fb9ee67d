//! Hosts that share permits, over a real redis-server.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod board;
mod clock;
mod days;
mod evict;
mod evidence;
mod fairness;
mod late;
mod operate;
mod outage;
mod pair;
mod process;
mod published;
mod rolling;
#[path = "../e2e/schema.rs"]
mod schema;
mod sharing;
mod side;
mod store;
