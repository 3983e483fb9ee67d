//! May this call go now?
//!
//! Per account there are permits (calls in flight at kintone), a rate, and a fair queue before both.
//! [`Quotas::admit`] is the one place where calls are let through. A [`Permit`] is held from before
//! the first byte to kintone until after the last byte of the answer, whatever happens in between.
//!
//! One plain lock per account covers permits, calls in flight and queue; steps under it take well
//! under a microsecond and never call out. An account is made when it is first used, and forgotten
//! when it was idle for ten minutes or when more than [`ACCOUNTS_MAX`] are remembered; idle, it takes
//! less than 1 KiB.

use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use tokio::time::sleep_until;

use crate::config::Config;
use crate::model::{Account, Denial, Priority, Table};

pub use ask::Ask;
pub use daily::{
    AppToday, ArchiveError, Budget, Charge, DayClock, DayRow, Days, FoundCounts, Payer, Times,
    Warning,
};
pub use in_use::Owes;
pub use permit::{Permit, Refused, YieldGuard};
pub use record::{Boot, BootError, Damage, Found, Opened, RecordError};
pub use snapshot::{AccountSnapshot, Balance, RefusedCounts, TenantSnapshot, TenantTotals};
pub use terms::Terms;

use account::{Cell, Deadline, Entrant};
use books::Left;
use clock::{Clock, Moment};
use pen::Pen;
use plan::Plans;
use queue::Place;
use record::Record;
use wakes::Wakes;

mod account;
mod ask;
mod books;
mod clock;
mod daily;
mod estimate;
mod forecast;
mod in_use;
mod pen;
mod permit;
mod plan;
mod pressure;
mod queue;
mod rate;
mod record;
mod room;
mod said;
mod snapshot;
mod tenant;
mod terms;
mod wakes;
mod yields;

/// The quotas of all accounts. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Shared>);

/// Accounts remembered at most, but for those in use.
pub const ACCOUNTS_MAX: usize = 100_000;

/// For so long calls of earlier processes are reckoned with: `settle` is never longer.
const PAST: Duration = Duration::from_secs(3600);
/// Whose the permits are of calls that an earlier process may have sent and nobody knows of.
const UNKNOWN_TENANT: &str = "before-restart";
/// How long an idle account is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How often idle accounts are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// The part of the accounts (one in so many) that is forgotten when there are too many.
const FORGOTTEN_PART: usize = 64;

#[derive(Debug)]
struct Shared {
    clock: Clock,
    wakes: Arc<Wakes<Weak<Cell>>>,
    record: Option<Record>,
    /// Calls sent before this moment may be at kintone although nobody knows of them.
    unknown: Option<Moment>,
    register: RwLock<Register>,
}

#[derive(Debug)]
struct Register {
    plans: Plans,
    cells: Table<Account, Arc<Cell>>,
    /// What forgotten accounts did.
    forgotten: Balance,
    numbers: u64,
}

