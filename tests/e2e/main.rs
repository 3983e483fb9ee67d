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
mod egress;
mod faults;
mod forward;
mod knowledge;
mod operate;
mod program;
mod quota;
mod tunnel;
