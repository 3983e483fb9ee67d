//! Verified egress: addresses are used while echoes see them as published, and only then.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod connections;
mod echo;
mod planned;
mod program;
mod start;
mod turns;
mod unverified;
