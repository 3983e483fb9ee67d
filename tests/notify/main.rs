//! People are told: a real gateway, a simulated kintone that refuses, a real mail server.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod episodes;
mod held;
mod server;
