//! Tools for people at a terminal, beside the running gateway: what would it decide, and a private
//! authority for it.

pub mod ca;
pub mod explain;

mod question;
mod wording;
