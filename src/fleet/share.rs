//! What the ledger and this host's quota tell each other.

use std::collections::BTreeMap;

use crate::model::Account;

use super::moment::Moment;

/// The permits of one account that this host may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Share {
    /// For ever, or until another share comes. Long calls (tunnels, files, cursors) take these only.
    pub own: u32,
    /// Beside them, for a time: usually none or one.
    pub loans: Vec<Loan>,
    /// The permits of the whole fleet that these are a part of. What outside load takes from the
    /// account, and its rate, are split in this proportion: of `n`, this host has
    /// `n * usable / total`.
    pub total: u32,
}

/// Permits that another host has lent to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Loan {
    /// How many calls may start on it.
    pub permits: u32,
    /// Until when calls may start on it: their first byte is written before.
    pub until: Moment,
}

/// What an account's calls on this host use and want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Usage {
    /// Permits in use: granted ones whose call was not sent yet and settling ones among them.
    pub in_use: u32,
    /// Permits that waiting calls want.
    pub queued: u32,
    /// Its tenants with calls in flight or waiting, the largest first; empty: it is taken for one.
    pub tenants: Vec<TenantUse>,
    /// What kintone last said of calls that are not this host's; `None`: nothing yet.
    pub foreign: Option<Foreign>,
}

/// What one tenant uses and wants on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct TenantUse {
    /// Who it is on every host: a hash of its name.
    pub id: u32,
    /// Its weight.
    pub weight: u32,
    /// Its permits in use and those that its waiting calls want.
    pub demand: u32,
}

/// How much of a tenant that calls by several hosts is on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct TenantPortion {
    /// Who it is, as in [`TenantUse`].
    pub id: u32,
    /// What it uses and wants on this host.
    pub here: u32,
    /// The same on all hosts together.
    pub everywhere: u32,
}

/// How many calls that are not this host's kintone had at most, by `X-ConcurrencyLimit-Running` less
/// the calls of this host that certainly ran then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Foreign {
    /// When the call was sent whose answer said so.
    pub sent_at: Moment,
    /// How many.
    pub calls: u32,
}

/// Which part of any account's permits this host may use where nothing was lent or borrowed: the
/// smallest of some splits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Part {
    pub(super) splits: Vec<Split>,
    pub(super) is_closed: bool,
}

/// One way to split permits among hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Split {
    /// How many hosts share them; at most [`super::row::HOSTS_MAX`].
    pub(super) hosts: u8,
    /// Which of them, in the order of their names, this one is.
    pub(super) index: u8,
    /// Those whose part the others have: bit n for the host of index n.
    pub(super) evicted: u64,
}

/// This host's quota, as the ledger sees it. Every method is one step under the account's lock.
pub trait Permits {
    /// Every account with calls in flight or waiting on this host.
    fn active(&mut self) -> BTreeMap<Account, Usage>;

    /// The permits of an account that are the fleet's by this host's configuration,
    /// `max(1, limit - headroom)`; `None`: no call may go there.
    fn total(&mut self, account: &Account) -> Option<u32>;

    /// Lets this host use that share from now on, and tells how many permits are in use in the same
    /// step: from then on calls start only while fewer are in use than the share allows. More may be
    /// in use, and those go on.
    fn set(&mut self, account: &Account, share: &Share) -> u32;

    /// Tells how much of its tenants is on this host, of those that are on others too; all others are
    /// here whole. It says who goes first, never how many: no safety hangs on it. It holds until
    /// something else is told, or the account is [`unset`](Self::unset).
    fn set_portions(&mut self, account: &Account, portions: &[TenantPortion]);

    /// The account has its part again, no share of its own, and its tenants are here whole.
    fn unset(&mut self, account: &Account);

    /// From now on, accounts without a share of their own have this part of their total.
    fn set_part(&mut self, part: &Part);
}

impl Share {
    /// Permits that may be in use when a call starts now.
    #[must_use]
    pub fn usable(&self, now: Moment) -> u32 {
        let loans = self.loans.iter().filter(|loan| now < loan.until);
        loans.fold(self.own, |sum, loan| sum.saturating_add(loan.permits))
    }
}

impl Part {
    /// The part of `total` permits.
    #[must_use]
    pub fn of(&self, total: u32) -> u32 {
        if self.is_closed {
            return 0;
        }
        let parts = self.splits.iter().map(|split| split.of(total));
        parts.min().unwrap_or(0)
    }
}

impl Split {
    /// The part of `total` permits: an equal one, the remainder to the first hosts; then those of
    /// evicted hosts, likewise among the others. So a host's part only grows when another is evicted.
    pub(super) fn of(self, total: u32) -> u32 {
        let hosts = u32::from(self.hosts.max(1));
        let is_evicted = |host: u32| self.evicted & (1 << host) != 0;
        let me = u32::from(self.index);
        if me >= hosts || is_evicted(me) {
            return 0;
        }
        let base = |host: u32| total / hosts + u32::from(host < total % hosts);
        let (mut pool, mut left, mut rank) = (0, 0, 0);
        for host in 0..hosts {
            if is_evicted(host) {
                pool += base(host);
            } else {
                left += 1;
                rank += u32::from(host < me);
            }
        }
        base(me) + pool / left + u32::from(rank < pool % left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(hosts: u8, index: u8, evicted: u64) -> Split {
        Split {
            hosts,
            index,
            evicted,
        }
    }

    #[test]
    fn the_parts_of_all_hosts_are_the_whole_and_only_grow_with_evictions() {
        for hosts in 1..=5u8 {
            for evicted in 0..(1u64 << hosts) - 1 {
                for total in [0, 1, 2, 5, 80, 98] {
                    let part = |index| split(hosts, index, evicted).of(total);
                    assert_eq!((0..hosts).map(part).sum::<u32>(), total);
                    for index in (0..hosts).filter(|index| evicted & (1 << index) == 0) {
                        assert!(part(index) >= split(hosts, index, 0).of(total));
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_is_the_smallest_of_its_splits_and_of_none_nothing() {
        let mut part = Part {
            splits: vec![split(2, 0, 0), split(3, 0, 0)],
            is_closed: false,
        };
        assert_eq!(part.of(98), 33);
        part.is_closed = true;
        assert_eq!(part.of(98), 0);
        assert_eq!(Part::default().of(98), 0);
    }

    #[test]
    fn a_loan_counts_until_its_end() {
        let at = |s| Moment::from_boot(std::time::Duration::from_secs(s));
        let share = Share {
            own: 3,
            loans: vec![Loan {
                permits: 4,
                until: at(5),
            }],
            total: 98,
        };
        assert_eq!((share.usable(at(4)), share.usable(at(5))), (7, 3));
    }
}
