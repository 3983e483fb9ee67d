//! What the admin listener sees of the quota and the egress.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::acceptance;
use super::fleet_view;
use super::notices;
use super::source::VERSION;
use super::state::Running;
use super::verification;
use crate::admin::ports::PortCount;
use crate::admin::{Admin, Command, Readiness};
use crate::config::show::effective_json;
use crate::config::{AddressState, Config};
use crate::drain::Stage;
use crate::egress::{AddressSnapshot, Presence};
use crate::fleet::Fleet;
use crate::model::{Account, Published};
use crate::published::Alarm;
use crate::quota::{AccountSnapshot, CircuitState, TenantSnapshot};
use crate::telemetry::{
    AccountLoad, AccountView, AddressView, AppTodayView, Balance, Circuit, Presence as Shown,
    PublishedView, TenantView, WaitingView,
};

/// The admin listener's questions, each answered by the part that knows.
pub(super) fn admin(
    running: &Arc<Running>,
    commands: mpsc::Sender<Command>,
    ports: PortCount,
) -> Admin {
    let own_name = running.config.load().fleet.host.to_ascii_lowercase();
    Admin {
        telemetry: Arc::clone(&running.telemetry),
        accounts: ask(running, |running| {
            let config = running.config.load();
            let accounts = running.quotas.snapshot().into_iter();
            accounts
                .map(|snapshot| account(running, snapshot, &config))
                .collect()
        }),
        account: {
            let running = Arc::clone(running);
            Box::new(move |domain| {
                let of = Account::from_normal(domain);
                let config = running.config.load();
                let snapshot = match running.quotas.snapshot_of(&of) {
                    Some(snapshot) => snapshot,
                    None if is_known(&running, &of, &config) => {
                        running.quotas.snapshot_at_rest(&of)
                    }
                    None => return None,
                };
                Some(account(&running, snapshot, &config))
            })
        },
        quota: {
            let running = Arc::clone(running);
            Box::new(move |account| running.config.load().quota_of(account).clone())
        },
        apps_today: ask(running, apps_today),
        today: ask(running, |running| running.days.today()),
        days: {
            let days = running.days.clone();
            Box::new(move |domain, from, to| days.rows(&Account::from_normal(domain), from, to))
        },
        addresses: ask(running, |running| {
            running.egress.addresses().iter().map(address).collect()
        }),
        balance: ask(running, |running| {
            let balance = running.quotas.balance();
            Balance {
                acquired: balance.acquired,
                released: balance.released,
                held: balance.held,
            }
        }),
        published: ask(running, |running| {
            let shown = running.publisher.shown();
            let states = AddressState::ALL.map(|state| {
                let entries = shown.list.entries.iter();
                (
                    state.word(),
                    entries.filter(|entry| entry.state == state).count(),
                )
            });
            let standing = alarms(running);
            let alarms = Alarm::LABELS.map(|label| {
                let of = standing.iter().filter(|alarm| alarm.label() == label);
                (label, of.count())
            });
            PublishedView {
                states: states.to_vec(),
                alarms: alarms.to_vec(),
                acceptance: running.egress.acceptance().counts(),
            }
        }),
        evidence: {
            let running = Arc::clone(running);
            Arc::new(move |account, day| running.evidence(account, day))
        },
        address_report: {
            let running = Arc::clone(running);
            Box::new(move |address| acceptance::report(&running, Published(address)))
        },
        acceptance: {
            let running = Arc::clone(running);
            Box::new(move |account| acceptance::of_account(&running, account))
        },
        readiness: ask(running, readiness),
        draining: ask(running, is_draining),
        fleet: ask(running, fleet_view::fleet),
        mail: ask(running, notices::mail),
        held_mails: ask(running, notices::held),
        decide_mails: {
            let running = Arc::clone(running);
            Arc::new(move |cause, decision| notices::decide(&running, cause, decision))
        },
        order_fleet: {
            let running = Arc::clone(running);
            Box::new(move |order| fleet_view::order(&running, order))
        },
        config_json: ask(running, |running| effective_json(&running.config.load())),
        token: ask(running, |running| running.config.load().admin.token.clone()),
        own_names: vec![own_name],
        version: VERSION,
        commands,
        ports,
    }
}

fn ask<T>(
    running: &Arc<Running>,
    answer: impl Fn(&Running) -> T + Send + Sync + 'static,
) -> Box<dyn Fn() -> T + Send + Sync> {
    let running = Arc::clone(running);
    Box::new(move || answer(&running))
}

