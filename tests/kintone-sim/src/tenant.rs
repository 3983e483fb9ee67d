//! An account: its knobs, its counter and its data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::admission::{Accounting, Admission, Step};
use crate::app::AppSettings;
use crate::ledger::{Book, Keep};
use crate::store::Store;

/// The knobs of an account. All but the data of apps can be turned while it runs ([`crate::Sim::update`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// kintone's limit of simultaneous requests.
    pub concurrency: u32,
    /// Places taken by others: users' customisations, other tools. May be more than the limit.
    pub foreign: u32,
    /// How long the work of a request takes, its place held.
    pub latency: Latency,
    /// Addresses that may reach the account; `None`: all.
    pub allow: Option<Vec<IpAddr>>,
    /// What other addresses are answered.
    pub denied: DeniedAnswer,
    /// Whether the account is being maintained.
    pub maintenance: Maintenance,
    /// Statuses of application errors.
    pub errors: ErrorStyle,
    /// Whether a place is needed to be told that the credentials are wrong.
    pub admission: AdmissionOrder,
    /// What becomes of the work of a client that has gone.
    pub client_left: WhenClientLeaves,
    /// Connections without a request for this long are closed, milliseconds; `None`: never. Read when a connection opens.
    pub keep_alive_idle_ms: Option<u64>,
    /// Up to this much later, milliseconds, drawn evenly for each connection.
    pub keep_alive_jitter_ms: u64,
    /// Users who may log in, name to password.
    pub users: BTreeMap<String, String>,
    /// Apps, with the records they begin with (later changes of those have no effect).
    pub apps: Vec<AppSettings>,
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            concurrency: 100,
            foreign: 0,
            latency: Latency::default(),
            allow: None,
            denied: DeniedAnswer::default(),
            maintenance: Maintenance::default(),
            errors: ErrorStyle::default(),
            admission: AdmissionOrder::default(),
            client_left: WhenClientLeaves::default(),
            keep_alive_idle_ms: None,
            keep_alive_jitter_ms: 0,
            users: BTreeMap::from([("demo".to_owned(), "demo".to_owned())]),
            apps: vec![AppSettings::demo()],
        }
    }
}

/// How long work takes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// For every request, milliseconds.
    pub base_ms: u64,
    /// Up to this much more, milliseconds, drawn evenly.
    pub jitter_ms: u64,
    /// Seed of the draw: the same seed and order of requests give the same latencies.
    pub seed: u64,
    /// Paths (as in [`crate::Fault::path`]) with another base, milliseconds; the first that fits counts.
    pub paths: Vec<(String, u64)>,
}

/// What an address that is not allowed gets. kintone's true answer is not documented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeniedAnswer {
    /// 403 with HTML.
    #[default]
    Html403,
    /// 401 with HTML and a Basic challenge.
    Html401,
    /// 401 with kintone's JSON (CB_AU01).
    Json401,
}

/// Whether an account is being maintained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maintenance {
    /// It works.
    #[default]
    Off,
    /// 503 with the text "Service Unavailable".
    Text503,
    /// 502 with the HTML of overload or maintenance.
    Html502,
}

/// Statuses of application errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorStyle {
    /// 400, 401, 403 and so on.
    #[default]
    Current,
    /// 520 for what had it until the update option of 2024.
    Legacy520,
}

/// Whether credentials are judged before or after a place is taken. kintone documents neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdmissionOrder {
    /// Every request needs a place.
    #[default]
    BeforeAuthentication,
    /// Requests with missing or wrong credentials need none.
    AfterAuthentication,
}

/// What becomes of the work when its client is gone. kintone documents neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenClientLeaves {
    /// It goes on and keeps its place until it is done. Clients may close their half of the connection.
    #[default]
    GoesOn,
    /// It stops at once, place given back. A client that closes its half has gone. Read when a connection opens.
    Stops,
}

/// An account as the simulator runs it.
pub(crate) struct Tenant {
    pub(crate) domain: String,
    state: Mutex<State>,
    store: Mutex<Store>,
}

