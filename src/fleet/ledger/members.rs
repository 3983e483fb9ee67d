//! Hosts that are evicted and admitted again, and what a host finds that starts.

use crate::fleet::moment::Moment;
use crate::fleet::row::Members;
use crate::model::Account;

use super::entry::Old;
use super::kept::Before;
use super::rules::Rule;
use super::standing::Access;
use super::state::{Doubt, Ledger};

impl Members {
    /// The next word, by which a host is evicted too; `None` if it is already.
    #[must_use]
    pub fn evict(&self, host: &str) -> Option<Self> {
        let at = self.evicted.binary_search_by(|one| one.as_str().cmp(host));
        let mut evicted = self.evicted.clone();
        evicted.insert(at.err()?, host.to_owned());
        Some(self.next(evicted))
    }

    /// The next word, by which a host is evicted no more; `None` if it is not.
    #[must_use]
    pub fn admit(&self, host: &str) -> Option<Self> {
        let at = self.evicted.binary_search_by(|one| one.as_str().cmp(host));
        let mut evicted = self.evicted.clone();
        evicted.remove(at.ok()?);
        Some(self.next(evicted))
    }

    const fn next(&self, evicted: Vec<String>) -> Self {
        Self {
            version: self.version + 1,
            evicted,
        }
    }
}

impl Ledger {
    /// Takes over what an earlier start left.
    pub(super) fn inherit(&mut self, before: Before, now: Moment) {
        match before {
            Before::Nothing => {}
            Before::Kept(kept) => {
                self.standing.used.clone_from(&kept.used);
                self.standing.known.clone_from(&kept.known);
                let is_other = kept.hosts != self.standing.hosts;
                self.standing.earlier = is_other.then(|| kept.hosts.clone());
                for (account, permits) in &kept.lent {
                    self.inherit_account(account, *permits, now);
                }
                self.kept = kept;
            }
            Before::Unknown(at) if self.rules.hold(Rule::Inherit) => {
                self.doubt = Some(Doubt {
                    ends_by: at.after(self.terms.certainly(self.terms.loan)),
                    back_at: at.after(self.terms.certainly(self.terms.loan + self.terms.tail())),
                });
            }
            Before::Unknown(_) => {}
        }
    }

    /// An earlier start may have lent so many permits of an account.
    pub(super) fn inherit_account(&mut self, account: &Account, permits: u32, now: Moment) {
        if permits == 0 || !self.rules.hold(Rule::Inherit) {
            return;
        }
        let entry = self.accounts.entry(account.clone()).or_default();
        let earlier = entry.old.map_or(0, |old| old.permits);
        entry.old = Some(Old {
            permits: earlier.max(permits),
            ends_by: now.after(self.terms.certainly(self.terms.loan)),
            back_at: now.after(self.terms.certainly(self.terms.loan + self.terms.tail())),
        });
    }

    /// Brings up to date what this host may take: by the others' answers, and by time.
    pub(super) fn settle_standing(&mut self, now: Moment) {
        if self.standing.access == Access::Unproven && self.is_agreed() {
            self.standing.access = Access::Open;
        }
        if self.is_agreed() {
            self.standing.earlier = None;
            if self.standing.used != self.standing.known && self.are_evicted_gone(now) {
                self.standing.used.clone_from(&self.standing.known);
                self.forget_evicted();
            }
        }
        let is_over = self.doubt.is_some_and(|doubt| now >= doubt.back_at);
        if is_over || self.doubt.is_some() && self.is_answered_by_all() {
            self.settle_doubt(now);
        }
    }

    /// Whether every other host that is not evicted has answered this start, has the same hosts and
    /// members, and uses no more than those leave it.
    fn is_agreed(&self) -> bool {
        if !self.rules.hold(Rule::ShrinkFirst) {
            return true;
        }
        let standing = &self.standing;
        self.others()
            .filter(|host| !standing.is_evicted(*host))
            .all(|host| {
                let row = self.peers[host].row.as_ref();
                self.has_answered(host)
                    && row.is_some_and(|row| {
                        row.is_settled
                            && row.hosts == standing.hosts
                            && row.members == standing.known
                    })
            })
    }

    /// Whether every evicted host has been silent for as long as its calls can last.
    fn are_evicted_gone(&self, now: Moment) -> bool {
        let span = self.terms.certainly(self.terms.tail());
        let is_used = |host: usize| {
            let used = &self.standing.used.evicted;
            used.contains(&self.standing.hosts[host])
        };
        !self.rules.hold(Rule::AwaitEvicted)
            || self
                .others()
                .filter(|host| self.standing.is_evicted(*host) && !is_used(*host))
                .all(|host| self.peers[host].is_silent(now, span, self.began_at))
    }

    /// No loan to or from an evicted host is left.
    fn forget_evicted(&mut self) {
        let standing = &self.standing;
        for entry in self.accounts.values_mut() {
            entry.lent.retain(|loan| !standing.is_evicted(loan.to));
            entry.held.retain(|loan| !standing.is_evicted(loan.lender));
        }
    }

    /// Whether all others have answered this start, but for those whose part the fleet has taken.
    pub(super) fn is_answered_by_all(&self) -> bool {
        let used = &self.standing.used.evicted;
        self.others()
            .filter(|host| !used.contains(&self.standing.hosts[*host]))
            .all(|host| self.has_answered(host))
    }

    /// What earlier starts may have lent is now what the others list.
    fn settle_doubt(&mut self, now: Moment) {
        let Some(doubt) = self.doubt.take().filter(|doubt| now < doubt.back_at) else {
            return;
        };
        let rows = self
            .others()
            .filter_map(|host| self.peers[host].row.as_ref());
        let accounts = rows.flat_map(|row| &row.accounts);
        let accounts: Vec<_> = accounts.map(|row| row.account.clone()).collect();
        for account in accounts {
            let permits = self.listed_of_earlier(&account);
            if permits > 0 {
                self.accounts.entry(account).or_default().old = Some(Old {
                    permits,
                    ends_by: doubt.ends_by,
                    back_at: doubt.back_at,
                });
            }
        }
    }

    /// Permits that other hosts list as lent by earlier starts of this one.
    pub(super) fn listed_of_earlier(&self, account: &Account) -> u32 {
        let rows = self
            .others()
            .filter_map(|host| self.peers[host].row.as_ref());
        let held = rows
            .filter_map(|row| row.account(account))
            .flat_map(|row| &row.held);
        let mine = held.filter(|held| {
            usize::from(held.lender) == self.me && held.incarnation < self.stamp.incarnation
        });
        mine.map(|held| held.permits).sum()
    }
}
