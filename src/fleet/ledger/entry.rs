//! One account in the ledger: what was lent of it, what was borrowed, and what that leaves.

use std::time::Duration;

use crate::fleet::moment::Moment;
use crate::fleet::share::{Loan, Permits, Share, TenantPortion, Usage};
use crate::model::Account;

/// One account.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Entry {
    /// The permits that all hosts share: the fewest by any host.
    pub(super) total: u32,
    /// The same by this host's configuration.
    pub(super) mine: u32,
    /// This host's part of them.
    pub(super) part: u32,
    pub(super) lent: Vec<Lent>,
    pub(super) held: Vec<Held>,
    pub(super) old: Option<Old>,
    /// Own permits on which no call starts, so that they become free and can be lent.
    pub(super) withheld: u32,
    /// What was in use and wanted at the last beat.
    pub(super) usage: Usage,
    pub(super) peak: Peak,
    /// When it last needed more than its own.
    pub(super) needed_at: Moment,
    /// Whether it wanted more at the last beat than it had.
    pub(super) is_short: bool,
    /// What the quota was told last.
    pub(super) told: Option<Share>,
    /// Of how many tenants the quota was told last that they are not here whole.
    pub(super) divided: usize,
}

/// A loan that this host made.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Lent {
    pub(super) number: u64,
    /// To which host.
    pub(super) to: usize,
    /// To which start of it.
    pub(super) to_incarnation: u64,
    /// Permits that are away; they only fall.
    pub(super) permits: u32,
    pub(super) recalled: u32,
    /// The borrower's beat that its time is counted from.
    pub(super) as_of: u64,
    /// The first beat of this host that told of it.
    pub(super) born: u64,
    /// From when on no call can begin on it.
    pub(super) ends_by: Moment,
    /// From when on every call on it is over.
    pub(super) back_at: Moment,
    pub(super) life: Life,
}

/// Whether a loan can be prolonged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// As long as its borrower lists it.
    Living,
    /// Its borrower has started again, or kintone's count has shown what is left of it.
    Dead,
}

/// A loan that this host has.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Held {
    /// From which host.
    pub(super) lender: usize,
    /// Its number, by which start of the lender.
    pub(super) incarnation: u64,
    pub(super) number: u64,
    /// Permits not given back.
    pub(super) permits: u32,
    /// Those of them on which calls may start.
    pub(super) usable: u32,
    /// What the lender wants back.
    pub(super) recalled: u32,
    /// When calls may start no more.
    pub(super) until: Moment,
}

/// What an earlier start of this host may have lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Old {
    pub(super) permits: u32,
    pub(super) ends_by: Moment,
    pub(super) back_at: Moment,
}

/// For at least so long, and at most twice as long, the most that was wanted counts.
const WINDOW: Duration = Duration::from_millis(250);

/// The most that was wanted of late.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Peak {
    now: u32,
    before: u32,
    since: Moment,
}

impl Entry {
    /// Forgets what only makes plans.
    #[cfg(test)]
    #[allow(dead_code, reason = "only the model checker asks for it")]
    pub(super) fn calm(&mut self) {
        self.usage = Usage::default();
        self.peak = Peak::default();
        self.needed_at = Moment::default();
        self.is_short = false;
        self.told = None;
        self.divided = 0;
    }

    /// The permits away.
    pub(super) fn away(&self) -> u32 {
        let lent = self.lent.iter().map(|loan| loan.permits);
        lent.sum::<u32>() + self.old.map_or(0, |old| old.permits)
    }

    /// This host's own permits that are not away.
    pub(super) fn own(&self) -> u32 {
        self.part.saturating_sub(self.away())
    }

    /// Those of them on which calls may start.
    pub(super) fn open(&self) -> u32 {
        self.own().saturating_sub(self.withheld)
    }

    /// Borrowed permits that were not given back.
    pub(super) fn listed(&self) -> u32 {
        self.held.iter().map(|loan| loan.permits).sum()
    }

    /// Those of them whose loan is not over.
    pub(super) fn listed_now(&self, now: Moment) -> u32 {
        let live = self.held.iter().filter(|loan| now < loan.until);
        live.map(|loan| loan.permits).sum()
    }

    /// Borrowed permits on which calls may start now.
    pub(super) fn borrowed(&self, now: Moment) -> u32 {
        let live = self.held.iter().filter(|loan| now < loan.until);
        live.map(|loan| loan.usable).sum()
    }

    /// Permits on which calls may start now.
    pub(super) fn usable(&self, now: Moment) -> u32 {
        self.open() + self.borrowed(now)
    }

    /// Permits in use and wanted.
    pub(super) fn demand(&self) -> u32 {
        self.usage.in_use.saturating_add(self.usage.queued)
    }

    /// What the quota may use.
    pub(super) fn share(&self, now: Moment) -> Share {
        let live = self.held.iter();
        let live = live.filter(|loan| now < loan.until && loan.usable > 0);
        Share {
            own: self.open(),
            loans: live
                .map(|loan| Loan {
                    permits: loan.usable,
                    until: loan.until,
                })
                .collect(),
            total: self.total,
        }
    }

    /// Tells the quota how much of its tenants is here, again in each beat: one that it had forgotten
    /// has come back whole.
    pub(super) fn apportion(
        &mut self,
        account: &Account,
        portions: &[TenantPortion],
        permits: &mut impl Permits,
    ) {
        if !portions.is_empty() || self.divided > 0 {
            permits.set_portions(account, portions);
        }
        self.divided = portions.len();
    }

    /// Whether its part is all there is to say.
    pub(super) fn is_plain(&self) -> bool {
        self.lent.is_empty() && self.held.is_empty() && self.old.is_none()
    }
}

impl Held {
    /// Whether it is that loan.
    pub(super) const fn is(&self, lender: usize, incarnation: u64, number: u64) -> bool {
        self.lender == lender && self.incarnation == incarnation && self.number == number
    }
}

impl Peak {
    /// Counts what is wanted now; tells the most of late.
    pub(super) fn note(&mut self, demand: u32, now: Moment) -> u32 {
        if now.since(self.since) >= WINDOW {
            let is_old = now.since(self.since) >= WINDOW * 2;
            self.before = if is_old { 0 } else { self.now };
            self.now = 0;
            self.since = now;
        }
        self.now = self.now.max(demand);
        self.now.max(self.before)
    }
}
