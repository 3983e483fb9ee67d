//! What was seen on one day.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// The layout of the file that this program reads and writes.
pub const LAYOUT: u32 = 1;

/// Local addresses that are told apart for an account. A host has a few bind addresses.
const ADDRESSES_MAX: usize = 16;

/// One day of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Day {
    /// [`LAYOUT`].
    pub layout: u32,
    /// The day.
    pub day: Date,
    /// When a gateway was there to record, in order.
    pub runs: Vec<Run>,
    /// Connections by account and local address.
    pub accounts: BTreeMap<String, Vec<Seen>>,
    /// Connections of accounts for which there was no room.
    pub unrecorded: u64,
}

/// A time in which every connection was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// From here on.
    pub from: Timestamp,
    /// Until here.
    pub until: Timestamp,
    /// Whether the gateway ended here by itself, so that nothing is missing.
    pub closed: bool,
}

/// Connections of one account from one local address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The local address of their sockets.
    pub local: Ipv4Addr,
    /// What is published for it; `None`: nothing was on the list.
    pub published: Option<Ipv4Addr>,
    /// How many.
    pub connections: u64,
    /// The first one.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
}

impl Day {
    /// A day of which nothing is known yet.
    #[must_use]
    pub const fn new(day: Date) -> Self {
        Self {
            layout: LAYOUT,
            day,
            runs: Vec::new(),
            accounts: BTreeMap::new(),
            unrecorded: 0,
        }
    }

    /// Writes a connection down, for at most so many accounts.
    pub fn record(
        &mut self,
        account: &str,
        local: Ipv4Addr,
        published: Option<Ipv4Addr>,
        now: Timestamp,
        accounts_max: usize,
    ) {
        if !self.accounts.contains_key(account) {
            if self.accounts.len() >= accounts_max {
                self.unrecorded += 1;
                return;
            }
            self.accounts.insert(account.to_owned(), Vec::new());
        }
        let Some(seen) = self.accounts.get_mut(account) else {
            return;
        };
        let is_it = |seen: &Seen| seen.local == local && seen.published == published;
        match seen.iter().position(is_it) {
            Some(at) => {
                seen[at].connections += 1;
                seen[at].last = seen[at].last.max(now);
            }
            None if seen.len() < ADDRESSES_MAX => seen.push(Seen {
                local,
                published,
                connections: 1,
                first: now,
                last: now,
            }),
            None => self.unrecorded += 1,
        }
    }
}
