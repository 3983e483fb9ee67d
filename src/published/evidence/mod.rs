//! Evidence for customers: from which addresses did connections to their kintone leave, on a day?
//!
//! Each connection is written down when it stands, by the local address that the kernel gives for its
//! socket, and not by the one that was meant. A [`Recorder`] keeps the days on disk, each as one
//! file, with the times at which a gateway was there to record; a [`Statement`] says of one account
//! and day what was recorded, and where nothing could be. Hosts that share a store tell each other
//! their records ([`told`]) and keep what they are told ([`Peers`]): a [`FleetStatement`] is of all of
//! them, and names the times of which nothing was heard. Who can write into the store can forge what
//! is told; the record of a host itself is in its own state directory.
//!
//! Days are those of Japan, from 00:00 JST.

pub use day::{Day, Run, Seen};
pub use fleet::{FleetStatement, Known, Sum, Voice};
pub use peers::{Peers, read_peer_day};
pub use recorder::{Recorder, read_day};
pub use statement::{Gap, Reader, Statement, Why};

pub mod day;
pub mod fleet;
pub mod peers;
pub mod recorder;
pub mod statement;
pub mod told;

#[cfg(test)]
mod tests;
