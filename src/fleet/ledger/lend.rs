//! The lender's side: who gets how much, and when it comes back.

use std::time::Duration;

use crate::fleet::moment::Moment;
use crate::fleet::row::AccountRow;
use crate::fleet::share::TenantPortion;
use crate::model::Account;

use super::beat::{Urgency, tenant_rows};
use super::entry::{Entry, Lent, Life};
use super::rules::Rule;
use super::standing::Access;
use super::state::Ledger;
use super::want::{Station, portions, targets};

/// What should become of an account's permits in this beat.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Permits that this host should have.
    target: u32,
    /// Loans to be made: to whom, how many permits.
    loans: Vec<(usize, u32)>,
    /// Permits that others miss.
    missed: u32,
    /// Whether another host is about to want some.
    pub(super) is_wanted: bool,
    /// How much of the tenants is here that other hosts have too.
    pub(super) portions: Vec<TenantPortion>,
}

/// What a model checker has a host do, wise or not.
#[cfg(test)]
#[allow(dead_code, reason = "only the model checker asks for it")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Will {
    /// Nothing.
    Hold,
    /// Lend to a host so many permits, if they are free.
    Lend(usize, u32),
    /// Give back so many permits, if they are free.
    Give(u32),
}

/// Loans of one account to one host, at most.
const LOANS_TO_ONE: usize = 8;
/// A loan is at least the part (one in so many) of what is to be lent.
const LEAST_PART: u32 = 4;

/// Differences between what hosts want that come and go.
fn slack(total: u32) -> u32 {
    (total / 20).max(2)
}

impl Plan {
    /// The plan by which a host does that.
    #[cfg(test)]
    fn forced(entry: &Entry, will: Will) -> Self {
        let have = entry.own() + entry.listed();
        match will {
            Will::Hold => Self {
                target: have,
                ..Self::default()
            },
            Will::Lend(to, permits) => Self {
                target: have,
                loans: vec![(to, permits)],
                ..Self::default()
            },
            Will::Give(permits) => Self {
                target: have.saturating_sub(permits),
                missed: permits,
                ..Self::default()
            },
        }
    }

    /// Permits to be lent.
    pub(super) fn to_lend(&self) -> u32 {
        self.loans.iter().map(|(_, permits)| permits).sum()
    }

    /// Whether this host wants more than it has.
    pub(super) fn is_short(&self, entry: &Entry, now: Moment) -> bool {
        entry.usage.queued > 0 && self.target > entry.usable(now)
    }

    /// What others miss of the permits that remain when all is back that lenders want.
    pub(super) fn surplus(&self, entry: &Entry) -> u32 {
        let kept = entry.held.iter();
        let kept = kept.map(|held| held.permits - held.recalled.min(held.permits));
        let have = entry.own() + kept.sum::<u32>();
        have.saturating_sub(self.target).min(self.missed)
    }
}

impl Entry {
    /// What this host wants, by what it wanted of late.
    fn station(&mut self, now: Moment) -> Station {
        let now_wanted = self.demand();
        let demand = self.peak.note(now_wanted, now);
        let mut tenants = tenant_rows(&self.usage.tenants);
        for tenant in &mut tenants {
            let wanted = u64::from(tenant.demand) * u64::from(demand);
            tenant.demand = wanted.div_ceil(u64::from(now_wanted.max(1))) as u32;
        }
        Station { demand, tenants }
    }
}

