//! The accounts that are in use or remembered, and their plans.

use std::sync::Arc;

use crate::config::Config;
use crate::model::{Account, Table};

use super::account::Cell;
use super::clock::Moment;
use super::plan::{Plan, Plans};
use super::share::{Claim, PartOf, Standing};
use super::snapshot::Balance;

/// The accounts, behind one lock.
#[derive(Debug)]
pub(super) struct Register {
    pub(super) plans: Plans,
    /// This host's part of what is shared, once that is settled.
    pub(super) part: Option<PartOf>,
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
            part: None,
            cells: Table::default(),
            forgotten: Balance::default(),
            numbers: 0,
        }
    }

    /// Takes new limits; tells every account, how this host stands without a share, and its plan.
    pub(super) fn replan(&mut self, config: &Config) -> Vec<(Arc<Cell>, Standing, Arc<Plan>)> {
        self.plans = Plans::new(config);
        let cells = self.cells.values();
        cells
            .map(|cell| {
                let plan = self.plans.of(&cell.account);
                let standing = self.standing(plan.total());
                (Arc::clone(cell), standing, Arc::clone(plan))
            })
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

    /// From now on this is the part of accounts without a share; all accounts, to be told.
    pub(super) fn set_part(&mut self, part: &PartOf) -> Vec<Arc<Cell>> {
        self.part = Some(part.clone());
        self.cells.values().cloned().collect()
    }

    /// How this host stands for an account without a share.
    pub(super) fn standing_of(&self, account: &Account) -> Standing {
        self.standing(self.plans.of(account).total())
    }

    /// How this host stands for an account without a share, of which so many permits are shared.
    pub(super) fn standing(&self, total: u32) -> Standing {
        let part = self.part.as_ref();
        part.map_or(Standing::Fixed, |part| {
            Standing::Part(part.of(total), part.claim())
        })
    }

    /// What this host has at least of permits that hosts share.
    pub(super) fn claim(&self) -> Claim {
        self.part.as_ref().map_or(Claim::Never, PartOf::claim)
    }
}
