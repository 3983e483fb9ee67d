//! Which addresses are on the list, in which state: the configuration's dates obeyed, and its changes
//! held back until customers have had their notice.
//!
//! ```text
//!            on the list for minimum_notice            retire_after, or by the file
//!   planned ────────────────────────────────▶ active ──────────────────────────────▶ retiring
//!      │          and valid_from has come        ▲                                       │ not in the file,
//!      │ not in the file                         └───────────── by the file ─────────────┤ and retiring
//!      ▼                                                                                 ▼ for overlap
//!   removed                                                                           removed
//! ```
//!
//! An address that the file has in use too early is *held* as planned; one that it leaves out too
//! early stays as retiring. Both raise an alarm until the list is what the file says. What is used
//! already is never taken back by these rules, and the first list there is, is taken as it is.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::Date;

use super::calendar::{day, day_after, midnight};
use super::list::{Entry, List};
use super::memory::{CHANGES_MAX, Change, LAYOUT, Memory, Remembered, What};
use crate::config::{AddressState, EgressAddress, Notice};
use crate::model::Published;

/// What operators must know, since the list is not what the configuration says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// An address is to be used before customers had their notice.
    #[error(
        "{address} is held as planned until {until}: it was not on the published list for \
         [egress] minimum_notice"
    )]
    Held {
        /// The address.
        address: Ipv4Addr,
        /// The first day on which it may be used.
        until: Date,
    },
    /// An address is gone from the configuration before customers had time to follow.
    #[error(
        "{address} stays on the published list, as retiring, until {until}: it was not retiring for \
         [egress] overlap; put it back into the configuration with state \"retiring\""
    )]
    Kept {
        /// The address.
        address: Ipv4Addr,
        /// The day on which it leaves the list.
        until: Date,
    },
    /// What was published last cannot be read.
    #[error(
        "what was published last cannot be read ({problem}): the configuration's list was taken as \
         the first; compare it with what customers were told. The old file is kept as {kept}"
    )]
    MemoryDamaged {
        /// What is wrong with it.
        problem: String,
        /// Its name.
        kept: &'static str,
    },
    /// What is published cannot be remembered.
    #[error(
        "what is published cannot be remembered ({problem}), so days of notice may be counted twice: \
         make [state] dir writable"
    )]
    MemoryUnwritable {
        /// What the kernel said.
        problem: String,
    },
    /// Where connections left from cannot be written down.
    #[error(
        "evidence of connections cannot be written ({problem}), so statements to customers will have \
         gaps: make [state] dir writable"
    )]
    EvidenceUnwritable {
        /// What the kernel said.
        problem: String,
    },
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What is published.
    pub list: List,
    /// What to remember of it.
    pub memory: Memory,
    /// Where it is not what the configuration says.
    pub alarms: Vec<Alarm>,
}

impl Alarm {
    /// Every label there is.
    pub const LABELS: [&str; 5] = [
        "held",
        "kept",
        "memory_damaged",
        "memory_unwritable",
        "evidence_unwritable",
    ];

    /// The label of the metric.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Held { .. } => "held",
            Self::Kept { .. } => "kept",
            Self::MemoryDamaged { .. } => "memory_damaged",
            Self::MemoryUnwritable { .. } => "memory_unwritable",
            Self::EvidenceUnwritable { .. } => "evidence_unwritable",
        }
    }
}

/// Decides what is published at `now`. `memory` is what was published last; `None`: this is the
/// first list. A clock that stands before what is remembered is wrong, and is taken as standing
/// there.
#[must_use]
pub fn judge(
    configured: &[EgressAddress],
    memory: Option<&Memory>,
    notice: Notice,
    now: Timestamp,
) -> Judged {
    let now = memory.map_or(now, |memory| now.max(memory.changed));
    let judge = Judge {
        memory,
        notice,
        now,
        today: day(now),
    };
    let mut alarms = Vec::new();
    let mut addresses: Vec<_> = configured
        .iter()
        .map(|address| judge.configured(address, &mut alarms))
        .collect();
    for before in memory.iter().flat_map(|memory| &memory.addresses) {
        if !addresses.iter().any(|one| one.address == before.address) {
            addresses.extend(judge.left_out(before, &mut alarms));
        }
    }
    let memory = judge.remember(addresses);
    Judged {
        list: judge.list(&memory),
        memory,
        alarms,
    }
}

struct Judge<'a> {
    memory: Option<&'a Memory>,
    notice: Notice,
    now: Timestamp,
    today: Date,
}

