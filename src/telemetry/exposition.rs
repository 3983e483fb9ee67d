//! The gauges that are computed when somebody asks for `/metrics`, and the text they get.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{GaugeVec, IntCounterVec, Registry, TextEncoder};

use super::account_series::AccountLabel;
use super::accounts::AccountTable;
use super::apps_today;
use super::fleet;
use super::mail;
use super::metrics::Metrics;
use super::tenants::TenantShelf;
use super::views::{
    AccountLoad, AddressView, Balance, Circuit, MailView, Presence, PublishedView, SeenWord, Views,
};

/// What an echo can say of an address.
const ECHO_ANSWERS: [&str; 3] = ["published", "other", "none"];

/// What must be remembered from one exposition to the next.
#[derive(Debug, Default)]
pub struct Exposition {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    balance: Balance,
    dropped: u64,
    mail: MailView,
    tenants: TenantShelf,
}

impl Exposition {
    /// Sets the gauges from `views` and composes the text (Prometheus exposition format 0.0.4).
    pub fn text(
        &self,
        metrics: &Metrics,
        registry: &Registry,
        accounts: &AccountTable,
        views: &Views,
        dropped: u64,
    ) -> String {
        // One at a time: another scrape between the reset and the last gauge would see half.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        set_accounts(metrics, accounts, views);
        apps_today::set(metrics, accounts, &views.apps_today);
        set_closed(metrics, accounts, views);
        set_addresses(metrics, views);
        set_verified(metrics, &views.addresses);
        set_published(metrics, &views.published);
        set_permits(metrics, &state.balance, &views.balance);
        fleet::set_gauges(metrics, views.fleet.as_ref());
        set_alone(&metrics.draining, f64::from(u8::from(views.draining)));
        mail::set(metrics, &state.mail, &views.mail);
        state.mail = views.mail;
        state.balance = views.balance;
        raise(&metrics.access_log_dropped_total, state.dropped, dropped);
        state.dropped = dropped;
        state.tenants.show(metrics, &views.accounts, |account| {
            let label = accounts.label(account);
            (!label.is_other()).then_some(label)
        });
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap_or_else(|error| {
                tracing::error!(%error, "the metrics cannot be composed");
                String::new()
            })
    }
}

fn set_accounts(metrics: &Metrics, accounts: &AccountTable, views: &Views) {
    for gauge in [
        &metrics.account_inflight,
        &metrics.account_queued,
        &metrics.account_settling,
        &metrics.account_oldest_wait_seconds,
        &metrics.account_concurrency_limit,
        &metrics.account_permits_allowed,
        &metrics.account_outside_load,
        &metrics.account_max_wait_seconds,
        &metrics.kintone_running,
        &metrics.kintone_limit,
    ] {
        gauge.reset();
    }
    let mut other: Option<(AccountLabel, AccountLoad)> = None;
    for view in &views.accounts {
        let label = accounts.label(&view.account);
        if label.is_other() {
            let (_, sum) = other.get_or_insert_with(|| (label, AccountLoad::default()));
            sum.inflight += view.load.inflight;
            sum.queued += view.load.queued;
            sum.settling += view.load.settling;
            sum.oldest_wait = sum.oldest_wait.max(view.load.oldest_wait);
        } else {
            set_load(metrics, label.as_str(), &view.load);
            set_limits(metrics, label.as_str(), &view.load);
        }
    }
    // The limits of several accounts together mean nothing, so `other` has none.
    if let Some((label, load)) = other {
        set_load(metrics, label.as_str(), &load);
    }
}

fn set_closed(metrics: &Metrics, accounts: &AccountTable, views: &Views) {
    metrics.account_closed.reset();
    for view in &views.accounts {
        let reason = match view.load.circuit {
            Circuit::Open | Circuit::Probing => "maintenance",
            Circuit::Planned => "planned",
            Circuit::Unknown => "unknown",
            Circuit::Closed | Circuit::Suspect | Circuit::Rising => continue,
        };
        let label = accounts.label(&view.account);
        let closed = &metrics.account_closed;
        closed.with_label_values(&[label.as_str(), reason]).inc();
    }
}

fn set_load(metrics: &Metrics, label: &str, load: &AccountLoad) {
    let oldest = load.oldest_wait.unwrap_or_default();
    set(&metrics.account_inflight, label, f64::from(load.inflight));
    set(&metrics.account_queued, label, f64::from(load.queued));
    set(&metrics.account_settling, label, f64::from(load.settling));
    set(
        &metrics.account_oldest_wait_seconds,
        label,
        oldest.as_secs_f64(),
    );
}

