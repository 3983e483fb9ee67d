//! A beat: what is in use comes in, shares and a row go out.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::moment::Moment;
use crate::fleet::row::{
    ACCOUNTS_MAX, AccountRow, HeldRow, LentRow, Row, Stamp, TENANTS_MAX, TenantRow,
};
use crate::fleet::share::{Part, Permits, TenantUse, Usage};
use crate::model::Account;

use super::entry::Entry;
use super::hear::BEATS_MAX;
use super::kept::Kept;
use super::rules::Rule;
use super::standing::Access;
use super::state::Ledger;
use super::want::REST;

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

/// Whether other hosts should look at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    #[default]
    None,
    Nudge,
}

impl Ledger {
    /// One beat. `now` is read after the rows came that were heard, and before the row goes out.
    pub fn beat(&mut self, now: Moment, permits: &mut impl Permits) -> Beat {
        self.stamp.beat += 1;
        self.beats.push_back(now);
        if self.beats.len() > BEATS_MAX {
            self.beats.pop_front();
        }
        self.settle_standing(now);
        let part = self.part_now();
        let is_told = part == self.part;
        if !is_told {
            permits.set_part(&part);
            self.part = part;
        }
        let mut active = permits.active();
        // What is in use was read after the part was told, if it was told in an earlier beat.
        let is_settled = is_told && self.is_within(&active, permits);
        let mut urgency = Urgency::default();
        for account in self.accounts_at_work(now, &active, permits) {
            let usage = active.get_mut(&account).map(std::mem::take);
            let usage = usage.unwrap_or_default();
            urgency = urgency.max(self.work(&account, usage, now, permits));
        }
        #[cfg(test)]
        {
            self.will = None;
        }
        let keep = self.keep();
        let is_superseded = self.standing.access == Access::Superseded;
        Beat {
            row: (!is_superseded).then(|| self.row(now, is_settled)),
            keep,
            nudge: urgency == Urgency::Nudge,
            pace: match self.accounts.is_empty() {
                true => Pace::Idle,
                false => Pace::Busy,
            },
        }
    }

    /// This host's part now; none while nobody knows what it has lent.
    pub(super) fn part_now(&self) -> Part {
        let mut part = self.standing.part();
        part.is_closed |= self.doubt.is_some();
        part
    }

    /// Whether no account uses more than its part, what is away and what is borrowed leave it.
    fn is_within(&self, active: &BTreeMap<Account, Usage>, permits: &mut impl Permits) -> bool {
        let away = self
            .accounts
            .values()
            .all(|entry| entry.away() <= entry.part);
        away && active.iter().all(|(account, usage)| {
            let most = match self.accounts.get(account) {
                Some(entry) => entry.own() + self.listed_of_members(entry),
                None => self.part.of(permits.total(account).unwrap_or(0)),
            };
            usage.in_use <= most
        })
    }

    /// Borrowed permits whose lender is not evicted.
    fn listed_of_members(&self, entry: &Entry) -> u32 {
        let held = entry.held.iter();
        let held = held.filter(|held| !self.standing.is_evicted(held.lender));
        held.map(|held| held.permits).sum()
    }

    /// Accounts of which more than the part is to be said: permits are away or borrowed, or wanted here
    /// or by others.
    fn accounts_at_work(
        &self,
        now: Moment,
        active: &BTreeMap<Account, Usage>,
        permits: &mut impl Permits,
    ) -> BTreeSet<Account> {
        let mut accounts: BTreeSet<Account> = self.accounts.keys().cloned().collect();
        if self.peers.len() == 1 {
            return accounts;
        }
        let mut part = |account: &Account| self.part.of(permits.total(account).unwrap_or(0));
        let pressed = active
            .iter()
            .filter(|(account, usage)| is_wanting(usage.queued, usage.in_use, part(account)));
        accounts.extend(pressed.map(|(account, _)| account.clone()));
        #[cfg(test)]
        if self.will.is_some() {
            accounts.extend(active.keys().cloned());
        }
        for row in self.peers.iter().filter_map(|peer| peer.fresh(now)) {
            let wanting = row.accounts.iter().filter(|row| row.is_wanting());
            accounts.extend(wanting.map(|row| row.account.clone()));
        }
        accounts
    }