impl Judge<'_> {
    /// What becomes of an address of the configuration.
    fn configured(&self, address: &EgressAddress, alarms: &mut Vec<Alarm>) -> Remembered {
        let ip = address.published.0;
        let before = self.memory.and_then(|memory| memory.of(ip));
        let asked = self.asked(address);
        let Some(before) = before else {
            let is_first = self.memory.is_none();
            if is_first && asked != AddressState::Planned {
                return self.taken(address, asked);
            }
            return self.noticed(address, asked, self.now, None, alarms);
        };
        let listed = match (before.state, before.listed) {
            // What is in use is not taken back, and an address from before the first list needs no
            // notice.
            (AddressState::Active, _) | (_, None) => {
                return self.becomes(address, asked, before.listed, Some(before));
            }
            (AddressState::Planned | AddressState::Retiring, Some(listed)) => listed,
        };
        self.noticed(address, asked, listed, Some(before), alarms)
    }

    /// What the configuration asks for on this day.
    fn asked(&self, address: &EgressAddress) -> AddressState {
        let has_come = |date: Option<Date>| date.map(|date| date <= self.today);
        let (begun, ended) = (
            has_come(address.valid_from),
            has_come(address.retire_after) == Some(true),
        );
        match (address.state, begun) {
            (AddressState::Retiring, _) => AddressState::Retiring,
            (AddressState::Planned, Some(false) | None) => AddressState::Planned,
            (AddressState::Active, Some(false)) => AddressState::Planned,
            (AddressState::Planned | AddressState::Active, _) if ended => AddressState::Retiring,
            (AddressState::Planned | AddressState::Active, _) => AddressState::Active,
        }
    }

    /// An address of the first list that was known to customers before.
    fn taken(&self, address: &EgressAddress, asked: AddressState) -> Remembered {
        // Customers were told of the end of a retiring one when that day came.
        let ended = address.retire_after.map(midnight);
        let ended = ended.filter(|ended| *ended <= self.now);
        let since = match asked {
            AddressState::Retiring => Some(ended.unwrap_or(self.now)),
            AddressState::Planned | AddressState::Active => None,
        };
        Remembered {
            since,
            ..self.becomes(address, asked, None, None)
        }
    }

    /// An address that must have been on the list, which it is since `listed`, before it is used.
    fn noticed(
        &self,
        address: &EgressAddress,
        asked: AddressState,
        listed: Timestamp,
        before: Option<&Remembered>,
        alarms: &mut Vec<Alarm>,
    ) -> Remembered {
        let until = day_after(listed, self.notice.minimum_days);
        let is_due = until <= self.today;
        let held = match asked {
            AddressState::Active => !is_due,
            AddressState::Planned => address.valid_from.is_some_and(|from| from < until),
            AddressState::Retiring => false,
        };
        if !held {
            return self.becomes(address, asked, Some(listed), before);
        }
        let ip = address.published.0;
        alarms.push(Alarm::Held { address: ip, until });
        let planned = self.becomes(address, AddressState::Planned, Some(listed), before);
        Remembered {
            valid_from: planned.valid_from.max(Some(until)),
            ..planned
        }
    }

    /// An address in the state that it is to have.
    fn becomes(
        &self,
        address: &EgressAddress,
        state: AddressState,
        listed: Option<Timestamp>,
        before: Option<&Remembered>,
    ) -> Remembered {
        let since = match before {
            Some(before) if before.state == state => before.since,
            Some(_) | None => Some(self.now),
        };
        Remembered {
            address: address.published.0,
            state,
            since,
            listed,
            valid_from: address.valid_from,
            retire_after: address.retire_after,
        }
    }

    /// What becomes of an address that the configuration has no more.
    fn left_out(&self, before: &Remembered, alarms: &mut Vec<Alarm>) -> Option<Remembered> {
        let (since, retire_after) = match before.state {
            // Nothing ever came from it.
            AddressState::Planned => return None,
            AddressState::Active => (self.now, Some(self.today)),
            AddressState::Retiring => (before.since.unwrap_or(self.now), before.retire_after),
        };
        let until = day_after(since, self.notice.overlap_days);
        if until <= self.today {
            return None;
        }
        alarms.push(Alarm::Kept {
            address: before.address,
            until,
        });
        Some(Remembered {
            state: AddressState::Retiring,
            since: Some(since),
            retire_after,
            ..*before
        })
    }

    fn remember(&self, addresses: Vec<Remembered>) -> Memory {
        let before = self.memory.map_or(&[][..], |memory| &memory.addresses);
        let now = self.now;
        let said = |of: &[Remembered], address: Ipv4Addr| {
            let one = of.iter().find(|one| one.address == address);
            one.map(Remembered::as_change)
        };
        let gone = before
            .iter()
            .filter(|one| said(&addresses, one.address).is_none())
            .map(|one| (one.address, What::Removed));
        // What customers knew before the first list is no change of it.
        let is_news = |one: &&Remembered| self.memory.is_some() || one.listed.is_some();
        let new = addresses
            .iter()
            .filter(is_news)
            .map(|one| (one.address, one.as_change()))
            .filter(|(address, what)| said(before, *address) != Some(*what));
        let fresh: Vec<_> = new
            .chain(gone)
            .map(|(address, what)| Change {
                at: now,
                address,
                what,
            })
            .collect();
        let is_same = fresh.is_empty() && self.memory.is_some();
        let mut changes = self
            .memory
            .map_or_else(Vec::new, |memory| memory.changes.clone());
        changes.extend(fresh);
        changes.drain(..changes.len().saturating_sub(CHANGES_MAX));
        Memory {
            layout: LAYOUT,
            changed: match self.memory {
                Some(memory) if is_same => memory.changed,
                Some(_) | None => now,
            },
            addresses,
            changes,
        }
    }

    fn list(&self, memory: &Memory) -> List {
        let entries = memory.addresses.iter().map(|one| {
            let since = one.since.map(day);
            let valid_from = match one.state {
                AddressState::Active => one.valid_from.filter(|from| *from <= self.today).or(since),
                AddressState::Planned | AddressState::Retiring => one.valid_from,
            };
            let retire_after = match one.state {
                AddressState::Retiring => one.retire_after.or(since),
                AddressState::Planned | AddressState::Active => one.retire_after,
            };
            Entry {
                address: Published(one.address),
                state: one.state,
                valid_from,
                retire_after,
            }
        });
        List {
            entries: entries.collect(),
            changed: memory.changed,
            changes: memory.changes.iter().rev().copied().collect(),
            minimum_notice_days: self.notice.minimum_days,
            overlap_days: self.notice.overlap_days,
        }
    }
}
