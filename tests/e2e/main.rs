//! Whole calls through a real gateway to a simulated kintone, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod acceptance;
mod addresses;
mod alone;
mod authority;
mod busy;
mod callers;
mod canary;
mod change;
mod circuit;
#[path = "../support/compress.rs"]
#[allow(unreachable_pub, missing_docs, reason = "a test exports nothing")]
mod compress;
#[path = "../support/corpus.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "a part is for other tests; a test exports nothing"
)]
mod corpus;
mod days;
mod doctor;
mod egress;
mod explain;
mod faults;
mod forward;
mod knowledge;
mod limits;
mod me;
mod operate;
mod process;
mod program;
mod quota;
mod readiness;
mod schema;
mod tunnel;
mod upstream;
