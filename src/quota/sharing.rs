//! What hosts that share permits ask of the quota, and what the books do with it.
//!
//! The quota never asks: shares are set from outside, and from then on no call starts beyond them. A
//! loan ends by itself, by the clock that goes on while the machine is suspended. That is looked at
//! twice: when a permit is granted, and, for calls beyond the host's own permits, once more by a
//! [`Fence`] just before the first byte goes. In between, the process may have been stopped for any
//! time.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Account, Tenant};

use super::account::{Cell, Waiter};
use super::books::Books;
use super::boottime::since_boot;
use super::clock::Moment;
use super::in_use::Slot;
use super::plan::Plan;
use super::pressure::Sight;
use super::rate::{Rate, RateLimit};
use super::share::{PartOf, Standing, Term, Time};

/// Asks just before a call's first byte goes to kintone whether it still may.
pub type Fence = Box<dyn Fn() -> bool + Send + Sync>;

/// Ends a call that has outlived the loan on which it started, where it stands. It must take no lock
/// under which a [`Fence`] is asked.
pub type Cut = Box<dyn Fn() + Send + Sync>;

/// What an account has to do with other hosts beside its share.
#[derive(Debug, Default)]
pub(super) struct Dealings {
    /// When calls on loans that have ended are cut.
    cut_at: Option<Moment>,
    /// The calls on loans, and how each is cut, the youngest last.
    on_loan: Vec<OnLoan>,
    /// What kintone last said of calls that are not this host's.
    foreign: Option<Foreign>,
}

/// A call beyond the host's own permits.
pub(super) struct OnLoan {
    slot: Slot,
    cut: Cut,
}

/// What an account's calls on this host use and want.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Permits in use: granted ones whose call was not sent yet and settling ones among them.
    pub in_use: u32,
    /// Calls waiting.
    pub queued: u32,
    /// Its tenants with calls in flight or waiting, the largest demand first.
    pub tenants: Vec<TenantUsage>,
    /// What kintone last said of calls that are not this host's.
    pub foreign: Option<Foreign>,
}

/// What one tenant uses and wants on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantUsage {
    /// Which.
    pub tenant: Tenant,
    /// Its weight.
    pub weight: u32,
    /// Its permits in use and its waiting calls.
    pub demand: u32,
}

/// How many calls that are not this host's kintone had at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// The call whose answer said so was sent at this time since the boot, or later.
    pub sent_after: Duration,
    /// How many.
    pub calls: u32,
}

impl fmt::Debug for OnLoan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slot.fmt(f)
    }
}

impl Cell {
    /// What its calls use and want; `None`: nothing.
    pub(super) fn usage(&self) -> Option<(Account, Usage)> {
        let usage = self.books().usage()?;
        Some((self.account.clone(), usage))
    }

    /// It has its part of what is shared from now on, unless it has a share.
    pub(super) fn stand_by(self: &Arc<Self>, part: &PartOf) {
        self.step(|books, now| match &mut books.standing {
            Standing::Share(_, claim) => {
                *claim = part.claim();
                books.refresh(now);
            }
            Standing::Fixed | Standing::Part(..) => {
                let permits = part.of(books.plan.total());
                books.restand(Standing::Part(permits, part.claim()), now);
            }
        });
    }

    /// It is under another plan, and stands so unless it has a share.
    pub(super) fn replan(self: &Arc<Self>, plan: Arc<Plan>, standing: Standing) {
        self.step(|books, now| {
            books.replan(plan, self.clock);
            if !matches!(books.standing, Standing::Share(..)) {
                books.restand(standing, now);
            }
        });
    }

    /// It stands so from now on; tells how many permits are in use, in one step.
    pub(super) fn stand(self: &Arc<Self>, standing: Standing) -> u32 {
        self.step(|books, now| {
            books.restand(standing, now);
            books.in_use().total()
        })
    }

    /// Whether a call beyond the host's own permits may still go.
    pub(super) fn may_send(&self) -> bool {
        let books = self.books();
        let usable = books.standing.usable(since_boot());
        usable.is_none_or(|usable| books.in_use().total() <= usable)
    }
}

impl Books<Waiter> {
    /// What its calls use and want; `None`: nothing.
    fn usage(&self) -> Option<Usage> {
        let (in_use, queued) = (self.in_use().total(), self.queue.len());
        if in_use == 0 && queued == 0 {
            return None;
        }
        let mut tenants: Vec<_> = self
            .queue
            .entries()
            .filter(|(_, book)| !book.is_idle())
            .map(|(_, book)| TenantUsage {
                tenant: book.name.clone(),
                weight: book.weight.into(),
                demand: book.in_use + u32::try_from(book.queued()).unwrap_or(u32::MAX),
            })
            .collect();
        tenants.sort_unstable_by_key(|tenant| Reverse(tenant.demand));
        Some(Usage {
            in_use,
            queued,
            tenants,
            foreign: self.dealings.as_ref().and_then(|dealings| dealings.foreign),
        })
    }
}

impl<W> Books<W> {
    /// The most permits that a call of this term can have.
    pub(super) fn most(&self, term: Term) -> u32 {
        match term {
            Term::Short => self.allowance.all,
            Term::Long => self.allowance.own,
        }
    }

    /// The permits that are this host's when calls wait for them: none are forecast while they are away.
    pub(super) fn comes_back(&self) -> u32 {
        match &self.standing {
            Standing::Share(..) => self.plan.part_of(self.plan.total()),
            Standing::Fixed | Standing::Part(..) => 0,
        }
    }

