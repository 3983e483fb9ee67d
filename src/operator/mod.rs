//! Tools for people at a terminal, beside the running gateway: what would it decide, what is
//! published, and a private authority for it.

pub mod addresses;
pub mod ca;
pub mod evidence;
pub mod explain;

mod question;
mod wording;
