//! Tools for people at a terminal, beside the running gateway: what would it decide, what is
//! published?

pub mod addresses;
pub mod evidence;
pub mod explain;

mod question;
mod wording;
