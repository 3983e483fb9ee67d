//! Inspected connections: CONNECT, TLS to the private CA, and every call inside a call of its own.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![allow(unreachable_pub, reason = "a test program exports nothing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod basics;
mod bodies;
mod echo;
mod explain;
mod frames;
mod h2;
mod life;
mod matrix;
mod pieces;
