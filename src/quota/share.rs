//! What of an account's permits this host may use, where hosts share them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;

/// The permits of one account that this host may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// Its own, until another share is set. Long calls take no others.
    pub own: u32,
    /// Borrowed ones besides.
    pub loans: Vec<Loan>,
}

/// Permits that another host has lent to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loan {
    /// How many.
    pub permits: u32,
    /// Until when calls may start on them, as the time since the machine booted (`CLOCK_BOOTTIME`,
    /// which goes on while the machine is suspended).
    pub until: Duration,
}

/// The part of any account's permits that this host has where nothing was lent or borrowed: a
/// function of all permits that are the fleet's.
#[derive(Clone)]
pub struct PartOf(Arc<dyn Fn(u32) -> u32 + Send + Sync>);

/// From how many permits on this host has one of them, however little its share of them comes to.
///
/// Shares are rounded down, or hosts would use more than there is. What that leaves over is at least
/// one permit wherever a share is not whole: it is the first host's, and no other can count on it. Of
/// two hosts, one at most comes to nothing of two permits or more, so then there is one for either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// From one: the first host.
    First,
    /// From two: the second of two.
    Second,
    /// Never: it has what its share comes to.
    Never,
}

/// How long a call may take, as far as that is known before it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// As long as usual.
    Short,
    /// Perhaps for long: a tunnel, a file, a cursor, a body that cannot be kept. On a loan it could
    /// still run when the permits are another host's again.
    Long,
}

/// How this host stands for one account.
#[derive(Debug)]
pub(super) enum Standing {
    /// Nothing is shared: it has its fixed part.
    Fixed,
    /// It has its part of what is shared.
    Part(u32, Claim),
    /// It has a share.
    Share(Box<Share>, Claim),
}

/// What a standing comes to at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Permits for any call.
    pub(super) all: u32,
    /// Those of them for long calls.
    pub(super) own: u32,
    /// When the first loan ends that is counted.
    pub(super) lapses_at: Option<Moment>,
}

impl Share {
    /// Permits that may be in use when a call starts now.
    pub(super) fn usable(&self, now: Duration) -> u32 {
        let loans = self.loans.iter().filter(|loan| now < loan.until);
        loans.fold(self.own, |sum, loan| sum.saturating_add(loan.permits))
    }
}

impl PartOf {
    /// That function. It is called under an account's lock.
    #[must_use]
    pub fn new(part: impl Fn(u32) -> u32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(part))
    }

    /// The part of `total` permits.
    #[must_use]
    pub fn of(&self, total: u32) -> u32 {
        (self.0)(total)
    }

    /// What a host with this part has at least.
    pub(super) fn claim(&self) -> Claim {
        match (self.of(1), self.of(4)) {
            (1.., _) => Claim::First,
            // More than two hosts leave none but the first a half of four.
            (0, 2..) => Claim::Second,
            (0, _) => Claim::Never,
        }
    }
}

impl Claim {
    /// The permits of `ours` that are this host's whatever its share of them comes to.
    pub(super) const fn least(self, ours: u32) -> u32 {
        match (self, ours) {
            (Self::First, 1..) | (Self::Second, 2..) => 1,
            (Self::First | Self::Second | Self::Never, _) => 0,
        }
    }
}

impl fmt::Debug for PartOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartOf")
    }
}

impl Standing {
    /// What it comes to, if of all `total` permits `ours` are there for now: less where kintone's
    /// limit is smaller or others use more of it than was left to them. `fixed` is the fixed part of
    /// `ours`.
    pub(super) fn allowance(&self, fixed: u32, ours: u32, total: u32, time: Time) -> Allowance {
        let scaled = |permits: u32, claim: Claim| {
            if permits == 0 || ours >= total {
                return permits;
            }
            let part = u64::from(permits) * u64::from(ours) / u64::from(total.max(1));
            u32::try_from(part)
                .unwrap_or(permits)
                .max(claim.least(ours))
        };
        let lasting = |all| Allowance {
            all,
            own: all,
            lapses_at: None,
        };
        match self {
            Self::Fixed => lasting(fixed),
            Self::Part(permits, claim) => lasting(scaled(*permits, *claim)),
            Self::Share(share, claim) => {
                let ends = share.loans.iter().map(|loan| loan.until);
                let end = ends.filter(|until| time.since_boot < *until).min();
                Allowance {
                    all: scaled(share.usable(time.since_boot), *claim),
                    own: scaled(share.own, *claim),
                    lapses_at: end.map(|until| time.now.after(until - time.since_boot)),
                }
            }
        }
    }

    /// Permits that may be in use when a call starts now, whatever others use; `None`: as many as
    /// the fixed part, which nobody can claim.
    pub(super) fn usable(&self, since_boot: Duration) -> Option<u32> {
        match self {
            Self::Fixed => None,
            Self::Part(permits, _) => Some(*permits),
            Self::Share(share, _) => Some(share.usable(since_boot)),
        }
    }

