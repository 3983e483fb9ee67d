//! The simulator as its clients see it: over real sockets and TLS.

mod admission;
mod api;
mod client;
mod control;
mod faults;
mod files;
mod ledger;
