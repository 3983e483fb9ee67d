//! Permits shared with other hosts.

pub mod exchange;
