//! The fleet's ledger under a model checker and a simulator.
//!
//! The ledger's own source files are compiled here once more, optimised and with the hooks that they
//! have for tests: what is checked is the code that runs. Everything else is small models of what
//! surrounds it: calls at kintone, a store that does as it likes, hosts that die and stop.
#![cfg(test)]
#![allow(
    unreachable_pub,
    unused_imports,
    dead_code,
    clippy::unwrap_used,
    reason = "the files belong to another crate, and a test says what it expects by failing"
)]

mod dice;
mod explore;
mod proof;
mod simulation;
mod world;

#[path = "../../../src/model"]
mod model {
    //! As much of the vocabulary as the ledger needs.
    pub use account::Account;

    mod account;
}

#[path = "../../../src/fleet"]
mod fleet {
    //! The ledger as it is.
    pub mod code;
    pub mod ledger;
    pub mod moment;
    pub mod row;
    pub mod share;
}
