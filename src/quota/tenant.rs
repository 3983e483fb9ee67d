//! One tenant's part of an account: its permits, its waiting calls, its claims.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::TenantSettings;
use crate::model::{Priority, Tenant};

use super::clock::Moment;
use super::estimate::ServiceTime;
use super::portion::Portion;
use super::share::Term;

/// Which tenant of an account; valid while it has a permit or a waiting call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TenantId(pub(super) u32);

/// One tenant's part of an account.
#[derive(Debug)]
pub(super) struct TenantBook<W> {
    /// Its name.
    pub(super) name: Tenant,
    /// Its permits in use.
    pub(super) in_use: u32,
    /// How long its calls take.
    pub(super) service: ServiceTime,
    /// What it did so far.
    pub(super) totals: Totals,
    /// Its share when tenants compete.
    pub(super) weight: u16,
    /// How much of it is on this host.
    pub(super) portion: Portion,
    /// Its waiting calls by priority, in order.
    pub(super) waiting: [BTreeMap<i64, Waiting<W>>; 2],
    ceiling: Option<u32>,
    /// The finish tag of start-time fair queueing.
    finish: f64,
    /// When it last got a permit or gave one back.
    pub(super) used_at: Moment,
    /// The most permits it had in use since then, and in as long a time before.
    peaks: [u32; 2],
    peaks_since: Moment,
}

/// What a tenant did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Permits granted.
    pub(super) requests: u64,
    /// Permits times the time for which they were held, in nanoseconds.
    pub(super) held_ns: u64,
}

/// A waiting call.
#[derive(Debug)]
pub(super) struct Waiting<W> {
    /// Permits it wants.
    pub(super) permits: u32,
    /// How long it may take.
    pub(super) term: Term,
    /// Whatever its owner needs to answer it.
    pub(super) waiter: W,
}

/// Where a waiting call stands, to take it out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Its tenant.
    pub(super) tenant: TenantId,
    /// Its priority.
    pub(super) priority: Priority,
    /// Its place among them.
    pub(super) key: i64,
}

/// For how long a tenant that was here is expected back.
pub(super) const EXPECTED_BACK: Duration = Duration::from_secs(10);
impl<W> TenantBook<W> {
    /// A tenant that did nothing yet.
    pub(super) fn new(name: Tenant) -> Self {
        Self {
            name,
            in_use: 0,
            service: ServiceTime::default(),
            totals: Totals::default(),
            weight: 1,
            portion: Portion::WHOLE,
            ceiling: None,
            waiting: [BTreeMap::new(), BTreeMap::new()],
            finish: 0.0,
            used_at: Moment::default(),
            peaks: [0; 2],
            peaks_since: Moment::default(),
        }
    }

    /// Applies what the configuration says about it.
    pub(super) fn configure(&mut self, settings: &BTreeMap<Tenant, TenantSettings>) {
        let settings = settings.get(&self.name);
        let weight = settings.map_or(1, |settings| settings.weight.max(1));
        // No configuration has one that is larger.
        self.weight = u16::try_from(weight).unwrap_or(u16::MAX);
        self.ceiling = settings.and_then(|settings| settings.concurrency);
    }

    /// What it competes with on this host: its weight, as far as it is here.
    pub(super) fn claim(&self) -> u64 {
        self.portion.of_weight(self.weight)
    }

    /// Its waiting calls.
    pub(super) fn queued(&self) -> usize {
        self.waiting[0].len() + self.waiting[1].len()
    }

    /// Those who wait.
    pub(super) fn waiters(&self) -> impl Iterator<Item = (Priority, &W)> {
        Priority::ALL
            .into_iter()
            .zip(&self.waiting)
            .flat_map(|(priority, waiting)| {
                waiting
                    .values()
                    .map(move |waiting| (priority, &waiting.waiter))
            })
    }

    /// Places it will usually ask for when it comes back: its most of late doubled and one more, for
    /// calls do not come at an even pace.
    pub(super) fn usual(&self) -> u32 {
        self.peaks[0].max(self.peaks[1]) * 2 + 1
    }

    /// Catches up with the account's virtual time when it begins to wait.
    pub(super) fn catch_up(&mut self, virtual_time: f64) {
        self.finish = self.finish.max(virtual_time);
    }

    /// Counts permits granted; tells the account's new virtual time.
    pub(super) fn start(&mut self, permits: u32, virtual_time: f64, now: Moment) -> f64 {
        self.in_use += permits;
        self.totals.requests += 1;
        self.used_at = now;
        self.remember_peak(now);
        let tag = self.finish.max(virtual_time);
        let service_s = self.service.mean_s().unwrap_or(1.0);
        let weight = self.claim() as f64 / Portion::WHOLE.of_weight(1) as f64;
        self.finish = tag + f64::from(service_s) * f64::from(permits) / weight;
        tag
    }

    /// Counts permits given back that were held for `held`.
    pub(super) fn end(&mut self, permits: u32, held: Duration, now: Moment) {
        self.in_use -= permits;
        self.totals.held_ns += held.as_nanos() as u64 * u64::from(permits);
        self.used_at = now;
    }

    fn remember_peak(&mut self, now: Moment) {
        if now.since(self.peaks_since) > EXPECTED_BACK {
            self.peaks = [0, self.peaks[0]];
            self.peaks_since = now;
        }
        self.peaks[0] = self.peaks[0].max(self.in_use);
    }

    /// Whether it has nothing in use and nothing waiting.
    pub(super) fn is_idle(&self) -> bool {
        self.in_use == 0 && self.queued() == 0
    }

    /// Whether it may have so many permits more.
    pub(super) fn below_ceiling(&self, permits: u32) -> bool {
        self.in_use == 0
            || self
                .ceiling
                .is_none_or(|ceiling| self.in_use.saturating_add(permits) <= ceiling)
    }

    /// Whether it comes before another one: fewer permits in use for its claim, then the smaller tag.
    pub(super) fn goes_before(&self, other: &Self) -> bool {
        let mine = u64::from(self.in_use) * other.claim();
        let theirs = u64::from(other.in_use) * self.claim();
        mine.cmp(&theirs)
            .then(self.finish.total_cmp(&other.finish))
            .is_lt()
    }

    /// The youngest of its waiting calls, of the first of these priorities of which one waits.
    pub(super) fn youngest(&self, id: TenantId, order: &[Priority]) -> Option<Ticket> {
        order.iter().find_map(|&priority| {
            let (&key, _) = self.waiting[priority as usize].last_key_value()?;
            Some(Ticket {
                tenant: id,
                priority,
                key,
            })
        })
    }
}