fn apps_today(running: &Running) -> Vec<AppTodayView> {
    let config = running.config.load();
    let apps = running.days.apps_today().into_iter();
    apps.map(|app| AppTodayView {
        daily_per_app: config.quota_of(&app.account).daily_per_app,
        account: app.account,
        app: app.app,
        requests: app.requests,
    })
    .collect()
}

fn is_draining(running: &Running) -> bool {
    running.drain.stage() != Stage::Serving
}

/// Calls should be sent here while an address is usable, no drain has begun, and permits are not all
/// kept for what an earlier process may have left at kintone.
fn readiness(running: &Running) -> Readiness {
    let mut reasons = Vec::new();
    if is_draining(running) {
        reasons.push("draining".to_owned());
    }
    if let Err(denial) = running.egress.choose() {
        let detail = denial
            .detail()
            .map_or("no_address", |detail| detail.label());
        reasons.push(format!("no usable address: {detail}"));
    }
    if let Some(left) = running.quotas.unknown_for() {
        let seconds = left.as_secs() + 1;
        reasons.push(format!(
            "calls wait {seconds} s more: the last process ended and nobody knows what it left at \
             kintone, until `settle` has passed"
        ));
    }
    let fleet = running.fleet.get();
    reasons.extend(fleet.and_then(Fleet::unready));
    let alarms = alarms(running);
    let mut warnings: Vec<String> = alarms.iter().map(ToString::to_string).collect();
    warnings.extend(verification::warnings(running));
    Readiness { reasons, warnings }
}

/// What operators must know of the list and of the evidence.
fn alarms(running: &Running) -> Vec<Alarm> {
    let mut alarms = running.publisher.shown().alarms.clone();
    let trouble = running.recorder.trouble();
    alarms.extend(trouble.map(|problem| Alarm::EvidenceUnwritable { problem }));
    alarms
}

/// Whether there is something to tell of an account that nobody calls on this host.
fn is_known(running: &Running, account: &Account, config: &Config) -> bool {
    config.accounts.contains_key(account) || running.egress.acceptance().of(account).is_some()
}

fn account(running: &Running, snapshot: AccountSnapshot, config: &Config) -> AccountView {
    let (circuit, circuit_retry) = circuit(snapshot.circuit);
    let closure = (circuit == Circuit::Unknown).then(|| running.quotas.closure(&snapshot.account));
    let load = AccountLoad {
        limit: snapshot.limit,
        allowed: snapshot.allowed,
        outside_load: snapshot.outside,
        inflight: snapshot.in_flight + snapshot.settling,
        settling: snapshot.settling,
        queued: snapshot.queued,
        oldest_wait: (snapshot.queued > 0).then_some(snapshot.oldest_wait),
        max_wait: config.quota_of(&snapshot.account).max_wait,
        kintone_running: snapshot.kintone_running,
        kintone_limit: snapshot.kintone_limit,
        circuit,
        circuit_retry,
        unknown_since: closure.flatten().map(|closure| closure.closed_at),
    };
    AccountView {
        account: snapshot.account,
        load,
        tenants: snapshot.tenants.into_iter().map(tenant).collect(),
        waiting: snapshot
            .waiting
            .into_iter()
            .map(|waiting| WaitingView {
                caller: waiting.caller,
                tenant: Some(waiting.tenant),
                priority: waiting.priority,
                queued: waiting.queued,
            })
            .collect(),
    }
}

const fn circuit(state: CircuitState) -> (Circuit, Option<Duration>) {
    match state {
        CircuitState::Closed => (Circuit::Closed, None),
        CircuitState::Suspect => (Circuit::Suspect, None),
        CircuitState::Open(left) => (Circuit::Open, Some(left)),
        CircuitState::Planned(left) => (Circuit::Planned, Some(left)),
        CircuitState::Probing => (Circuit::Probing, None),
        CircuitState::Rising(_) => (Circuit::Rising, None),
        CircuitState::Unknown => (Circuit::Unknown, None),
    }
}

fn tenant(snapshot: TenantSnapshot) -> TenantView {
    TenantView {
        tenant: snapshot.tenant,
        inflight: snapshot.in_flight,
        queued: snapshot.queued,
        requests_total: snapshot.totals.requests,
        permit_seconds_total: snapshot.totals.permit_seconds,
    }
}

fn address(snapshot: &AddressSnapshot) -> AddressView {
    AddressView {
        published: snapshot.published,
        bind: snapshot.bind,
        state: snapshot.state.word(),
        presence: match snapshot.presence {
            Presence::Up => Shown::Up,
            Presence::Absent => Shown::Absent,
        },
        since: Some(snapshot.since.elapsed()),
        verification: snapshot.verification.as_ref().map(verification::view),
        connections: snapshot.open as u64,
        pooled: snapshot.pooled as u64,
    }
}
