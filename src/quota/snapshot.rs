//! What an account looks like at one instant, for metrics and pages.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Account, CallerName, Priority, Tenant};

use super::account::Cell;
use super::health::CircuitState;

/// One account at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountSnapshot {
    /// Which.
    pub account: Account,
    /// kintone's limit as it counts: the smaller of the configured and the reported one.
    pub limit: u32,
    /// Permits that this host may use now.
    pub allowed: u32,
    /// Calls of others at kintone, estimated.
    pub outside: u32,
    /// Permits in use by calls that have an owner.
    pub in_flight: u32,
    /// Permits of aborted calls that kintone may still work on.
    pub settling: u32,
    /// Calls waiting.
    pub queued: u32,
    /// Interactive calls waiting.
    pub queued_interactive: u32,
    /// Batch calls waiting.
    pub queued_batch: u32,
    /// Calls waiting, by who made them.
    pub waiting: Vec<WaitingSnapshot>,
    /// How long the call that has waited longest has waited; zero if none waits.
    pub oldest_wait: Duration,
    /// `X-ConcurrencyLimit-Running` as last said.
    pub kintone_running: Option<u32>,
    /// `X-ConcurrencyLimit-Limit` as last said.
    pub kintone_limit: Option<u32>,
    /// Its tenants, by name.
    pub tenants: Vec<TenantSnapshot>,
    /// What forgotten tenants did, together.
    pub other_tenants: TenantTotals,
    /// Calls refused so far.
    pub refused: RefusedCounts,
    /// Whether kintone serves it.
    pub circuit: CircuitState,
}

/// One tenant of an account at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSnapshot {
    /// Which; a caller's name where calls name no tenant.
    pub tenant: Tenant,
    /// Its permits in use, settling ones among them.
    pub in_flight: u32,
    /// Its calls waiting.
    pub queued: u32,
    /// What it did so far.
    pub totals: TenantTotals,
}

/// Calls waiting, by who made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSnapshot {
    /// The caller.
    pub caller: CallerName,
    /// The tenant; the caller's name where calls name none.
    pub tenant: Tenant,
    /// How urgent they are.
    pub priority: Priority,
    /// How many they are.
    pub queued: u32,
}

/// What a tenant did since the account was first used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TenantTotals {
    /// Calls granted a permit.
    pub requests: u64,
    /// Permits times the time for which they were held, in seconds.
    pub permit_seconds: f64,
}

/// Calls refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusedCounts {
    /// The rate alone put their turn beyond their wait.
    pub rate_limited: u64,
    /// Too many waited.
    pub queue_full: u64,
    /// No permit within their wait.
    pub wait_exceeded: u64,
}

/// Permits since the start: `acquired - released - held` is zero at every instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Permits granted.
    pub acquired: u64,
    /// Permits given back.
    pub released: u64,
    /// Permits in use, settling ones among them.
    pub held: u64,
}

impl AccountSnapshot {
    /// Looks at an account under its lock.
    pub(super) fn of(cell: &Cell) -> Self {
        let now = cell.clock.moment();
        let mut books = cell.books();
        books.refresh(now);
        let circuit = books.circuit_state(now);
        let mut waiting = BTreeMap::new();
        let mut oldest_wait = Duration::ZERO;
        let mut tenants = Vec::new();
        for (id, tenant) in books.queue.entries() {
            let mut queued = 0;
            for (priority, waiter) in tenant.waiters() {
                queued += 1;
                oldest_wait = oldest_wait.max(now.since(waiter.asked_at));
                let who = (tenant.name.clone(), waiter.caller.clone(), priority);
                *waiting.entry(who).or_default() += 1;
            }
            let held =
                Duration::from_nanos(tenant.totals.held_ns) + books.in_use().held_by(id, now);
            tenants.push(TenantSnapshot {
                tenant: tenant.name.clone(),
                in_flight: tenant.in_use,
                queued,
                totals: TenantTotals {
                    requests: tenant.totals.requests,
                    permit_seconds: held.as_secs_f64(),
                },
            });
        }
        let forgotten = books.queue.forgotten;
        let counts = books.counts;
        Self {
            account: cell.account.clone(),
            limit: books.pressure.effective_limit(books.plan.quota.concurrency),
            allowed: books.allowed(),
            outside: books.pressure.outside(),
            in_flight: books.in_use().total() - books.in_use().settling(),
            settling: books.in_use().settling(),
            queued: books.queue.len(),
            queued_interactive: books.queue.len_of(Priority::Interactive),
            queued_batch: books.queue.len_of(Priority::Batch),
            waiting: waiting
                .into_iter()
                .map(|((tenant, caller, priority), queued)| WaitingSnapshot {
                    caller,
                    tenant,
                    priority,
                    queued,
                })
                .collect(),
            oldest_wait,
            kintone_running: books.pressure.running_said(),
            kintone_limit: books.pressure.limit_said(),
            tenants,
            other_tenants: TenantTotals {
                requests: forgotten.requests,
                permit_seconds: Duration::from_nanos(forgotten.held_ns).as_secs_f64(),
            },
            refused: RefusedCounts {
                rate_limited: counts.rate_limited,
                queue_full: counts.queue_full,
                wait_exceeded: counts.wait_exceeded,
            },
            circuit,
        }
    }
}

impl Balance {
    /// Adds an account, read under its lock.
    pub(super) fn add(&mut self, cell: &Cell) {
        let books = cell.books();
        self.acquired += books.counts.acquired;
        self.released += books.counts.released;
        self.held += u64::from(books.in_use().total());
    }
}
