//! What a ledger holds, and how it begins.

use std::collections::{BTreeMap, VecDeque};

use crate::fleet::moment::Moment;
use crate::fleet::row::{Members, Stamp};
use crate::fleet::share::Part;
use crate::model::Account;

use super::entry::Entry;
use super::kept::{Before, Kept};
#[cfg(test)]
use super::lend::Will;
use super::peer::Peer;
#[cfg(test)]
use super::rules::Rule;
use super::rules::Rules;
use super::standing::{Access, Standing};
use super::terms::Terms;

/// This host's side of the protocol.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub struct Ledger {
    pub(super) rules: Rules,
    pub(super) terms: Terms,
    /// This host's place among all.
    pub(super) me: usize,
    pub(super) peers: Vec<Peer>,
    pub(super) standing: Standing,
    pub(super) process: u64,
    /// The last beat.
    pub(super) stamp: Stamp,
    /// When the last beats were, the oldest first.
    pub(super) beats: VecDeque<Moment>,
    pub(super) began_at: Moment,
    /// The number of the last loan.
    pub(super) loans: u64,
    /// What an earlier start may have lent, of every account.
    pub(super) doubt: Option<Doubt>,
    pub(super) accounts: BTreeMap<Account, Entry>,
    /// What the quota was told.
    pub(super) part: Part,
    /// What is on disk.
    pub(super) kept: Kept,
    /// What is done instead of what is planned.
    #[cfg(test)]
    pub(super) will: Option<Will>,
}

/// How a ledger begins.
#[derive(Debug, Clone)]
pub struct Setup {
    /// This host.
    pub host: String,
    /// All hosts, this one among them, at most [`crate::fleet::row::HOSTS_MAX`]. Alone, it has everything, and
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

/// That nobody knows what an earlier start lent.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Doubt {
    pub(super) ends_by: Moment,
    pub(super) back_at: Moment,
}

impl Ledger {
    /// A host that starts.
    #[must_use]
    pub fn new(setup: Setup, now: Moment) -> Self {
        Self::under(Rules::default(), setup, now)
    }

    fn under(rules: Rules, setup: Setup, now: Moment) -> Self {
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
            rules,
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
            #[cfg(test)]
            will: None,
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

    /// A host that breaks a rule.
    #[cfg(test)]
    pub(crate) fn breaking(rule: Option<Rule>, setup: Setup, now: Moment) -> Self {
        let rules = rule.map_or_else(Rules::default, Rules::without);
        Self::under(rules, setup, now)
    }

    /// In the next beat, does what `will` says to every account instead of what would be wise.
    #[cfg(test)]
    #[allow(dead_code, reason = "only the model checker asks for it")]
    pub(crate) fn force(&mut self, will: Will) {
        self.will = Some(will);
    }

    /// Forgets what only makes plans, so that a model checker need not tell it apart.
    #[cfg(test)]
    #[allow(dead_code, reason = "only the model checker asks for it")]
    pub(crate) fn calm(&mut self) {
        for entry in self.accounts.values_mut() {
            entry.calm();
        }
        for peer in &mut self.peers {
            peer.heard_at = None;
        }
    }

    /// The other hosts, by their place.
    pub(super) fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.peers.len()).filter(move |host| *host != me)
    }

    /// Whether the newest row of a host was written when it had seen this start.
    pub(super) fn has_answered(&self, host: usize) -> bool {
        let row = self.peers[host].row.as_ref();
        row.and_then(|row| row.seen.get(self.me))
            .is_some_and(|seen| seen.incarnation == self.stamp.incarnation)
    }
}
