//! The protocol by which hosts share permits: time, rows and use go in; rows and shares come out.
//!
//! # How it works
//! Every host owns its reserve, a fixed part of each account's permits; all reserves together are what
//! the account has. A host that needs less lends: it takes the permits away from itself first and then
//! tells of the loan in its row. The borrower may start calls on it until a moment that is counted from
//! one of its own beats; as long as the lender sees it listing the loan, the loan is prolonged. What
//! the borrower does not list any more it has given back.
//!
//! # Why it is safe
//! Without loans every host stays within its reserve. For each loan, the permits are away from the
//! lender at every instant at which a call that began on it may be at kintone: calls begin before the
//! borrower's end, which is `loan` after its beat; the lender saw that beat later and counts `loan`, the
//! longest that a call can last, and the difference of the clocks from then ([`Rule::KeepAway`]). They
//! come back earlier only if the borrower says that it has no calls on them, and cannot take the loan
//! again; or if kintone's count, taken when none can begin any more, shows how many are left. Rows may
//! be lost, late, repeated, out of order, rolled back: each of the [`Rule`]s says which of that it
//! answers, and tests break each. Only a forged row could do harm.
//!
//! # How it is driven
//! One task per process, for each beat, in this order:
//!
//! 1. read the clock, `now`;
//! 2. read the rows of all hosts from the store, this host's own among them, and give each to
//!    [`Ledger::hear`]; give [`Ledger::learn`] what operators said;
//! 3. call [`Ledger::beat`]: it asks the quota, tells it its shares and returns a row;
//! 4. if there is something to keep, write it to disk; if that fails, publish nothing;
//! 5. publish the row. If that fails, nothing is to be done: the next one says the same.
//!
//! A beat is due every second, every 200 ms while [`Beat::pace`] says so, and soon after another host
//! has nudged. Missing beats cost capacity alone, and so does a store that is away; beat all the same,
//! without rows, for loans end.

use std::collections::{BTreeMap, VecDeque};

use crate::model::Account;

use super::moment::Moment;
use super::row::{Members, Row, Stamp};
use super::share::Part;

pub use kept::{Before, Kept};
pub use rules::Rule;
pub use standing::Access;
pub use terms::Terms;
pub use view::{AccountView, PeerView, View};

use entry::Entry;
use peer::Peer;
use rules::Rules;
use standing::Standing;

mod beat;
mod borrow;
mod entry;
mod hear;
mod kept;
mod lend;
mod members;
mod peer;
mod rules;
mod standing;
mod terms;
mod view;
mod want;

/// This host's side of the protocol.
#[derive(Debug, Clone)]
pub struct Ledger {
    rules: Rules,
    terms: Terms,
    /// This host's place among all.
    me: usize,
    peers: Vec<Peer>,
    standing: Standing,
    process: u64,
    /// The last beat.
    stamp: Stamp,
    /// When the last beats were, the oldest first.
    beats: VecDeque<Moment>,
    began_at: Moment,
    /// The number of the last loan.
    loans: u64,
    /// What an earlier start may have lent, of every account.
    doubt: Option<Doubt>,
    accounts: BTreeMap<Account, Entry>,
    /// What the quota was told.
    part: Part,
    /// What is on disk.
    kept: Kept,
}

/// How a ledger begins.
#[derive(Debug, Clone)]
pub struct Setup {
    /// This host.
    pub host: String,
    /// All hosts, this one among them, at most [`super::row::HOSTS_MAX`]. Alone, it has everything, and
    /// neither rows nor a store are needed.
    pub hosts: Vec<String>,
    /// A random number, another one for each process.
    pub process: u64,
    /// Greater than that of any earlier start of this host: one more than the one kept, and at least
    /// the milliseconds of the wall clock and one more than that of the host's row in the store.
    pub incarnation: u64,
    /// What an earlier start left.
    pub before: Before,
    /// Whether it may take its part at once. [`Access::Open`]: it can serve before it has reached the
    /// store, and where it was evicted meanwhile, or the others do not know it, it finds out only then.
    /// [`Access::Unproven`]: it serves nothing until all the others have answered.
    pub access: Access,
    /// The times.
    pub terms: Terms,
}

/// What a beat brings.
#[derive(Debug, Clone)]
pub struct Beat {
    /// What to publish; nothing once this process is superseded.
    pub row: Option<Row>,
    /// What must be on disk before, if it has changed.
    pub keep: Option<Kept>,
    /// Whether to tell the other hosts to look at once. If that is lost, they look a little later.
    pub nudge: bool,
    /// When the next beat is due.
    pub pace: Pace,
}

/// How often beats are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Every 200 ms: permits are away, borrowed, or wanted.
    Busy,
    /// Every second.
    Idle,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was taken into account.
    New,
    /// It was already, or a later one.
    Old,
    /// It is of no host of this configuration.
    Stranger,
    /// Its host has another list of hosts: nothing is lent or borrowed, and the smallest part counts.
    OtherHosts,
    /// It is this host's own.
    Own,
    /// It is of a process that has this host's name and began later: this one starts no more calls
    /// ([`Access::Superseded`]) and should end.
    Twin,
    /// It is of an earlier process of this host's name: dead if there is one gateway to a host.
    Earlier,
}

/// That nobody knows what an earlier start lent.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    ends_by: Moment,
    back_at: Moment,
}

impl Ledger {
    /// A host that starts.
    #[must_use]
    pub fn new(setup: Setup, now: Moment) -> Self {
        let Setup {
            host,
            mut hosts,
            process,
            incarnation,
            before,
            access,
            terms,
        } = setup;
        hosts.push(host.clone());
        hosts.sort();
        hosts.dedup();
        let me = hosts.iter().position(|other| *other == host).unwrap_or(0);
        let mut ledger = Self {
            rules: Rules::default(),
            terms,
            me,
            peers: vec![Peer::default(); hosts.len()],
            standing: Standing {
                me: host,
                hosts: hosts.clone(),
                earlier: None,
                others: Vec::new(),
                used: Members::default(),
                known: Members::default(),
                access,
            },
            process,
            stamp: Stamp {
                incarnation,
                beat: 0,
            },
            beats: VecDeque::new(),
            began_at: now,
            loans: 0,
            doubt: None,
            accounts: BTreeMap::new(),
            part: Part::default(),
            kept: Kept::default(),
        };
        ledger.inherit(before, now);
        ledger
    }

    /// Applies other times, for instance a longer `settle`.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// This host's part of every account in which nothing is lent or borrowed.
    #[must_use]
    pub fn part(&self) -> Part {
        self.part_now()
    }

    /// The newest word about evictions. [`Members::evict`] and [`Members::admit`] make the next one.
    #[must_use]
    pub const fn members(&self) -> &Members {
        &self.standing.known
    }

    /// The other hosts, by their place.
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.peers.len()).filter(move |host| *host != me)
    }

    /// Whether every other host that is not evicted has answered this start.
    fn is_answered(&self) -> bool {
        self.others()
            .filter(|host| !self.standing.is_evicted(*host))
            .all(|host| self.has_answered(host))
    }

    /// Whether the newest row of a host was written when it had seen this start.
    fn has_answered(&self, host: usize) -> bool {
        let row = self.peers[host].row.as_ref();
        row.and_then(|row| row.seen.get(self.me))
            .is_some_and(|seen| seen.incarnation == self.stamp.incarnation)
    }
}

#[cfg(test)]
mod tests;
