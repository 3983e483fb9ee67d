//! May this call go now?
//!
//! Per account there are permits (calls in flight at kintone), a rate, and a fair queue before both.
//! [`Quotas::admit`] is the one place where calls are let through; before all that it asks the account's
//! `circuit` whether kintone serves it at all. A [`Permit`] is held from before the first byte to
//! kintone until after the last byte of the answer, whatever happens in between.
//!
//! One plain lock per account covers permits, calls in flight and queue; steps under it take well
//! under a microsecond and never call out. An account is made when it is first used, and forgotten
//! when it was idle for ten minutes or when more than [`ACCOUNTS_MAX`] are remembered; idle, it takes
//! less than 1 KiB.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use crate::config::Config;
use crate::model::{Account, Denial};

pub use ask::Ask;
pub use boottime::since_boot;
pub use closures::{Closure, ClosuresError};
pub use daily::{
    AppToday, ArchiveError, Budget, Charge, DayClock, DayRow, Days, FoundCounts, Payer, Silence,
    Times, ToldError, Warning, Word,
};
pub use grant::Owes;
pub use health::CircuitState;
pub use permit::{Permit, Refused, YieldGuard};
pub use portion::{Portion, TenantPortion};
pub use record::{Boot, BootError, Damage, Found, Opened, RecordError};
pub use share::{Loan, PartOf, Share, Term};
pub use shared::ACCOUNTS_MAX;
pub use sharing::{Cut, Fence, Foreign, TenantUsage, Usage};
pub use snapshot::{AccountSnapshot, Balance, RefusedCounts, TenantSnapshot, TenantTotals};
pub use terms::Terms;

use books::Left;
use clock::{Clock, Moment};
use entrant::{Deadline, Entrant};
use queue::Place;
use record::Record;
use register::Register;
use share::Standing;
use shared::{SWEEP, Shared};
use sync::RwLock;
use wakes::Wakes;

mod account;
mod ask;
mod books;
mod boottime;
mod circuit;
mod clock;
mod closures;
mod counts;
mod daily;
mod entrant;
mod estimate;
mod forecast;
mod gate;
mod grant;
mod health;
mod in_use;
mod pen;
mod permit;
mod plan;
mod portion;
mod pressure;
mod pulse;
mod queue;
mod rate;
mod record;
mod register;
mod room;
mod said;
mod share;
mod shared;
mod sharing;
mod snapshot;
mod sync;
mod tenant;
mod terms;
mod turned_away;
mod wakes;
mod yields;

/// The quotas of all accounts. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Shared>);

