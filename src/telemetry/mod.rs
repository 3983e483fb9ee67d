//! What operators see: metrics, one log line a call, the program's own log.
//!
//! The proxy fills a [`Record`] as a call goes along and hands it to [`Telemetry::end`] once,
//! whatever the end; log line and counts come from there and from nowhere else, so they cannot
//! disagree. Labels come from closed sets, series are bounded, and nothing here calls back.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Histogram, IntCounter, Registry};

use crate::config::Config;
use crate::model::{Account, CallerName, Code, Detail, Outcome, Priority, Published};
use accounts::{AccountTable, Series};
use callers::{CallerTable, MODES, mode_label, mode_of, mode_place};
use exposition::Exposition;
use metrics::Metrics;

pub use access_log::{AccessLogError, AccessLogHandle, Flushed};
pub use account_series::{AccountLabel, RecentFailure};
pub use fleet::{
    FleetAccountView, FleetPeerView, FleetPermits, FleetSideView, FleetStoreView, FleetView,
    PEER_UP_BEATS,
};
pub use labels::{
    Alpn, ConnectResult, HandedResult, Handshake, LimitName, ProbeResult, Rejection, Retry,
};
pub use live::{Live, LiveCall, LiveFilter, LiveSnapshot, Phase, UnderWay, Who};
pub use open::{OpenInspection, TunnelGauge};
pub use record::Record;
pub use views::{
    AccountLoad, AccountView, AddressView, AppTodayView, Balance, Circuit, EchoView, MailView,
    Presence, PublishedView, SeenWord, TenantView, VerificationView, Views, WaitingView,
    WebhookView,
};

pub mod access_log;
pub mod account_series;
pub mod accounts;
pub mod apps_today;
pub mod callers;
pub mod exposition;
pub mod fleet;
pub mod labels;
pub mod line;
pub mod live;
pub mod logging;
pub mod mail;
pub mod metrics;
mod open;
pub mod record;
pub mod sink;
pub mod tenants;
pub mod views;

/// Everything that is counted and written.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    registry: Registry,
    callers: CallerTable,
    accounts: AccountTable,
    handles: Handles,
    log: AccessLogHandle,
    /// This host's name as a JSON string.
    host: String,
    live: Live,
    exposition: Exposition,
}

/// The series that every call may touch, resolved ahead.
#[derive(Debug)]
struct Handles {
    request_seconds: [Histogram; MODES],
    upstream_seconds: [Histogram; MODES],
    overhead_seconds: [Histogram; MODES],
    queue_wait_seconds: [Histogram; Priority::ALL.len()],
    authentication_failures: Box<[OnceLock<IntCounter>]>,
    retries: Box<[IntCounter]>,
    limit_hits: Box<[IntCounter]>,
    to_kintone: IntCounter,
    from_kintone: IntCounter,
}

impl Telemetry {
    /// Makes every metric, and writes the log's lines to `log`.
    #[must_use]
    pub fn new(config: &Config, log: AccessLogHandle, version: &'static str) -> Arc<Self> {
        let registry = Registry::new();
        // On a system without /proc the process's own figures are missing, nothing else.
        let _ = registry.register(Box::new(ProcessCollector::for_self()));
        let metrics = Metrics::new(&registry);
        metrics.build_info.with_label_values(&[version]).set(1.0);
        let telemetry = Self {
            callers: CallerTable::new(&config.callers),
            accounts: AccountTable::new(config.accounts.keys(), config.limits.account_series),
            handles: Handles::new(&metrics),
            live: Live::new(config.limits.connections),
            host: line::json_string(&config.fleet.host),
            exposition: Exposition::default(),
            metrics,
            registry,
            log,
        };
        telemetry.show_config(config);
        Arc::new(telemetry)
    }