    /// The host stands otherwise from now on.
    pub(super) fn restand(&mut self, standing: Standing, now: Moment) {
        self.in_use_mut().share();
        // What has lapsed is noticed before the loans are forgotten.
        self.keep_up(now);
        if !matches!(standing, Standing::Share(..)) {
            self.queue.apportion(&[]);
        }
        self.standing = standing;
        self.refresh(now);
        self.resize_rate(now);
    }

    /// Brings the allowance up to date, if `ours` of all permits are there.
    pub(super) fn stand(&mut self, ours: u32, now: Moment) {
        let total = self.plan.total();
        let mut time = Time {
            now,
            since_boot: Duration::ZERO,
        };
        if let Standing::Share(share, _) = &self.standing {
            time.since_boot = since_boot();
            let ends = share.loans.iter().map(|loan| loan.until);
            let lapsed = ends.filter(|until| *until <= time.since_boot).min();
            let usable = share.usable(time.since_boot);
            if let Some(lapsed) = lapsed
                && self.cut_at().is_none()
                && self.in_use().total() > usable
            {
                let ago = time.since_boot - lapsed;
                let cut_at = now.before(ago).after(self.plan.overrun);
                self.dealings().cut_at = Some(cut_at);
            }
        }
        let fixed = self.plan.part_of(ours);
        self.allowance = self.standing.allowance(fixed, ours, total, time);
    }

    /// Gives the rate the shape that its plan and the host's standing ask for. A limiter of the same
    /// shape stays as it is; one of another shape begins with the tokens that were left.
    pub(super) fn resize_rate(&mut self, now: Moment) {
        let limit = match &self.standing {
            Standing::Fixed => self.plan.rate,
            Standing::Part(..) | Standing::Share(..) => {
                let permits = self.standing.usable(since_boot());
                let quota = &self.plan.quota;
                let part = f64::from(permits.unwrap_or(0)) / f64::from(self.plan.total());
                RateLimit::part(quota.rate, quota.burst, part)
            }
        };
        if self.rate.as_ref().map(|rate| rate.limit()) != limit {
            self.rate = Rate::successor(limit, self.rate.take(), self.clock, now);
        }
    }

    /// Brings the allowance up to date.
    pub(super) fn refresh(&mut self, now: Moment) {
        let quota = &self.plan.quota;
        let limit = self.pressure.effective_limit(quota.concurrency);
        let sight = match (self.queue.len(), self.in_use.live()) {
            (1.., 0) => Sight::None,
            (_, _) => Sight::Clear,
        };
        self.pressure.settle(now, limit, sight);
        let ours = self.pressure.allowed(limit, quota.headroom);
        self.stand(ours, now);
    }

    /// Brings up to date what passes by itself: others' load, loans.
    pub(super) fn keep_up(&mut self, now: Moment) {
        let has_lapsed = self.allowance.lapses_at.is_some_and(|at| at <= now);
        if has_lapsed || self.pressure.is_passing() {
            self.refresh(now);
        }
    }

    /// Cuts calls that have outlived their loan for too long, the youngest first.
    pub(super) fn overrun(&mut self, now: Moment) {
        if self.cut_at().is_none_or(|at| now < at) {
            return;
        }
        self.dealings().cut_at = None;
        let usable = self.standing.usable(since_boot());
        let mut beyond = usable.map_or(0, |usable| self.in_use().total().saturating_sub(usable));
        beyond = beyond.saturating_sub(self.in_use().settling());
        while beyond > 0
            && let Some(youngest) = self.dealings().on_loan.pop()
        {
            let permits = self.in_use().grant(youngest.slot).permits;
            beyond = beyond.saturating_sub(permits);
            (youngest.cut)();
        }
    }

    /// Whether the call on this permit needs a fence: it is beyond what is this host's own.
    pub(super) fn is_on_loan(&self) -> bool {
        let own = self.standing.own();
        own.is_some_and(|own| self.in_use().total() > own)
    }

    /// How the call on this permit is cut.
    pub(super) fn cut_by(&mut self, slot: Slot, cut: Cut) {
        self.dealings().on_loan.push(OnLoan { slot, cut });
    }

    /// The call on this permit needs no cut any more.
    pub(super) fn uncut(&mut self, slot: Slot) {
        if let Some(dealings) = &mut self.dealings {
            dealings.on_loan.retain(|call| call.slot != slot);
        }
    }

    /// Permits of the other hosts, as far as is known here.
    pub(super) fn of_peers(&self) -> u32 {
        match &self.standing {
            Standing::Fixed => self.allowance.all * (self.plan.hosts - 1),
            Standing::Part(..) | Standing::Share(..) => {
                self.plan.total().saturating_sub(self.allowance.all)
            }
        }
    }

    /// For each permit of this host, so many of all hosts.
    pub(super) fn of_all(&self) -> f32 {
        match &self.standing {
            Standing::Fixed => self.plan.hosts as f32,
            Standing::Part(..) | Standing::Share(..) => {
                self.plan.total() as f32 / self.allowance.all.max(1) as f32
            }
        }
    }

    /// Notes what kintone said of calls that are not this host's.
    pub(super) fn heard_of_others(&mut self, slot: Slot, running: u32, ours: u32) {
        if matches!(self.standing, Standing::Fixed) {
            return;
        }
        let granted_at = self.in_use().grant(slot).granted_at;
        let sent_after = self.clock.since_boot(granted_at);
        self.dealings().foreign = Some(Foreign {
            sent_after,
            calls: running.saturating_sub(ours),
        });
    }

    /// When calls on loans that have ended are cut.
    pub(super) const fn cut_at(&self) -> Option<Moment> {
        match &self.dealings {
            Some(dealings) => dealings.cut_at,
            None => None,
        }
    }

    fn dealings(&mut self) -> &mut Dealings {
        self.dealings.get_or_insert_default()
    }
}
