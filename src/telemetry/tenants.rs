//! Which tenants have series: where two or more share an account, the 16 largest; the rest of
//! them is `other`.
//!
//! The quota keeps the true totals. Here each total's growth since the last look is added to the
//! series that the tenant has at that moment, so that every counter only grows although tenants
//! gain and lose series.

use std::collections::HashMap;

use super::account_series::{AccountLabel, OTHER};
use super::metrics::Metrics;
use super::views::{AccountView, TenantView};
use crate::model::{Account, Tenant};

/// Tenants of one account with series of their own.
pub const TENANTS_SHOWN: usize = 16;

/// A tenant takes another's series when it has had this many times its calls, so that two of about
/// the same size do not take turns.
const CLEARLY_LARGER: u64 = 2;

/// What is known of the tenants of each account.
#[derive(Debug, Default)]
pub struct TenantShelf {
    accounts: HashMap<Account, Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    label: Option<AccountLabel>,
    /// Those with series.
    named: Vec<Tenant>,
    /// Totals at the last look: calls, permit seconds.
    seen: HashMap<Tenant, (u64, f64)>,
}

impl TenantShelf {
    /// Sets the tenants' series from what `accounts` say. `label_of` gives the label of an account
    /// that has series of its own.
    pub fn show(
        &mut self,
        metrics: &Metrics,
        accounts: &[AccountView],
        label_of: impl Fn(&Account) -> Option<AccountLabel>,
    ) {
        metrics.tenant_inflight.reset();
        metrics.tenant_queued.reset();
        let mut kept = HashMap::new();
        for view in accounts {
            let Some(label) = label_of(&view.account) else {
                continue;
            };
            let known = self.accounts.remove(&view.account);
            if known.is_none() && view.tenants.len() < 2 {
                continue;
            }
            let mut shelf = known.unwrap_or_default();
            shelf.label = Some(label);
            shelf.choose(metrics, &view.tenants);
            shelf.set(metrics, &view.tenants);
            kept.insert(view.account.clone(), shelf);
        }
        for gone in std::mem::replace(&mut self.accounts, kept).into_values() {
            for name in gone.named.iter().map(Tenant::as_str).chain([OTHER]) {
                gone.forget(metrics, name);
            }
        }
    }
}

impl Shelf {
    /// Decides which tenants have series.
    fn choose(&mut self, metrics: &Metrics, tenants: &[TenantView]) {
        let totals: HashMap<&Tenant, u64> = tenants
            .iter()
            .map(|view| (&view.tenant, view.requests_total))
            .collect();
        let (present, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.named)
            .into_iter()
            .partition(|tenant| totals.contains_key(tenant));
        self.named = present;
        let mut lost = gone;

        let mut rest: Vec<&TenantView> = tenants
            .iter()
            .filter(|view| !self.named.contains(&view.tenant))
            .collect();
        rest.sort_by(|a, b| (b.requests_total, &a.tenant).cmp(&(a.requests_total, &b.tenant)));
        for view in rest {
            if self.named.len() < TENANTS_SHOWN {
                self.named.push(view.tenant.clone());
                continue;
            }
            let total_of = |tenant: &Tenant| totals.get(tenant).copied().unwrap_or(0);
            let Some(smallest) = self.named.iter_mut().min_by_key(|tenant| total_of(tenant)) else {
                break;
            };
            if view.requests_total <= total_of(smallest).saturating_mul(CLEARLY_LARGER) {
                break;
            }
            lost.push(std::mem::replace(smallest, view.tenant.clone()));
        }
        for tenant in lost {
            self.forget(metrics, tenant.as_str());
        }
    }

