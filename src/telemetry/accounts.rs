//! The series of accounts, and which accounts have any: those of the configuration first, then
//! those that kintone has answered for, up to `account_series`; all the others are `other`.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::account_series::{AccountLabel, AccountSeries, OTHER, RecentFailure};
use super::labels::Rejection;
use super::metrics::Metrics;
use super::record::Record;
use crate::model::{Account, Table};

/// Which accounts have series, and the series.
#[derive(Debug)]
pub struct AccountTable {
    state: RwLock<State>,
    other: AccountSeries,
}

#[derive(Debug, Default)]
struct State {
    series: Table<Account, AccountSeries>,
    /// Accounts that kintone answered for, in the order in which they came.
    learned: Vec<Account>,
    capacity: usize,
}

/// Where a call was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// In its account's series, or in `other` where nobody knows that the account exists.
    Own,
    /// In `other`, for want of room (`[limits] account_series`).
    Shared,
}

impl AccountTable {
    /// The table for these configured accounts and at most `capacity` accounts in all.
    pub fn new<'a>(configured: impl Iterator<Item = &'a Account>, capacity: usize) -> Self {
        let state = State {
            series: configured
                .take(capacity)
                .map(|account| (account.clone(), AccountSeries::new(account.as_str())))
                .collect(),
            learned: Vec::new(),
            capacity,
        };
        Self {
            state: RwLock::new(state),
            other: AccountSeries::new(OTHER),
        }
    }

    /// Takes a new configuration: configured accounts first, then the learned ones in the order in
    /// which they came. The counts of accounts that lose their place are added to `other`.
    pub fn reload<'a>(
        &self,
        metrics: &Metrics,
        configured: impl Iterator<Item = &'a Account>,
        capacity: usize,
    ) {
        let mut state = self.write();
        state.capacity = capacity;
        let mut kept: HashSet<Account> = configured.take(capacity).cloned().collect();
        for account in &state.learned {
            if kept.len() >= capacity {
                break;
            }
            kept.insert(account.clone());
        }
        state.learned.retain(|account| kept.contains(account));
        let State { series, .. } = &mut *state;
        let lost: Vec<Account> = series
            .keys()
            .filter(|account| !kept.contains(*account))
            .cloned()
            .collect();
        for account in lost {
            if let Some(gone) = series.remove(&account) {
                gone.merge_into(&self.other, metrics);
            }
        }
        for account in kept {
            series
                .entry(account)
                .or_insert_with_key(|account| AccountSeries::new(account.as_str()));
        }
    }

    /// The label of `account`.
    #[must_use]
    pub fn label(&self, account: &Account) -> AccountLabel {
        let state = self.read();
        let series = state.series.get(account).unwrap_or(&self.other);
        series.label().clone()
    }

    /// Counts a call that ended. [`Series::Shared`] where the account would have series of its own
    /// if there were room.
    pub fn count(
        &self,
        metrics: &Metrics,
        record: &Record,
        account: &Account,
        now: Timestamp,
    ) -> Series {
        let deserves = record.kintone_limit.is_some() || record.kintone_running.is_some();
        if deserves {
            self.learn(account);
        }
        // Under the lock, so that no count goes to a series that is being merged into `other`.
        let state = self.read();
        let own = state.series.get(account);
        own.unwrap_or(&self.other).count(metrics, record, now);
        match own {
            None if deserves => Series::Shared,
            Some(_) | None => Series::Own,
        }
    }

    /// Counts a refusal of kintone that was waited out.
    pub fn reject(&self, metrics: &Metrics, account: &Account, rejection: Rejection) {
        let state = self.read();
        let series = state.series.get(account).unwrap_or(&self.other);
        series.rejection(metrics, rejection).inc();
    }

    /// The last failures of `account`, the newest first; none for accounts in `other`.
    #[must_use]
    pub fn recent_failures(&self, account: &Account) -> Vec<RecentFailure> {
        let state = self.read();
        state
            .series
            .get(account)
            .map(AccountSeries::recent_failures)
            .unwrap_or_default()
    }

    /// Gives `account` series of its own if there is room.
    fn learn(&self, account: &Account) {
        {
            let state = self.read();
            if state.series.contains_key(account) || state.series.len() >= state.capacity {
                return;
            }
        }
        let mut state = self.write();
        if state.series.len() < state.capacity && !state.series.contains_key(account) {
            let series = AccountSeries::new(account.as_str());
            state.series.insert(account.clone(), series);
            state.learned.push(account.clone());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
