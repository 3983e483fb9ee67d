//! The published list: what customers are told of each address.

use jiff::Timestamp;
use jiff::civil::Date;

use super::memory::Change;
use crate::config::AddressState;
use crate::model::Published;

/// The list as it is published at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The addresses, in the order of the configuration; those that it has no more come last.
    pub entries: Vec<Entry>,
    /// When it became what it is.
    pub changed: Timestamp,
    /// How it became so, the latest change first.
    pub changes: Vec<Change>,
    /// Days that an address is on the list before it is used.
    pub minimum_notice_days: u16,
    /// Days that it stays on the list after its use.
    pub overlap_days: u16,
}

/// One address on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The address.
    pub address: Published,
    /// Whether calls leave from it.
    pub state: AddressState,
    /// From which day an active one has been used, if that is known; else from which day it will be.
    pub valid_from: Option<Date>,
    /// The first day without its use.
    pub retire_after: Option<Date>,
}

impl List {
    /// The addresses that customers must allow: those in use, and those that will be.
    pub fn wanted(&self) -> impl Iterator<Item = &Entry> {
        let is_wanted = |entry: &&Entry| entry.state != AddressState::Retiring;
        self.entries.iter().filter(is_wanted)
    }

    /// The state of each address.
    #[must_use]
    pub fn states(&self) -> Vec<(Published, AddressState)> {
        let states = self.entries.iter();
        states.map(|entry| (entry.address, entry.state)).collect()
    }
}