    fn set(&mut self, metrics: &Metrics, tenants: &[TenantView]) {
        let mut seen = HashMap::with_capacity(tenants.len());
        for view in tenants {
            let name = if self.named.contains(&view.tenant) {
                view.tenant.as_str()
            } else {
                OTHER
            };
            let labels = [self.label(), name];
            let totals = (view.requests_total, view.permit_seconds_total);
            let (calls, seconds) = self.seen.get(&view.tenant).copied().unwrap_or_default();
            // A total that fell began anew.
            let new_calls = totals.0.checked_sub(calls).unwrap_or(totals.0);
            let new_seconds = if totals.1 >= seconds {
                totals.1 - seconds
            } else {
                totals.1
            };
            metrics
                .tenant_requests_total
                .with_label_values(&labels)
                .inc_by(new_calls);
            metrics
                .tenant_permit_seconds_total
                .with_label_values(&labels)
                .inc_by(new_seconds);
            metrics
                .tenant_inflight
                .with_label_values(&labels)
                .add(f64::from(view.inflight));
            metrics
                .tenant_queued
                .with_label_values(&labels)
                .add(f64::from(view.queued));
            seen.insert(view.tenant.clone(), totals);
        }
        self.seen = seen;
    }

    /// Takes the counters of a name out of the exposition; the gauges are made anew each time.
    fn forget(&self, metrics: &Metrics, name: &str) {
        let labels = [self.label(), name];
        // A series that never counted is not there to remove, which is as well.
        let _ = metrics.tenant_requests_total.remove_label_values(&labels);
        let _ = metrics
            .tenant_permit_seconds_total
            .remove_label_values(&labels);
    }

    fn label(&self) -> &str {
        self.label.as_ref().map_or(OTHER, AccountLabel::as_str)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::telemetry::views::AccountLoad;

    fn account_of(tenants: &[(&str, u64)]) -> AccountView {
        AccountView {
            account: Account::from_normal("acme.cybozu.com"),
            load: AccountLoad::default(),
            tenants: tenants
                .iter()
                .map(|(name, requests_total)| TenantView {
                    tenant: Tenant::parse(name).unwrap(),
                    inflight: 1,
                    queued: 0,
                    requests_total: *requests_total,
                    permit_seconds_total: *requests_total as f64 / 10.0,
                })
                .collect(),
            waiting: Vec::new(),
        }
    }

    fn show(shelf: &mut TenantShelf, metrics: &Metrics, tenants: &[(&str, u64)]) {
        let table = crate::telemetry::accounts::AccountTable::new([&acme()].into_iter(), 10);
        shelf.show(metrics, &[account_of(tenants)], |account| {
            Some(table.label(account))
        });
    }

    fn acme() -> Account {
        Account::from_normal("acme.cybozu.com")
    }

    fn calls(metrics: &Metrics, tenant: &str) -> u64 {
        metrics
            .tenant_requests_total
            .with_label_values(&["acme.cybozu.com", tenant])
            .get()
    }

    #[test]
    fn a_single_tenant_has_no_series() {
        let metrics = Metrics::new(&Registry::new());
        let mut shelf = TenantShelf::default();
        show(&mut shelf, &metrics, &[("only", 5)]);
        assert!(shelf.accounts.is_empty());
        show(&mut shelf, &metrics, &[("only", 7), ("second", 1)]);
        assert_eq!(calls(&metrics, "only"), 7);
        assert_eq!(calls(&metrics, "second"), 1);
    }

    #[test]
    fn the_largest_have_series_and_no_call_is_lost_or_counted_twice() {
        let metrics = Metrics::new(&Registry::new());
        let mut shelf = TenantShelf::default();
        let names: Vec<String> = (0..20).map(|number| format!("t{number:02}")).collect();
        let mut tenants: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 10)).collect();
        show(&mut shelf, &metrics, &tenants);
        assert_eq!(calls(&metrics, OTHER), 40);
        assert_eq!(calls(&metrics, "t00"), 10);

        // t19 becomes clearly larger: it takes a series, and its further calls are its own.
        tenants[19].1 = 21;
        show(&mut shelf, &metrics, &tenants);
        assert_eq!(calls(&metrics, "t19"), 11);
        assert_eq!(calls(&metrics, OTHER), 40);
        assert_eq!(shelf.accounts[&acme()].named.len(), TENANTS_SHOWN);

        // A total that begins anew is not taken for a fall.
        tenants[19].1 = 6;
        show(&mut shelf, &metrics, &tenants);
        assert_eq!(calls(&metrics, "t19"), 17);
    }
}