impl Ledger {
    /// Loans that are over come back, in time or because kintone's count shows it.
    pub(super) fn take_back(&self, account: &Account, entry: &mut Entry, now: Moment) {
        entry.lent.retain(|loan| now < loan.back_at);
        entry.old = entry.old.filter(|old| now < old.back_at);
        if let Some(old) = &mut entry.old
            && self.is_answered_by_all()
        {
            old.permits = old.permits.min(self.listed_of_earlier(account));
        }
        let Some(foreign) = entry.usage.foreign else {
            return self.drop_empty(entry);
        };
        let unacked = self.terms.unacked + self.terms.unacked * self.terms.drift_percent / 100;
        let is_ended = |ends_by: Moment| {
            let is_after = ends_by.after(unacked) <= foreign.sent_at;
            is_after || !self.rules.hold(Rule::CountAfterEnd)
        };
        let mut left = foreign.calls;
        let ended = entry.lent.iter_mut();
        for loan in ended.filter(|loan| is_ended(loan.ends_by)) {
            if loan.permits > left {
                loan.permits = left;
                loan.life = Life::Dead;
            }
            left -= loan.permits;
        }
        if let Some(old) = entry.old.as_mut().filter(|old| is_ended(old.ends_by)) {
            old.permits = old.permits.min(left);
        }
        self.drop_empty(entry);
    }

    fn drop_empty(&self, entry: &mut Entry) {
        entry.lent.retain(|loan| loan.permits > 0);
        for loan in &mut entry.lent {
            loan.recalled = loan.recalled.min(loan.permits);
        }
        entry.old = entry.old.filter(|old| old.permits > 0);
    }

    /// Decides who should have what. Hosts of which nothing was heard of late keep their part.
    pub(super) fn plan(&self, account: &Account, entry: &mut Entry, now: Moment) -> Plan {
        #[cfg(test)]
        if let Some(will) = self.will {
            return Plan::forced(entry, will);
        }
        let mine = entry.station(now);
        let mut hosts = vec![self.me];
        let mut stations = vec![mine];
        let mut total = entry.total;
        let mut rows = vec![None];
        let mut is_wanted = false;
        for host in self.others() {
            let row = self.peers[host].fresh(now).filter(|row| {
                row.hosts == self.standing.hosts && row.members == self.standing.known
            });
            let Some(row) = row else {
                total -= self.standing.part_of(host, entry.total).min(total);
                continue;
            };
            let row = row.account(account);
            is_wanted |= row.is_some_and(AccountRow::is_wanting);
            hosts.push(host);
            stations.push(row.map_or_else(Station::default, |row| Station {
                demand: row.in_use.saturating_add(row.queued),
                tenants: row.tenants.clone(),
            }));
            rows.push(row);
        }
        let targets = targets(total, &stations);
        let mut plan = Plan {
            target: targets[0],
            is_wanted,
            // By what is wanted now on either side: what this host wanted of late is not in its row.
            portions: portions(&tenant_rows(&entry.usage.tenants), &stations[1..]),
            ..Plan::default()
        };
        let floor = self.floor(entry.part);
        let spare = self.spare(entry, plan.target.max(floor));
        let (mut spares, mut shorts) = (spare, Vec::new());
        for ((host, row), target) in hosts.iter().zip(&rows).zip(&targets).skip(1) {
            let part = self.standing.part_of(*host, entry.total);
            let usable = row.map_or(part, |row| row.usable) + self.on_the_way(entry, *host);
            let short = target.saturating_sub(usable);
            let is_lender = row.is_none_or(|row| row.held.is_empty());
            if short == 0 && is_lender {
                spares += usable.saturating_sub((*target).max(floor));
            }
            if short > 0 && row.is_some_and(AccountRow::is_wanting) {
                plan.missed += short;
                if self.can_borrow(entry, *host) {
                    shorts.push((*host, short));
                }
            }
        }
        if spare > 0 {
            let my_part = |short: u32| {
                let short = u64::from(short) * u64::from(spare);
                short.div_ceil(u64::from(spares)) as u32
            };
            let mut left = spare;
            for (host, short) in shorts {
                let permits = my_part(short).min(left);
                left -= permits;
                if permits > 0 {
                    plan.loans.push((host, permits));
                }
            }
        }
        plan
    }

    /// Permits that a lender keeps whatever others want, so that its next call need not wait.
    fn floor(&self, part: u32) -> u32 {
        let floor = match self.peers.len() {
            2 if part >= 8 => 3,
            _ => 1,
        };
        floor.min(part)
    }

