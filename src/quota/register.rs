//! The accounts that are in use or remembered, and their plans.

use std::sync::Arc;

use crate::config::Config;
use crate::model::{Account, Table};

use super::account::Cell;
use super::clock::Moment;
use super::plan::{Plan, Plans};
use super::snapshot::Balance;

/// The accounts, behind one lock.
#[derive(Debug)]
pub(super) struct Register {
    pub(super) plans: Plans,
    pub(super) cells: Table<Account, Arc<Cell>>,
    /// What forgotten accounts did.
    pub(super) forgotten: Balance,
    pub(super) numbers: u64,
}

/// The part of the accounts (one in so many) that is forgotten when there are too many.
const FORGOTTEN_PART: usize = 64;

impl Register {
    /// No account, under the limits of `config`.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            plans: Plans::new(config),
            cells: Table::default(),
            forgotten: Balance::default(),
            numbers: 0,
        }
    }

    /// Takes new limits; tells every account and its plan.
    pub(super) fn replan(&mut self, config: &Config) -> Vec<(Arc<Cell>, Arc<Plan>)> {
        self.plans = Plans::new(config);
        let cells = self.cells.values();
        cells
            .map(|cell| (Arc::clone(cell), Arc::clone(self.plans.of(&cell.account))))
            .collect()
    }

    /// Forgets an account if nobody has it in hand: under the write lock none can be taken up.
    pub(super) fn forget(&mut self, account: &Account, now: Moment) {
        let Some(cell) = self.cells.get(account) else {
            return;
        };
        if Arc::strong_count(cell) == 1 && cell.idle(now).is_some() {
            self.forgotten.add(cell);
            self.cells.remove(account);
        }
    }

    /// Forgets the accounts that were idle longest.
    pub(super) fn make_room(&mut self, now: Moment) {
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
