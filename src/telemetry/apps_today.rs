//! Today's calls of an account's apps, as gauges.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::accounts::AccountTable;
use super::metrics::Metrics;
use super::views::AppTodayView;
use crate::model::Account;

/// Apps of an account that have a series, the largest.
const APPS_MAX: usize = 20;

/// Sets the gauges of the accounts that have series of their own.
pub fn set(metrics: &Metrics, accounts: &AccountTable, apps: &[AppTodayView]) {
    metrics.app_requests_today.reset();
    metrics.account_daily_per_app.reset();
    for (account, mut apps) in by_account(apps) {
        let label = accounts.label(account);
        if label.is_other() {
            continue;
        }
        apps.sort_unstable_by_key(|app| (Reverse(app.requests), app.app));
        for app in apps.iter().take(APPS_MAX) {
            metrics
                .app_requests_today
                .with_label_values(&[label.as_str(), &app.app.to_string()])
                .set(app.requests as f64);
        }
        if let Some(app) = apps.first() {
            metrics
                .account_daily_per_app
                .with_label_values(&[label.as_str()])
                .set(app.daily_per_app as f64);
        }
    }
}

fn by_account(apps: &[AppTodayView]) -> BTreeMap<&Account, Vec<&AppTodayView>> {
    let mut accounts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for app in apps {
        accounts.entry(&app.account).or_default().push(app);
    }
    accounts
}