    /// What this host could lend. One that has borrowed gives back first.
    fn spare(&self, entry: &Entry, keeps: u32) -> u32 {
        if !entry.held.is_empty() || self.standing.access != Access::Open || self.doubt.is_some() {
            return 0;
        }
        let spare = entry.own().saturating_sub(keeps);
        let is_worth = entry.usage.queued == 0 || spare > slack(entry.total);
        if is_worth { spare } else { 0 }
    }

    /// What was lent to a host and is not in its row yet.
    fn on_the_way(&self, entry: &Entry, host: usize) -> u32 {
        let seen = self.peers[host].row.as_ref();
        let seen = seen.and_then(|row| row.seen.get(self.me));
        let seen = seen.map_or(0, |seen| seen.beat);
        let lent = entry.lent.iter();
        let fresh = lent.filter(|loan| loan.to == host && loan.born > seen);
        fresh.map(|loan| loan.permits).sum()
    }

    /// Whether another host could take a loan, and has not too many.
    fn can_borrow(&self, entry: &Entry, host: usize) -> bool {
        let loans = entry.lent.iter().filter(|loan| loan.to == host).count();
        loans < LOANS_TO_ONE
            && self.standing.part_of(host, entry.total) >= self.terms.workers
            && self.has_answered(host)
    }

    /// Wants back what this host misses itself.
    pub(super) fn recall(&self, entry: &mut Entry, plan: &Plan) -> Urgency {
        let own = entry.own();
        let away = entry.lent.iter().map(|loan| loan.permits).sum::<u32>();
        let missing = plan.target.saturating_sub(own).min(away);
        let overdrawn = entry.away().saturating_sub(entry.part).min(away);
        let before: u32 = entry.lent.iter().map(|loan| loan.recalled).sum();
        let is_worth =
            missing > slack(entry.total) || own < entry.part / 2 && entry.usage.queued > 0;
        let mut wanted = overdrawn.max(if is_worth { missing } else { 0 });
        let is_more = wanted > before;
        for loan in &mut entry.lent {
            loan.recalled = wanted.min(loan.permits);
            wanted -= loan.recalled;
        }
        if is_more {
            Urgency::Nudge
        } else {
            Urgency::None
        }
    }

    /// Lends, as planned, what was free in the step that withheld it. The rest stays withheld until calls
    /// end, so that a busy host can lend too.
    pub(super) fn lend(
        &mut self,
        entry: &mut Entry,
        plan: &Plan,
        in_use: u32,
        now: Moment,
    ) -> Urgency {
        let mut urgency = Urgency::None;
        let mut free = match self.rules.hold(Rule::DeductFirst) {
            true => entry.own().saturating_sub(in_use),
            false => entry.own(),
        };
        for &(to, wanted) in &plan.loans {
            let permits = wanted.min(free);
            // Not one by one: each is a loan of its own for as long as it lasts.
            if permits == 0 || permits < wanted / LEAST_PART {
                continue;
            }
            let Some(stamp) = self.peers[to].row.as_ref().map(|row| row.stamp) else {
                continue;
            };
            let (loan, tail) = (self.terms.loan, self.tail());
            free -= permits;
            entry.withheld = entry.withheld.saturating_sub(permits);
            self.loans += 1;
            entry.lent.push(Lent {
                number: self.loans,
                to,
                to_incarnation: stamp.incarnation,
                permits,
                recalled: 0,
                as_of: stamp.beat,
                born: self.stamp.beat,
                ends_by: now.after(self.span(loan)),
                back_at: now.after(self.span(loan + tail)),
                life: Life::Living,
            });
            urgency = Urgency::Nudge;
        }
        urgency
    }

    /// How long after the end of a loan its permits stay away.
    pub(super) fn tail(&self) -> Duration {
        match self.rules.hold(Rule::KeepAway) {
            true => self.terms.tail(),
            false => Duration::ZERO,
        }
    }

    /// What is certainly so long on another host's clock.
    pub(super) fn span(&self, span: Duration) -> Duration {
        match self.rules.hold(Rule::Stretch) {
            true => self.terms.certainly(span),
            false => span,
        }
    }
}