    /// Brings one account up to date.
    fn work(
        &mut self,
        account: &Account,
        usage: Usage,
        now: Moment,
        permits: &mut impl Permits,
    ) -> Urgency {
        let mine = permits.total(account).unwrap_or(0);
        let total = self.total_of(account, mine);
        let mut entry = self.accounts.remove(account).unwrap_or_default();
        entry.mine = mine;
        entry.total = total;
        entry.part = self.part.of(total);
        entry.usage = usage;
        self.take_back(account, &mut entry, now);
        let plan = self.plan(account, &mut entry, now);
        let mut urgency = self.recall(&mut entry, &plan);
        self.borrow(&mut entry, &plan, now);
        entry.withheld = plan.to_lend();
        let is_old = entry.told.as_ref() != Some(&entry.share(now));
        if is_old || !entry.held.is_empty() || entry.withheld > 0 {
            let in_use = self.tell(account, &mut entry, now, permits);
            urgency = urgency.max(self.give_back(&mut entry, in_use, now));
            urgency = urgency.max(self.lend(&mut entry, &plan, in_use, now));
            if entry.told.as_ref() != Some(&entry.share(now)) {
                self.tell(account, &mut entry, now, permits);
            }
        }
        let is_short = plan.is_short(&entry, now);
        if is_short && !entry.is_short {
            urgency = Urgency::Nudge;
        }
        entry.is_short = is_short;
        let is_wanting = is_wanting(entry.usage.queued, entry.usage.in_use, entry.own());
        if entry.is_plain() && !is_wanting && !plan.is_wanted {
            permits.unset(account);
        } else {
            entry.apportion(account, &plan.portions, permits);
            self.accounts.insert(account.clone(), entry);
        }
        urgency
    }

    /// Tells the quota its share; tells what is in use.
    pub(super) fn tell(
        &self,
        account: &Account,
        entry: &mut Entry,
        now: Moment,
        permits: &mut impl Permits,
    ) -> u32 {
        let share = entry.share(now);
        let in_use = permits.set(account, &share);
        entry.told = Some(share);
        in_use
    }

    /// The permits that all hosts share: the smallest by any host that says something of late.
    fn total_of(&self, account: &Account, mine: u32) -> u32 {
        if !self.rules.hold(Rule::SmallestTotal) {
            return mine;
        }
        let rows = self
            .others()
            .filter_map(|host| self.peers[host].row.as_ref());
        let totals = rows.filter_map(|row| row.account(account));
        totals.fold(mine, |least, row| least.min(row.total))
    }

    /// What is to be on disk before the row goes out: lent permits that are not there yet, members.
    fn keep(&mut self) -> Option<Kept> {
        let kept = &self.kept;
        let lent = |account: &Account| {
            let at = kept.lent.binary_search_by(|(kept, _)| kept.cmp(account));
            at.map_or(0, |at| kept.lent[at].1)
        };
        let away = self.accounts.iter();
        let away: Vec<_> = away
            .filter(|(_, entry)| entry.away() > 0)
            .map(|(account, entry)| (account.clone(), entry.away()))
            .collect();
        let is_more = away.iter().any(|(account, away)| *away > lent(account));
        // Less is told when half of it is not true any more.
        let sum = |lent: &[(Account, u32)]| lent.iter().map(|(_, permits)| permits).sum::<u32>();
        let is_less = sum(&away) * 2 < sum(&kept.lent) || away.len() * 2 < kept.lent.len();
        let standing = &self.standing;
        let hosts = standing.earlier.as_ref().unwrap_or(&standing.hosts);
        let is_same = kept.incarnation == self.stamp.incarnation
            && kept.hosts == *hosts
            && kept.used == standing.used
            && kept.known == standing.known;
        if is_same && !is_more && !is_less {
            return None;
        }
        self.kept = Kept {
            incarnation: self.stamp.incarnation,
            hosts: hosts.clone(),
            used: standing.used.clone(),
            known: standing.known.clone(),
            lent: away,
        };
        Some(self.kept.clone())
    }

