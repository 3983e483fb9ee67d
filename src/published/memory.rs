//! What was published last, as it is kept in the state directory.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::config::AddressState;

/// The layout that this program reads and writes.
pub const LAYOUT: u32 = 1;

/// Changes that are remembered; the oldest go first.
pub const CHANGES_MAX: usize = 1000;

/// What was published last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// [`LAYOUT`].
    pub layout: u32,
    /// When the list became what it is.
    pub changed: Timestamp,
    /// The addresses.
    pub addresses: Vec<Remembered>,
    /// How the list became so, the latest change last.
    pub changes: Vec<Change>,
}

/// One address as it was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// The address.
    pub address: Ipv4Addr,
    /// Its state.
    #[serde(with = "state_word")]
    pub state: AddressState,
    /// Since when it has that state; in use or retiring since before the first list, if `None`.
    pub since: Option<Timestamp>,
    /// Since when it is on the list; in use since before the first list, if `None`.
    pub listed: Option<Timestamp>,
    /// From which day it is used, as published.
    pub valid_from: Option<Date>,
    /// The first day without its use, as published.
    pub retire_after: Option<Date>,
}

/// One change of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// Of which address.
    pub address: Ipv4Addr,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What a change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// It will be used.
    Planned {
        /// From that day, if it is known.
        from: Option<Date>,
    },
    /// It is used.
    Active {
        /// To that day, if an end is announced.
        until: Option<Date>,
    },
    /// It is not used any more.
    Retiring {
        /// Since that day, if it is known.
        since: Option<Date>,
    },
    /// It is not on the list any more.
    Removed,
}

impl Memory {
    /// What was published of `address`.
    #[must_use]
    pub fn of(&self, address: Ipv4Addr) -> Option<&Remembered> {
        self.addresses
            .iter()
            .find(|remembered| remembered.address == address)
    }
}

impl Remembered {
    /// What is published of it, as a change.
    #[must_use]
    pub const fn as_change(&self) -> What {
        match self.state {
            AddressState::Planned => What::Planned {
                from: self.valid_from,
            },
            AddressState::Active => What::Active {
                until: self.retire_after,
            },
            AddressState::Retiring => What::Retiring {
                since: self.retire_after,
            },
        }
    }
}

/// A state as the word of the configuration.
mod state_word {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::config::AddressState;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn serialize<S: Serializer>(state: &AddressState, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(state.word())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<AddressState, D::Error> {
        let word = String::deserialize(from)?;
        let states = AddressState::ALL.into_iter();
        let mut matching = states.filter(|state| state.word() == word);
        matching
            .next()
            .ok_or_else(|| de::Error::custom("not the state of an address"))
    }
}
