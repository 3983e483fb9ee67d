//! The validated configuration: plain data, every default filled in, nothing left to check.
//!
//! `file` reads what the operator writes and reports every fault with its place (`place`), by the
//! typed readers of `read`, one child for each part of the file; `shape` is the result, the only
//! thing that the rest of the program sees; `show` prints it back without its secrets.

pub mod acceptance;
pub mod certificate;
pub mod circuit;
pub mod file;
pub mod grant;
pub mod place;
pub mod secret;
pub mod shape;
pub mod show;
pub mod token;
pub mod unit;

mod account;
mod caller;
mod credential;
mod egress;
mod fleet;
mod inspect;
mod listen;
mod name;
mod network;
mod notify;
mod peer;
mod public;
mod quota;
mod read;
mod restart;
mod service;
mod show_fleet;
mod source;
mod store;
mod suggest;
mod table;
mod unbuilt;
mod upstream;
mod verify;

pub use acceptance::Acceptance;
pub use certificate::{CaBundle, CaCertificate};
pub use circuit::{Circuit, CircuitSettings, MaintenanceWindow};
pub use grant::*;
pub use inspect::Inspect;
pub use notify::{BrakeTerms, EpisodeTerms, MailServer, Notify, SpoolTerms};
pub use peer::Peer;
pub use secret::Secret;
pub use shape::*;
pub use store::*;
pub use verify::{Verify, Vouching};