    fn row(&self, now: Moment, is_settled: bool) -> Row {
        let standing = &self.standing;
        let accounts = self.accounts.iter();
        let seen = self.peers.iter().map(|peer| {
            let row = peer.row.as_ref();
            let is_known = row.is_some_and(|row| row.hosts == standing.hosts);
            if is_known {
                peer.seen
            } else {
                Stamp::default()
            }
        });
        Row {
            host: standing.me.clone(),
            process: self.process,
            stamp: self.stamp,
            hosts: standing.hosts.clone(),
            members: standing.known.clone(),
            is_settled,
            seen: seen.collect(),
            accounts: self
                .mentioned(accounts.len())
                .map(|(account, entry)| account_row(account, entry, now))
                .collect(),
        }
    }

    /// The accounts of the row. Where there are too many, those go without in which nothing was lent
    /// or borrowed.
    fn mentioned(&self, count: usize) -> impl Iterator<Item = (&Account, &Entry)> {
        let plain = self.accounts.values().filter(|entry| entry.is_plain());
        let plain = plain.count();
        let mut room = ACCOUNTS_MAX.saturating_sub(count - plain);
        self.accounts.iter().filter(move |(_, entry)| {
            if !entry.is_plain() {
                return true;
            }
            let fits = room > 0;
            room = room.saturating_sub(1);
            fits
        })
    }
}

/// Whether a host wants more of an account than it has, or nearly.
const fn is_wanting(queued: u32, in_use: u32, usable: u32) -> bool {
    queued > 0 || in_use > 0 && in_use.saturating_mul(4) >= usable.saturating_mul(3)
}

impl AccountRow {
    /// Whether its host wants more than it has, or nearly.
    pub(super) const fn is_wanting(&self) -> bool {
        is_wanting(self.queued, self.in_use, self.usable)
    }
}

fn account_row(account: &Account, entry: &Entry, now: Moment) -> AccountRow {
    AccountRow {
        account: account.clone(),
        total: entry.mine,
        usable: entry.usable(now),
        in_use: entry.usage.in_use,
        queued: entry.usage.queued,
        tenants: tenant_rows(&entry.usage.tenants),
        lent: entry
            .lent
            .iter()
            .map(|loan| LentRow {
                number: loan.number,
                to: loan.to as u8,
                to_incarnation: loan.to_incarnation,
                permits: loan.permits,
                recalled: loan.recalled,
                as_of: loan.as_of,
            })
            .collect(),
        held: entry
            .held
            .iter()
            .map(|loan| HeldRow {
                lender: loan.lender as u8,
                incarnation: loan.incarnation,
                number: loan.number,
                permits: loan.permits,
            })
            .collect(),
    }
}

/// The tenants of a row: the last one is the sum of those that have no place of their own.
pub(super) fn tenant_rows(tenants: &[TenantUse]) -> Vec<TenantRow> {
    let row = |tenant: &TenantUse| TenantRow {
        id: tenant.id,
        weight: tenant.weight,
        demand: tenant.demand,
    };
    let (own, rest) = match tenants.len() > TENANTS_MAX {
        true => tenants.split_at(TENANTS_MAX - 1),
        false => (tenants, &[][..]),
    };
    let sum = rest.iter().map(row).reduce(|sum, tenant| TenantRow {
        id: REST,
        weight: sum.weight.saturating_add(tenant.weight),
        demand: sum.demand.saturating_add(tenant.demand),
    });
    own.iter().map(row).chain(sum).collect()
}