impl Quotas {
    /// No account in use, under the limits of `config`, and what is in flight is written down
    /// nowhere.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self::with(config, Clock::new(), None, None)
    }

    /// Goes on from what earlier processes left: their calls that may still run at kintone settle.
    /// Where nobody knows what they left, every account has its whole limit settling.
    #[must_use]
    pub fn recorded(config: &Config, mut opened: Opened) -> Self {
        let clock = Clock::begun(PAST);
        let now = clock.moment();
        let unknown = opened.unknown.map(|age| now.before(age));
        let calls = std::mem::take(&mut opened.calls);
        let quotas = Self::with(config, clock, Some(opened.into_record()), unknown);
        for call in &calls {
            let left = Left {
                tenant: call.tenant.as_str(),
                priority: call.priority,
                permits: call.permits,
                aborted_at: now.before(call.age),
                line: Some(call.line),
            };
            quotas
                .cell(&call.account)
                .step(|books, now| books.inherit(left, now));
        }
        quotas
    }

    fn with(
        config: &Config,
        clock: Clock,
        record: Option<Record>,
        unknown: Option<Moment>,
    ) -> Self {
        Self(Arc::new(Shared {
            clock,
            wakes: Arc::new(Wakes::new()),
            record,
            unknown,
            register: RwLock::new(Register {
                plans: Plans::new(config),
                cells: Table::default(),
                forgotten: Balance::default(),
                numbers: 0,
            }),
        }))
    }

    /// Applies new limits. No permit and no waiting call is lost; a rate's state is kept unless its
    /// rate or burst changed.
    pub fn reload(&self, config: &Config) {
        let mut register = self.write();
        register.plans = Plans::new(config);
        let plans = &register.plans;
        let planned = register.cells.values();
        let planned: Vec<_> = planned
            .map(|cell| (Arc::clone(cell), Arc::clone(plans.of(&cell.account))))
            .collect();
        drop(register);
        for (cell, plan) in planned {
            cell.step(|books, _| books.replan(plan, cell.clock));
        }
    }

    /// Waits until the call may go, and gives it its permit. Dropped at any point, it leaves nothing
    /// behind.
    ///
    /// # Errors
    /// [`Denial::RateLimited`], [`Denial::QueueFull`] or [`Denial::WaitExceeded`]: at once where it is
    /// known that its turn cannot come within its wait, else when the wait is over.
    pub async fn admit(&self, ask: Ask<'_>) -> Result<Permit, Denial> {
        let now = self.0.clock.moment();
        let entrant = Entrant {
            tenant: Entrant::tenant_of(ask.tenant, ask.caller),
            caller: ask.caller,
            priority: ask.priority,
            permits: ask.weight,
            place: Place::Back,
            asked_at: now,
            deadline: Deadline::Of {
                caller: ask.caller_wait,
                call: ask.call_wait,
            },
        };
        permit::admit(self.cell(ask.account), entrant, now).await
    }

    /// The clockwork: tokens becoming due, aborted calls settling, allowances rising, tunnels asked to
    /// yield, idle accounts forgotten. Runs for ever, as one task; if it is late, those are late and
    /// nothing else is.
    pub async fn drive(&self) {
        let shared = &*self.0;
        let mut sweep_at = shared.clock.moment().after(SWEEP);
        loop {
            let next = shared
                .wakes
                .next()
                .map_or(sweep_at, |next| next.min(sweep_at));
            tokio::select! {
                () = sleep_until(shared.clock.instant(next)) => {}
                () = shared.wakes.sooner() => {}
            }
            let now = shared.clock.moment();
            while let Some(cell) = shared.wakes.pop(now) {
                if let Some(cell) = cell.upgrade() {
                    cell.tick();
                }
            }
            if now >= sweep_at {
                self.sweep(now);
                sweep_at = now.after(SWEEP);
            }
        }
    }

    /// How much longer calls wait that go to an account without a `settle` of its own, because nobody
    /// knows what an earlier process left at kintone; `None`: they do not.
    #[must_use]
    pub fn unknown_for(&self) -> Option<Duration> {
        let until = self.0.unknown?.after(self.read().plans.usual_settle());
        let left = until.since(self.0.clock.moment());
        (!left.is_zero()).then_some(left)
    }

    /// Brings to disk what is in flight, for a start after the end of the machine. Nothing may be
    /// sent any more. It blocks on the disk.
    ///
    /// # Errors
    /// What the kernel said; such a start then waits as it does after a power loss.
    pub fn close_record(&self) -> io::Result<()> {
        let Some(record) = &self.0.record else {
            return Ok(());
        };
        let settle = self.read().plans.longest_settle();
        let unknown = self.0.unknown.map(|unknown| unknown.after(settle));
        if unknown.is_some_and(|until| until <= self.0.clock.moment()) {
            record.know_all();
        }
        record.close()
    }

    /// Every account in use or remembered, in no order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<AccountSnapshot> {
        let cells: Vec<_> = self.read().cells.values().cloned().collect();
        cells.iter().map(|cell| AccountSnapshot::of(cell)).collect()
    }

    /// One account, if it is in use or remembered.
    #[must_use]
    pub fn snapshot_of(&self, account: &Account) -> Option<AccountSnapshot> {
        let cell = self.read().cells.get(account).map(Arc::clone);
        cell.map(|cell| AccountSnapshot::of(&cell))
    }

    /// Permits granted, given back and held, over all accounts: each account is read under its lock,
    /// so that the difference is zero at every instant.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let register = self.read();
        let mut balance = register.forgotten;
        for cell in register.cells.values() {
            balance.add(cell);
        }
        balance
    }

    fn cell(&self, account: &Account) -> Arc<Cell> {
        if let Some(cell) = self.read().cells.get(account) {
            return Arc::clone(cell);
        }
        let mut register = self.write();
        if let Some(cell) = register.cells.get(account) {
            return Arc::clone(cell);
        }
        if register.cells.len() >= ACCOUNTS_MAX {
            register.make_room(self.0.clock.moment());
        }
        register.numbers += 1;
        let plan = register.plans.of(account);
        let pen = Pen {
            account: account.clone(),
            record: self.0.record.clone(),
        };
        let (limit, settle) = (plan.quota.concurrency, plan.quota.settle);
        let cell = Arc::new(Cell::new(
            pen,
            register.numbers,
            Arc::clone(plan),
            self.0.clock,
            Arc::clone(&self.0.wakes),
        ));
        if let Some(aborted_at) = self.0.unknown {
            let is_over = aborted_at.after(settle) <= self.0.clock.moment();
            let left = Left {
                tenant: UNKNOWN_TENANT,
                priority: Priority::Interactive,
                permits: limit,
                aborted_at,
                line: None,
            };
            if !is_over {
                cell.step(|books, now| books.inherit(left, now));
            }
        }
        register.cells.insert(account.clone(), Arc::clone(&cell));
        cell
    }

    fn sweep(&self, now: Moment) {
        let register = self.read();
        let mut idle = Vec::new();
        for cell in register.cells.values() {
            match cell.idle(now) {
                Some(span) if span >= REMEMBERED => idle.push(cell.account.clone()),
                Some(span) if span >= SWEEP => cell.shrink_memory(),
                Some(_) | None => {}
            }
        }
        drop(register);
        if !idle.is_empty() {
            let mut register = self.write();
            for account in &idle {
                register.forget(account, now);
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Register> {
        self.0
            .register
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Register> {
        self.0
            .register
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Register {
    /// Forgets an account if nobody has it in hand: under the write lock none can be taken up.
    fn forget(&mut self, account: &Account, now: Moment) {
        let Some(cell) = self.cells.get(account) else {
            return;
        };
        if Arc::strong_count(cell) == 1 && cell.idle(now).is_some() {
            self.forgotten.add(cell);
            self.cells.remove(account);
        }
    }

    /// Forgets the accounts that were idle longest.
    fn make_room(&mut self, now: Moment) {
        let mut idle: Vec<_> = self
            .cells
            .values()
            .filter(|cell| Arc::strong_count(cell) == 1 && cell.idle(now).is_some())
            .map(|cell| (cell.books().used_at(), cell.account.clone()))
            .collect();
        let part = (self.cells.len() / FORGOTTEN_PART).min(idle.len());
        if part > 0 {
            idle.select_nth_unstable(part - 1);
            for (_, account) in &idle[..part] {
                self.forget(account, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::account::Waiter;
    use super::tenant::TenantBook;
    use super::*;
    use crate::model::Tenant;

    /// What an idle account with one tenant keeps on the heap, as its types add up: the cell, its entry
    /// in the register, its tenant and the tenant's entry, and the two names.
    #[test]
    fn an_idle_account_takes_less_than_a_kibibyte() {
        let counts = 2 * size_of::<usize>();
        let cell = counts + size_of::<Cell>();
        let entry = (size_of::<(Account, Arc<Cell>)>() + 1) * 2;
        let tenant = size_of::<TenantBook<Waiter>>();
        let tenant_entry = 4 * size_of::<(Tenant, u32)>() + 4 + 16;
        let names = 2 * (counts + 32);
        let sum = cell + entry + tenant + tenant_entry + names;
        assert!(sum <= 1024, "{sum}: cell {cell}, tenant {tenant}");
    }
}
