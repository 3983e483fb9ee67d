//! Tools for people at a terminal, beside the running gateway: what would it decide?

pub mod explain;

mod question;
mod wording;
