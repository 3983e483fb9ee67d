//! What the gateway knows of kintone, held against kintone's own description and answers.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    unreachable_pub,
    reason = "a test may panic, and exports nothing"
)]

mod answers;
mod apis;
mod bodies;
#[path = "../support/compress.rs"]
mod compress;
#[path = "../support/corpus.rs"]
#[allow(dead_code, reason = "content types are for those who send the answers")]
mod corpus;
mod random;
