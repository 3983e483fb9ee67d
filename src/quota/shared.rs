//! The accounts in use or remembered, and what they share.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;

use super::account::Cell;
use super::books::{Books, Left};
use super::clock::{Clock, Moment};
use super::closures::Closures;
use super::pen::Pen;
use super::record::Record;
use super::register::Register;
use super::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use super::wakes::Wakes;
use crate::model::{Account, Priority};

/// Accounts remembered at most, but for those in use.
pub const ACCOUNTS_MAX: usize = 100_000;

/// Whose the permits are of calls that an earlier process may have sent and nobody knows of.
const UNKNOWN_TENANT: &str = "before-restart";
/// How long an idle account is remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// How often idle accounts are looked for.
pub(super) const SWEEP: Duration = Duration::from_secs(60);

/// What all clones of the quotas share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) wakes: Arc<Wakes<Weak<Cell>>>,
    pub(super) record: Option<Record>,
    /// Calls sent before this moment may be at kintone although nobody knows of them.
    pub(super) unknown: Option<Moment>,
    pub(super) closures: Arc<Closures>,
    pub(super) register: RwLock<Register>,
}

impl Shared {
    pub(super) fn cells(&self) -> Vec<Arc<Cell>> {
        self.read().cells.values().cloned().collect()
    }

    /// When the next announced maintenance begins: those who wait then are told at once.
    pub(super) fn next_window(&self) -> Option<Moment> {
        let left = self.read().plans.next_window(Timestamp::now)?;
        Some(self.clock.moment().after(left))
    }

    pub(super) fn cell(&self, account: &Account) -> Arc<Cell> {
        if let Some(cell) = self.read().cells.get(account) {
            return Arc::clone(cell);
        }
        let mut register = self.write();
        if let Some(cell) = register.cells.get(account) {
            return Arc::clone(cell);
        }
        if register.cells.len() >= ACCOUNTS_MAX {
            register.make_room(self.clock.moment());
        }
        register.numbers += 1;
        let pen = Pen {
            record: self.record.clone(),
        };
        let cell = self.begin(&register, account, pen, &self.wakes);
        register.cells.insert(account.clone(), Arc::clone(&cell));
        cell
    }

    /// What [`Shared::cell`] would begin with. Nothing remembers it, and nothing is written down.
    pub(super) fn untouched(&self, account: &Account) -> Arc<Cell> {
        let pen = Pen { record: None };
        self.begin(&self.read(), account, pen, &Arc::new(Wakes::new()))
    }

    fn begin(
        &self,
        register: &Register,
        account: &Account,
        pen: Pen,
        wakes: &Arc<Wakes<Weak<Cell>>>,
    ) -> Arc<Cell> {
        let plan = register.plans.of(account);
        let (limit, settle) = (plan.quota.concurrency, plan.quota.settle);
        let standing = register.standing(plan.total());
        let cell = Arc::new(Cell::new(
            account.clone(),
            register.numbers,
            self.clock,
            Arc::clone(wakes),
            Arc::clone(&self.closures),
            Books::new(Arc::clone(plan), self.clock, pen, standing),
        ));
        if let Some(aborted_at) = self.unknown {
            let is_over = aborted_at.after(settle) <= self.clock.moment();
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
        cell
    }

    pub(super) fn sweep(&self, now: Moment) {
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

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Register> {
        self.register.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Register> {
        self.register
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
