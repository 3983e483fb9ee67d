//! The simulator as its clients see it: over real sockets and TLS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod api;
mod client;
mod control;
mod faults;
mod files;
mod ledger;
mod many;
