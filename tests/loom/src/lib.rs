//! The permits of an account under loom, which runs every order in which threads can meet.
//!
//! The quota's own source files are compiled here once more, with loom's locks and a way of answering
//! made of them (`src/quota/sync.rs`), and with switches by which it can be broken: what runs while
//! none is thrown is the code that runs in the gateway. Time stands still; a wait ends when the test
//! says so.

pub mod alarm;
pub mod broken;
pub mod oneshot;

/// What the quota knows of the rest.
pub use kintone_egress::{config, kintone, model};

include!(concat!(env!("OUT_DIR"), "/quota.rs"));
