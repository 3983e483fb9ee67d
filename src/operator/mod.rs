//! Tools for people at a terminal, beside the running gateway: what would it decide?

pub mod explain;
pub mod fleet;

mod question;
mod wording;
