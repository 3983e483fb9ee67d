//! What the gateway knows of kintone, held against kintone's own description and answers.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may panic"
)]

mod apis;
mod bodies;
mod random;
