//! Tools for people at a terminal, beside the running gateway: what would it decide, what is
//! published, is this host fit, and a private authority for it.

pub mod addresses;
pub mod ca;
pub mod ca_peers;
pub mod doctor;
pub mod echo;
pub mod evidence;
pub mod explain;
pub mod fleet;
pub mod notify;
pub mod readiness;

mod question;
mod wording;
