//! What the books say of a call that cannot go at once: when it could, and whether that is in time.

use std::time::Duration;

use crate::model::{Priority, QuotaFigures};

use super::books::{Books, Want};
use super::clock::Moment;
use super::estimate::{Outlook, elapsed};
use super::grant::Kind;
use super::queue::Place;
use super::tenant::TenantId;

/// Which refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The rate alone puts its turn beyond its wait.
    Rate,
    /// Too many wait.
    Full,
    /// No permit within its wait.
    Wait,
}

/// When the next call of a tenant could go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forecast {
    /// For the rate.
    rate: Duration,
    /// For a permit, if anything is known.
    permit: Option<Duration>,
}

impl Forecast {
    /// Why a call with this wait cannot be served, if it is known that it cannot. Without any wait
    /// it cannot, whatever is known.
    pub(super) fn verdict(&self, wait: Duration) -> Option<Reason> {
        if self.rate > wait {
            return Some(Reason::Rate);
        }
        let known = self.permit.is_some_and(|permit| permit > wait);
        (known || wait.is_zero()).then_some(Reason::Wait)
    }
}

impl<W> Books<W> {
    /// When the next call like this one could go. It does not wait itself yet, or any more.
    pub(super) fn forecast(&self, want: Want, place: Place, now: Moment) -> Forecast {
        let room = self.room(now);
        // What is lent comes back when calls wait for it.
        let expected = room.allowed.max(self.comes_back());
        let places = match want.priority {
            Priority::Interactive => expected,
            Priority::Batch => expected.saturating_sub(room.reserve),
        };
        let at_ceiling = !self.queue.tenant(want.tenant).below_ceiling(want.permits);
        let ahead = match place {
            Place::Front => 0,
            Place::Back => self.queue.turns_before(want.tenant, want.priority, places),
        };
        let completions = if at_ceiling {
            ahead + 1
        } else {
            (self.in_use.total() + ahead + want.permits).saturating_sub(places)
        };
        let permit = if self.is_restrained() {
            // How many calls run now says nothing of how many will.
            None
        } else if completions == 0 {
            Some(Duration::ZERO)
        } else {
            let sooner = u64::from(completions) * u64::from(room.allowed.max(1));
            let completions = sooner.div_ceil(u64::from(expected.max(1)));
            let completions = u32::try_from(completions).unwrap_or(u32::MAX);
            self.completion(completions, at_ceiling.then_some(want.tenant), now)
        };
        let rate = self.rate.as_ref();
        Forecast {
            rate: rate.map_or(Duration::ZERO, |rate| rate.wait(ahead + 1, now)),
            permit,
        }
    }

    /// The figures for a refusal.
    pub(super) fn figures(&self, waited: Duration, forecast: &Forecast) -> QuotaFigures {
        QuotaFigures {
            waited,
            retry_after: forecast.permit.map(|permit| permit.max(forecast.rate)),
            running: self.in_use.total(),
            limit: self.allowed(),
            queued: self.queue.len(),
        }
    }

    fn completion(&self, nth: u32, only: Option<TenantId>, now: Moment) -> Option<Duration> {
        let is_all_settling = self.in_use.total() == self.in_use.settling();
        if only.is_none() && is_all_settling && !self.pressure.is_passing() {
            // No answer can prove that they are over, nor will more be allowed: time alone frees them.
            let free_at = self.in_use.settled_at(nth, self.plan.quota.settle)?;
            return Some(free_at.since(now));
        }
        let mut outlook = Outlook::default();
        for (grant, kind) in self.in_use.running() {
            if kind != Kind::Call || only.is_some_and(|tenant| tenant != grant.tenant) {
                continue;
            }
            let tenant = self.queue.tenant(grant.tenant);
            let service_s = tenant.service.mean_s().or_else(|| self.service.mean_s())?;
            let elapsed = elapsed(grant.granted_at, self.awake_since, now, service_s);
            outlook.running(elapsed, service_s);
        }
        outlook.completion(nth)
    }
}