    /// Counts and logs a call that ended. To be called once a call, whatever its end.
    ///
    /// `requests_total{caller}` is `unknown` for a call refused with 407 and for one that has no
    /// caller yet; an anonymous caller's name is `anonymous`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the record ends here: nobody can count it twice"
    )]
    pub fn end(&self, record: Record) {
        let now = Timestamp::now();
        self.callers.count(&self.metrics, &record);
        if let Some(account) = &record.account {
            let series = self.accounts.count(&self.metrics, &record, account, now);
            if series == Series::Shared {
                self.limit_hit(LimitName::AccountSeries);
            }
        }
        self.observe(&record);
        if record.outcome == Outcome::Refused(Code::AuthenticationRequired) {
            let reason = record.detail.unwrap_or(Detail::NoCredentials);
            self.handles.authentication_failures[reason as usize]
                .get_or_init(|| {
                    self.metrics
                        .authentication_failures_total
                        .with_label_values(&[reason.label()])
                })
                .inc();
        }
        if let Some(limit) = record.detail.and_then(LimitName::of) {
            self.limit_hit(limit);
        }
        if self.log.is_on() {
            self.write_line(&record, now);
        }
    }

    /// A call is sent to kintone again.
    pub fn retried(&self, reason: Retry) {
        self.handles.retries[reason as usize].inc();
    }

    /// kintone refused a call of `account`, and the gateway waits that out. A refusal that passes
    /// on to the caller is counted by [`Self::end`].
    pub fn rejection_absorbed(&self, account: &Account, rejection: Rejection) {
        self.accounts.reject(&self.metrics, account, rejection);
    }

    /// An app of `account` has reached that part of its calls of the day, in percent.
    pub fn budget_warned(&self, account: &Account, percent: u64) {
        // Four times a day for an app at most: a look-up is nothing beside that.
        let account = self.accounts.label(account);
        self.metrics
            .daily_budget_warnings_total
            .with_label_values(&[account.as_str(), &percent.to_string()])
            .inc();
    }

    /// A limit of this host was reached.
    pub fn limit_hit(&self, limit: LimitName) {
        self.handles.limit_hits[limit as usize].inc();
    }

    /// An attempt to connect to kintone from `address` ended.
    pub fn connected(&self, address: Published, result: ConnectResult) {
        // Addresses are few and a connection costs a handshake: a look-up is nothing beside it.
        self.metrics
            .upstream_connects_total
            .with_label_values(&[address.to_string().as_str(), result.label()])
            .inc();
    }

    /// A call was to be handed to `peer`.
    pub fn handed(&self, peer: &str, result: HandedResult) {
        self.metrics.handed(peer, result);
    }

    /// An account was asked whether it takes `address`.
    pub fn probed(&self, address: Published, result: ProbeResult) {
        self.metrics
            .acceptance_probes_total
            .with_label_values(&[address.to_string().as_str(), result.label()])
            .inc();
    }

    /// A tunnel of `caller` carries bytes from here until the value is dropped.
    #[must_use]
    pub fn tunnel_opened(&self, caller: &CallerName, alpn: Alpn) -> TunnelGauge {
        let series = self.callers.of(Some(caller));
        series.tunnels(&self.metrics, alpn).inc();
        let open = series.tunnels_open(&self.metrics).clone();
        open.inc();
        TunnelGauge {
            open,
            to_kintone: self.handles.to_kintone.clone(),
            from_kintone: self.handles.from_kintone.clone(),
        }
    }

    /// An inspected connection of `caller` is ready for calls until the value is dropped.
    #[must_use]
    pub fn inspection_opened(&self, caller: &CallerName, result: Handshake) -> OpenInspection {
        let series = self.callers.of(Some(caller));
        series.handshakes(&self.metrics, result).inc();
        let open = series.inspected(&self.metrics).clone();
        open.inc();
        OpenInspection { open }
    }

    /// The handshake of an inspected connection of `caller` came to nothing.
    pub fn inspection_failed(&self, caller: &CallerName, result: Handshake) {
        let series = self.callers.of(Some(caller));
        series.handshakes(&self.metrics, result).inc();
    }

    /// `config` was taken.
    pub fn reloaded(&self, config: &Config) {
        self.callers.reload(&config.callers);
        self.live.set_capacity(config.limits.connections);
        self.accounts.reload(
            &self.metrics,
            config.accounts.keys(),
            config.limits.account_series,
        );
        self.show_config(config);
    }

    /// A configuration was refused; the old one stays.
    pub fn reload_refused(&self) {
        self.metrics
            .config_last_reload_successful
            .with_label_values::<&str>(&[])
            .set(0.0);
    }

    /// The calls under way.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// The label of `account` in every metric.
    #[must_use]
    pub fn account_label(&self, account: &Account) -> AccountLabel {
        self.accounts.label(account)
    }

    /// The last failures of `account`, the newest first, at most 20; none for accounts in `other`.
    #[must_use]
    pub fn recent_failures(&self, account: &Account) -> Vec<RecentFailure> {
        self.accounts.recent_failures(account)
    }

    /// The text of `/metrics`: everything counted so far, and the gauges of `views`.
    #[must_use]
    pub fn expose(&self, views: &Views) -> String {
        self.exposition.text(
            &self.metrics,
            &self.registry,
            &self.accounts,
            views,
            self.log.dropped(),
        )
    }

    /// Where all metrics are registered.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    fn observe(&self, record: &Record) {
        let mode = mode_place(mode_of(record));
        let total = record.total;
        self.handles.request_seconds[mode].observe(total.as_secs_f64());
        if let Some(queued) = record.queued {
            let priority = record.priority.unwrap_or(Priority::Interactive);
            self.handles.queue_wait_seconds[priority as usize].observe(queued.as_secs_f64());
        }
        if let Some(upstream) = record.upstream_time {
            self.handles.upstream_seconds[mode].observe(upstream.as_secs_f64());
            let elsewhere = upstream + record.queued.unwrap_or(Duration::ZERO);
            let overhead = total.saturating_sub(elsewhere);
            self.handles.overhead_seconds[mode].observe(overhead.as_secs_f64());
        }
    }

    fn write_line(&self, record: &Record, now: Timestamp) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            line::write(line, record, &self.host, now);
            self.log.append(line);
        });
    }

    fn show_config(&self, config: &Config) {
        let metrics = &self.metrics;
        metrics.config_info.reset();
        metrics
            .config_info
            .with_label_values(&[&config.hash])
            .set(1.0);
        metrics
            .config_last_reload_successful
            .with_label_values::<&str>(&[])
            .set(1.0);
        metrics
            .config_last_reload_timestamp_seconds
            .with_label_values::<&str>(&[])
            .set(Timestamp::now().as_second() as f64);
        metrics.show_expiration(config);
    }
}