    /// Those of them that do not lapse.
    pub(super) fn own(&self) -> Option<u32> {
        match self {
            Self::Fixed => None,
            Self::Part(permits, _) => Some(*permits),
            Self::Share(share, _) => Some(share.own),
        }
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) now: Moment,
    /// Only looked at where there is a share.
    pub(super) since_boot: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn time(now_s: u64, since_boot_s: u64) -> Time {
        Time {
            now: Moment::ZERO.after(s(now_s)),
            since_boot: s(since_boot_s),
        }
    }

    #[test]
    fn a_loan_counts_until_its_end_on_the_clock_that_never_stops() {
        let loan = |permits, until_s| Loan {
            permits,
            until: s(until_s),
        };
        let share = Box::new(Share {
            own: 3,
            loans: vec![loan(40, 130), loan(7, 120)],
        });
        let standing = Standing::Share(share, Claim::First);
        let at = |now_s, boot_s| standing.allowance(0, 98, 98, time(now_s, boot_s));
        let lapses_at = Some(Moment::ZERO.after(s(15)));
        assert_eq!(
            at(5, 110),
            Allowance {
                all: 50,
                own: 3,
                lapses_at
            }
        );
        // Suspended for ten seconds, of which the other clock knows nothing.
        let lapses_at = Some(Moment::ZERO.after(s(15)));
        assert_eq!(
            at(5, 120),
            Allowance {
                all: 43,
                own: 3,
                lapses_at
            }
        );
        assert_eq!(
            at(5, 130),
            Allowance {
                all: 3,
                own: 3,
                lapses_at: None
            }
        );
        assert_eq!(standing.usable(s(119)), Some(50));
        assert_eq!(standing.own(), Some(3));
    }

    #[test]
    fn what_others_use_is_taken_from_all_hosts_in_proportion() {
        let part = Standing::Part(49, Claim::First);
        let of = |ours| part.allowance(0, ours, 98, time(0, 0)).all;
        assert_eq!((of(98), of(49), of(1)), (49, 24, 1));
        let none = Standing::Part(0, Claim::First);
        assert_eq!(none.allowance(0, 1, 98, time(0, 0)).all, 0);
        let fixed = Standing::Fixed.allowance(40, 80, 80, time(0, 0));
        assert_eq!((fixed.all, fixed.own), (40, 40));
        assert_eq!(Standing::Fixed.usable(s(0)), None);
    }

    /// The claims of so many hosts with equal parts.
    fn claims(hosts: u32) -> Vec<Claim> {
        let part = |host| PartOf::new(move |total| total / hosts + u32::from(host < total % hosts));
        (0..hosts).map(|host| part(host).claim()).collect()
    }

    /// Every way to share `total` permits among so many hosts.
    fn splits(total: u32, hosts: u32) -> Vec<Vec<u32>> {
        if hosts == 1 {
            return vec![vec![total]];
        }
        let with_first = |first| {
            let others = splits(total - first, hosts - 1).into_iter();
            others.map(move |others| [vec![first], others].concat())
        };
        (0..=total).flat_map(with_first).collect()
    }

    #[test]
    fn whatever_is_left_all_hosts_together_use_no_more() {
        for (hosts, total) in [(1, 98), (2, 98), (3, 14), (4, 9), (5, 8)] {
            let claims = claims(hosts);
            for split in splits(total, hosts) {
                for ours in 1..=total {
                    let has = |is_lent: bool| -> Vec<u32> {
                        let hosts = split.iter().zip(&claims);
                        let standings = hosts.map(|(permits, claim)| match is_lent {
                            false => Standing::Part(*permits, *claim),
                            true => {
                                let loan = Loan {
                                    permits: permits / 2,
                                    until: s(9),
                                };
                                let share = Share {
                                    own: permits - loan.permits,
                                    loans: vec![loan],
                                };
                                Standing::Share(Box::new(share), *claim)
                            }
                        });
                        let all = |standing: Standing| {
                            let now = standing.allowance(0, ours, total, time(0, 1));
                            assert!(now.own <= now.all);
                            now.all
                        };
                        standings.map(all).collect()
                    };
                    let used = has(false);
                    assert_eq!(used, has(true));
                    let sum = used.iter().sum::<u32>();
                    assert!(sum <= ours, "{used:?} of {ours}, shared as {split:?}");
                    assert!(sum > 0 || split[0] == 0, "none of {ours} for {split:?}");
                    let is_served = |(permits, used): (&u32, &u32)| *permits == 0 || *used > 0;
                    let all_served = split.iter().zip(&used).all(is_served);
                    assert!(
                        hosts > 2 || ours < hosts || all_served,
                        "{used:?} of {ours}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_host_has_the_first_claim_and_the_other_of_two_the_second() {
        assert_eq!(claims(1), [Claim::First]);
        assert_eq!(claims(2), [Claim::First, Claim::Second]);
        assert_eq!(claims(3), [Claim::First, Claim::Never, Claim::Never]);
        assert_eq!(PartOf::new(|_| 0).claim(), Claim::Never);
    }
}
