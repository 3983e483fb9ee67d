//! Evidence for customers: from which addresses did connections to their kintone leave, on a day?
//!
//! Each connection is written down when it stands, by the local address that the kernel gives for its
//! socket, and not by the one that was meant. A [`Recorder`] keeps the days on disk, each as one
//! file, with the times at which a gateway was there to record; a [`Statement`] says of one account
//! and day what was recorded, and where nothing could be.
//!
//! Days are those of Japan, from 00:00 JST.

pub use day::{Day, Run, Seen};
pub use recorder::{Recorder, read_day};
pub use statement::{Gap, Reader, Statement, Why};

pub mod day;
pub mod recorder;
pub mod statement;

#[cfg(test)]
mod tests;
