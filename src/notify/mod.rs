//! Telling people: many failures of one kind make one episode, which is told when it begins and when
//! it ends.
//!
//! [`episode`] decides when that is, from what calls saw and the time passed in. It does no I/O.

pub mod episode;