impl Handles {
    fn new(metrics: &Metrics) -> Self {
        let by_mode = |of: &prometheus::HistogramVec| {
            std::array::from_fn(|place| {
                let mode = crate::model::Mode::ALL.get(place).copied();
                of.with_label_values(&[mode_label(mode)])
            })
        };
        let bytes = &metrics.tunnel_bytes_total;
        Self {
            request_seconds: by_mode(&metrics.request_seconds),
            upstream_seconds: by_mode(&metrics.upstream_seconds),
            overhead_seconds: by_mode(&metrics.overhead_seconds),
            queue_wait_seconds: Priority::ALL.map(|priority| {
                metrics
                    .queue_wait_seconds
                    .with_label_values(&[priority.label()])
            }),
            authentication_failures: Detail::ALL.iter().map(|_| OnceLock::new()).collect(),
            retries: Retry::ALL
                .iter()
                .map(|reason| metrics.retries_total.with_label_values(&[reason.label()]))
                .collect(),
            limit_hits: LimitName::ALL
                .iter()
                .map(|limit| metrics.limit_hits_total.with_label_values(&[limit.label()]))
                .collect(),
            to_kintone: bytes.with_label_values(&["to_kintone"]),
            from_kintone: bytes.with_label_values(&["from_kintone"]),
        }
    }
}

#[cfg(test)]
pub(crate) mod test_support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_accounts;
#[cfg(test)]
mod tests_line;