/// For so long calls of earlier processes are reckoned with: `settle` is never longer.
const PAST: Duration = Duration::from_secs(3600);
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
                .0
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
            closures: Arc::default(),
            register: RwLock::new(Register::new(config)),
        }))
    }

    /// Applies new limits. No permit and no waiting call is lost; a rate's state is kept unless its
    /// rate or burst changed.
    pub fn reload(&self, config: &Config) {
        let planned = self.0.write().replan(config);
        let today = Timestamp::now();
        for (cell, standing, plan) in planned {
            cell.replan(plan, standing);
            cell.look_at_windows(today);
        }
        for account in self.0.closures.confirmed_by(config) {
            self.confirm(&account);
        }
    }

    /// Closes the accounts again that an earlier process closed because kintone did not know them,
    /// but for those that `config` confirms.
    pub fn close_again(&self, closures: Vec<Closure>, config: &Config) {
        self.0.closures.take_over(closures);
        for closure in self.0.closures.all() {
            let account = Account::from_normal(&closure.account);
            self.0.cell(&account).step(|books, _| books.close_unknown());
        }
        for account in self.0.closures.confirmed_by(config) {
            self.confirm(&account);
        }
    }

    /// Lets calls go again to an account that was closed because kintone did not know it; whether it
    /// was.
    pub fn confirm(&self, account: &Account) -> bool {
        let was_closed = self.0.closures.confirm(account);
        if was_closed {
            self.0.cell(account).step(|books, now| books.confirm(now));
            tracing::info!(%account, "confirmed: calls go again");
        }
        was_closed
    }

    /// Why an account is closed, if it is because kintone does not know it.
    #[must_use]
    pub fn closure(&self, account: &Account) -> Option<Closure> {
        self.0.closures.of(account)
    }

    /// All accounts that are closed so.
    #[must_use]
    pub fn closures(&self) -> Vec<Closure> {
        self.0.closures.all()
    }

    /// Returns when those have changed since it last did: they are to be written down.
    pub async fn closures_changed(&self) {
        self.0.closures.changed().await;
    }

    /// Waits until the call may go, and gives it its permit. Dropped at any point, it leaves nothing
    /// behind.
    ///
    /// # Errors
    /// [`Denial::RateLimited`], [`Denial::QueueFull`] or [`Denial::WaitExceeded`]: at once where it is
    /// known that its turn cannot come within its wait, else when the wait is over. Before that
    /// [`Denial::AccountMaintenance`] and [`Denial::AccountUnknown`], also of a call that waits.
    pub async fn admit(&self, ask: Ask<'_>) -> Result<Permit, Denial> {
        let now = self.0.clock.moment();
        let entrant = Entrant {
            tenant: Entrant::tenant_of(ask.tenant, ask.caller),
            caller: ask.caller,
            mode: ask.mode,
            priority: ask.priority,
            permits: ask.weight,
            term: ask.term,
            place: Place::Back,
            asked_at: now,
            deadline: Deadline::Of {
                caller: ask.caller_wait,
                call: ask.call_wait,
            },
        };
        permit::admit(self.0.cell(ask.account), entrant, now).await
    }

    /// The clockwork: tokens becoming due, aborted calls settling, allowances rising, tunnels asked to
    /// yield, idle accounts forgotten. Runs for ever, as one task; if it is late, those are late and
    /// nothing else is.
    pub async fn drive(&self) {
        let shared = &*self.0;
        let mut sweep_at = shared.clock.moment().after(SWEEP);
        loop {
            let window_at = self.0.next_window();
            let beat_at = shared.clock.moment().after(pulse::BEAT);
            let next = [shared.wakes.next(), window_at, Some(beat_at)];
            let next = next.into_iter().flatten().fold(sweep_at, Moment::min);
            tokio::select! {
                () = sleep_until(shared.clock.instant(next)) => {}
                () = shared.wakes.sooner() => {}
            }
            let now = shared.clock.moment();
            shared.wakes.pulse.beat(now);
            while let Some(cell) = shared.wakes.pop(now) {
                if let Some(cell) = cell.upgrade() {
                    cell.tick();
                }
            }
            if window_at.is_some_and(|at| at <= now) {
                let today = Timestamp::now();
                self.0
                    .cells()
                    .iter()
                    .for_each(|cell| cell.look_at_windows(today));
            }
            if now >= sweep_at {
                self.0.sweep(now);
                sweep_at = now.after(SWEEP);
            }
        }
    }

    /// How much longer calls wait that go to an account without a `settle` of its own, because nobody
    /// knows what an earlier process left at kintone; `None`: they do not.
    #[must_use]
    pub fn unknown_for(&self) -> Option<Duration> {
        let until = self.0.unknown?.after(self.0.read().plans.usual_settle());
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
        let settle = self.0.read().plans.longest_settle();
        let unknown = self.0.unknown.map(|unknown| unknown.after(settle));
        if unknown.is_some_and(|until| until <= self.0.clock.moment()) {
            record.know_all();
        }
        record.close()
    }

    /// Leaves the state directory to the next gateway, though somebody still looks at these quotas.
    /// Nothing may be sent any more.
    ///
    /// # Errors
    /// What the kernel said; the directory is then free when the last of these quotas is gone.
    pub fn release_record(&self) -> io::Result<()> {
        let record = self.0.record.as_ref();
        record.map_or(Ok(()), |record| record.release())
    }

    /// Every account in use or remembered, in no order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<AccountSnapshot> {
        let cells = self.0.cells();
        cells.iter().map(|cell| AccountSnapshot::of(cell)).collect()
    }

    /// One account, if it is in use or remembered.
    #[must_use]
    pub fn snapshot_of(&self, account: &Account) -> Option<AccountSnapshot> {
        let cell = self.0.read().cells.get(account).map(Arc::clone);
        cell.map(|cell| AccountSnapshot::of(&cell))
    }

    /// One account as it would be found by a call, in use or not.
    #[must_use]
    pub fn snapshot_at_rest(&self, account: &Account) -> AccountSnapshot {
        let snapshot = self.snapshot_of(account);
        snapshot.unwrap_or_else(|| AccountSnapshot::of(&self.0.untouched(account)))
    }

    /// Permits granted, given back and held, over all accounts: each account is read under its lock,
    /// so that the difference is zero at every instant.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let register = self.0.read();
        let mut balance = register.forgotten;
        for cell in register.cells.values() {
            balance.add(cell);
        }
        balance
    }

    /// Every account with calls in flight or waiting, in no order.
    #[must_use]
    pub fn usages(&self) -> Vec<(Account, Usage)> {
        let register = self.0.read();
        register
            .cells
            .values()
            .filter_map(|cell| cell.usage())
            .collect()
    }

    /// Tells when calls begin to wait although another host may have permits for them.
    #[must_use]
    pub fn pressed(&self) -> Arc<Notify> {
        Arc::clone(&self.0.wakes.pressed)
    }

    /// The permits of an account that all hosts share by the configuration; `None`: no call may go
    /// there.
    #[must_use]
    pub fn total_of(&self, account: &Account) -> Option<u32> {
        self.0.read().plans.total_of(account)
    }

    /// Lets this host use that share of an account from now on; tells how many permits are in use, in
    /// one step: from then on calls start only while fewer are in use than the share allows.
    pub fn set_share(&self, account: &Account, share: Share) -> u32 {
        let claim = self.0.read().claim();
        let cell = self.0.cell(account);
        cell.stand(Standing::Share(Box::new(share), claim))
    }

    /// Of these tenants of an account a portion is on this host from now on, for as long as it has a
    /// share: they compete with that portion of their weight. All others are here whole.
    pub fn set_portions(&self, account: &Account, portions: &[TenantPortion]) {
        let cell = self.0.read().cells.get(account).map(Arc::clone);
        if let Some(cell) = cell {
            cell.step(|books, _| books.queue.apportion(portions));
        }
    }

    /// The account has its part again, no share of its own, and its tenants are here whole.
    pub fn unset_share(&self, account: &Account) {
        let standing = self.0.read().standing_of(account);
        let cell = self.0.read().cells.get(account).map(Arc::clone);
        cell.map(|cell| cell.stand(standing));
    }

    /// From now on, accounts without a share have this part of what is shared.
    pub fn set_part(&self, part: &PartOf) {
        let cells = self.0.write().set_part(part);
        cells.iter().for_each(|cell| cell.stand_by(part));
    }
}

#[cfg(test)]
mod tests {
    use super::account::{Cell, Waiter};
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