fn set_limits(metrics: &Metrics, label: &str, load: &AccountLoad) {
    set(
        &metrics.account_concurrency_limit,
        label,
        f64::from(load.limit),
    );
    set(
        &metrics.account_permits_allowed,
        label,
        f64::from(load.allowed),
    );
    set(
        &metrics.account_outside_load,
        label,
        f64::from(load.outside_load),
    );
    set(
        &metrics.account_max_wait_seconds,
        label,
        load.max_wait.as_secs_f64(),
    );
    if let Some(running) = load.kintone_running {
        set(&metrics.kintone_running, label, f64::from(running));
    }
    if let Some(limit) = load.kintone_limit {
        set(&metrics.kintone_limit, label, f64::from(limit));
    }
}

fn set_addresses(metrics: &Metrics, views: &Views) {
    metrics.address_up.reset();
    metrics.address_connections.reset();
    metrics.local_ports_used.reset();
    // A published address may be bound more than once; it is up while one of them is.
    let mut by_address: HashMap<String, (Presence, u64)> = HashMap::new();
    for view in &views.addresses {
        let (presence, connections) = by_address
            .entry(view.published.to_string())
            .or_insert((Presence::Absent, 0));
        if view.presence == Presence::Up {
            *presence = Presence::Up;
        }
        *connections += view.connections;
    }
    for (address, (presence, connections)) in &by_address {
        let up = match presence {
            Presence::Up => 1.0,
            Presence::Absent => 0.0,
        };
        set(&metrics.address_up, address, up);
        set(&metrics.address_connections, address, *connections as f64);
    }
    for (address, ports) in &views.local_ports {
        set(
            &metrics.local_ports_used,
            &address.to_string(),
            f64::from(*ports),
        );
    }
    if let Some(limit) = views.local_ports_limit {
        set_alone(&metrics.local_ports_limit, f64::from(limit));
    }
}

fn set_verified(metrics: &Metrics, addresses: &[AddressView]) {
    metrics.address_verified.reset();
    metrics.address_verified_timestamp_seconds.reset();
    metrics.echo_answers.reset();
    for view in addresses {
        let Some(verification) = &view.verification else {
            continue;
        };
        let address = view.published.to_string();
        let is_verified = verification.seen == SeenWord::Published;
        set(
            &metrics.address_verified,
            &address,
            f64::from(u8::from(is_verified)),
        );
        if let Some(at) = verification.proven_at {
            let gauge = &metrics.address_verified_timestamp_seconds;
            set(gauge, &address, at.as_millisecond() as f64 / 1000.0);
        }
        for (at, echo) in verification.echoes.iter().enumerate() {
            let number = (at + 1).to_string();
            let said = match echo.saw {
                Some(saw) if saw == view.published.0 => "published",
                Some(_) => "other",
                None => "none",
            };
            for answer in ECHO_ANSWERS {
                let gauge = metrics
                    .echo_answers
                    .with_label_values(&[number.as_str(), answer]);
                gauge.add(f64::from(u8::from(answer == said)));
            }
        }
    }
}

fn set_published(metrics: &Metrics, published: &PublishedView) {
    for (state, count) in &published.states {
        set(&metrics.published_addresses, state, *count as f64);
    }
    for (alarm, count) in &published.alarms {
        set(&metrics.published_alarms, alarm, *count as f64);
    }
    for (address, state, count) in &published.acceptance {
        let address = address.to_string();
        let gauge = &metrics.acceptance_accounts;
        let gauge = gauge.with_label_values(&[address.as_str(), state]);
        gauge.set(*count as f64);
    }
}

fn set_permits(metrics: &Metrics, before: &Balance, now: &Balance) {
    raise(
        &metrics.permits_acquired_total,
        before.acquired,
        now.acquired,
    );
    raise(
        &metrics.permits_released_total,
        before.released,
        now.released,
    );
    set_alone(&metrics.permits_held, now.held as f64);
}

fn set(gauge: &GaugeVec, label: &str, value: f64) {
    gauge.with_label_values(&[label]).set(value);
}

/// Sets a gauge without labels.
fn set_alone(gauge: &GaugeVec, value: f64) {
    gauge.with_label_values::<&str>(&[]).set(value);
}

/// Raises a counter without labels by what came since `before`.
fn raise(counter: &IntCounterVec, before: u64, now: u64) {
    counter
        .with_label_values::<&str>(&[])
        .inc_by(now.saturating_sub(before));
}