struct State {
    settings: Arc<TenantSettings>,
    admission: Admission,
    draws: u64,
}

impl Tenant {
    pub(crate) fn new(domain: String, settings: TenantSettings, keep: Keep) -> Self {
        let store = Store::new(&settings.apps);
        let admission = new_admission(&settings, keep);
        Self {
            domain,
            state: Mutex::new(State {
                settings: Arc::new(settings),
                admission,
                draws: 0,
            }),
            store: Mutex::new(store),
        }
    }

    pub(crate) fn settings(&self) -> Arc<TenantSettings> {
        Arc::clone(&self.state().settings)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut TenantSettings)) {
        let mut state = self.state();
        let mut settings = TenantSettings::clone(&state.settings);
        change(&mut settings);
        state
            .admission
            .set(settings.concurrency, settings.foreign, Instant::now());
        self.store().adopt(&settings.apps);
        state.settings = Arc::new(settings);
    }

    pub(crate) fn accounting(&self) -> Accounting {
        let mut accounting = self.state().admission.accounting(Instant::now());
        accounting.requests_today = self.store().requests_today();
        accounting
    }

    /// The records of an app, oldest first; empty when there is no such app.
    pub(crate) fn records(&self, app: u64) -> Vec<serde_json::Value> {
        let mut store = self.store();
        let Ok(app) = store.app(app) else {
            return Vec::new();
        };
        let records = app.records.iter();
        records
            .map(|(id, record)| crate::api::records::shown(&app.settings, *id, record, None))
            .collect()
    }

    /// The content of a file, if it was kept.
    pub(crate) fn file(&self, key: &str) -> Option<bytes::Bytes> {
        self.store().file(key)?.content.clone()
    }

    /// Begins the figures anew, at what is in process.
    pub(crate) fn restart_accounting(&self) {
        self.state().admission.restart(Instant::now());
    }

    /// Takes a place: `Ok` with the number in process, or `Err` with what the refusal reports.
    pub(crate) fn enter(self: &Arc<Self>, book: &Book) -> Result<Slot, Reported> {
        let mut state = self.state();
        let limit = state.admission.limit();
        let stamp = book.stamp();
        match state.admission.enter(stamp) {
            Ok(running) => Ok(Slot {
                tenant: Arc::clone(self),
                entered: stamp.at,
                reported: Reported { limit, running },
            }),
            Err(running) => Err(Reported { limit, running }),
        }
    }

    /// What an answer made by kintone reports when it took no place itself.
    pub(crate) fn reported(&self) -> Reported {
        let state = self.state();
        Reported {
            limit: state.admission.limit(),
            running: state.admission.running(),
        }
    }

    /// How long the work of a request to this path takes.
    pub(crate) fn latency(&self, path: &str) -> Duration {
        let mut state = self.state();
        let latency = &state.settings.latency;
        let base = latency
            .paths
            .iter()
            .find(|(pattern, _)| crate::fault::path_fits(pattern, path))
            .map_or(latency.base_ms, |(_, base)| *base);
        if latency.jitter_ms == 0 {
            return Duration::from_millis(base);
        }
        let (seed, jitter_us) = (latency.seed, latency.jitter_ms * 1000);
        state.draws += 1;
        let draw = crate::draw::nth(seed, state.draws) % (jitter_us + 1);
        Duration::from_millis(base) + Duration::from_micros(draw)
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn new_admission(settings: &TenantSettings, keep: Keep) -> Admission {
    let steps: Option<Vec<Step>> = (keep == Keep::Executions).then(Vec::new);
    Admission::new(
        settings.concurrency,
        settings.foreign,
        Instant::now(),
        steps,
    )
}

/// What `X-ConcurrencyLimit-*` say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported {
    pub(crate) limit: u32,
    pub(crate) running: u32,
}

/// One place in an account, given back when dropped.
pub(crate) struct Slot {
    tenant: Arc<Tenant>,
    entered: Instant,
    pub(crate) reported: Reported,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.tenant
            .state()
            .admission
            .leave(self.entered, Instant::now());
    }
}
