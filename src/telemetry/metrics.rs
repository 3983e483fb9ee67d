//! Every metric of the gateway, declared once.
//!
//! A field's name is the metric's name without the prefix `kintone_egress_`. The help text names
//! the unit and says how the figures of several hosts are put together. `docs/metrics.md` explains
//! them to operators; a test holds the two against each other.

use prometheus::{
    CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use super::labels::HandedResult;
use crate::config::{CaCertificate, Config};

/// What every metric's name begins with.
pub const PREFIX: &str = "kintone_egress_";

/// A metric as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Its whole name.
    pub name: &'static str,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// Its help text.
    pub help: &'static str,
}

/// kintone answers in 50 ms to 10 s; tunnels live up to an hour. Seconds.
const CALL_BUCKETS: [f64; 21] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 3600.0,
];

/// Our own part is tens of microseconds on a pooled connection, and a handshake on a new one.
/// Seconds.
const OVERHEAD_BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 5.0, 30.0,
];

/// From the fair queue's finest promise (25 ms) to the longest wait of a batch call (10 minutes).
/// Seconds.
const WAIT_BUCKETS: [f64; 16] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 120.0, 600.0,
];

macro_rules! build {
    (HistogramVec, $name:expr, $help:literal, $labels:tt, $buckets:ident) => {
        HistogramVec::new(
            HistogramOpts::new($name, $help).buckets($buckets.to_vec()),
            &$labels,
        )
    };
    ($kind:ident, $name:expr, $help:literal, $labels:tt) => {
        $kind::new(Opts::new($name, $help), &$labels)
    };
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $labels:tt $(in $buckets:ident)? = $help:literal;)*) => {
        /// All metrics.
        #[derive(Debug, Clone)]
        #[allow(
            rustdoc::broken_intra_doc_links,
            reason = "help texts are for Prometheus: a table of the configuration in them is no link"
        )]
        pub struct Metrics {
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl Metrics {
            /// All of them, for documentation and tests.
            pub const DECLARED: &'static [Declared] = &[$(Declared {
                name: concat!("kintone_egress_", stringify!($name)),
                labels: &$labels,
                help: $help,
            },)*];

            /// Makes them all and enters them in `registry`.
            ///
            /// # Panics
            /// If two have the same name, which a test excludes.
            #[must_use]
            pub fn new(registry: &Registry) -> Self {
                $(
                    let $name = build!(
                        $kind,
                        concat!("kintone_egress_", stringify!($name)),
                        $help,
                        $labels
                        $(, $buckets)?
                    )
                    .expect("the declared names and labels are valid");
                    registry
                        .register(Box::new($name.clone()))
                        .expect("the declared names are distinct");
                )*
                Self { $($name,)* }
            }
        }
    };
}

metrics! {
    requests_total: IntCounterVec ["caller", "mode", "outcome"] =
        "Calls that ended, by caller, way in and outcome. Calls; sum over hosts.";
    request_seconds: HistogramVec ["mode"] in CALL_BUCKETS =
        "From a call's head to its end, the wait included. Seconds; sum the buckets over hosts.";
    upstream_seconds: HistogramVec ["mode"] in CALL_BUCKETS =
        "From the first byte sent to kintone to the last byte of its answer. Seconds; sum the buckets over hosts.";
    overhead_seconds: HistogramVec ["mode"] in OVERHEAD_BUCKETS =
        "What is left of a call without its wait and kintone's time: our own work, new connections, and a caller that reads slowly. Seconds; sum the buckets over hosts.";
    queue_wait_seconds: HistogramVec ["priority"] in WAIT_BUCKETS =
        "Wait for a permit and the rate, of admitted and refused calls. Seconds; sum the buckets over hosts.";

    account_inflight: GaugeVec ["account"] =
        "Permits in use: calls at kintone, settling ones included. Permits; sum over hosts.";
    account_queued: GaugeVec ["account"] =
        "Calls that wait for a permit or the rate. Calls; sum over hosts.";
    account_settling: GaugeVec ["account"] =
        "Permits of calls whose end at kintone was not seen. Permits; sum over hosts.";
    account_oldest_wait_seconds: GaugeVec ["account"] =
        "How long the longest waiting call has waited. Seconds; maximum over hosts.";
    account_concurrency_limit: GaugeVec ["account"] =
        "kintone's limit of calls at once, as used here. Calls; the same on every host, take the maximum.";
    account_permits_allowed: GaugeVec ["account"] =
        "Permits that this host may use at this moment. Permits; sum over hosts.";
    account_outside_load: GaugeVec ["account"] =
        "Calls at kintone that are not ours, as estimated. Calls; maximum over hosts.";
    account_max_wait_seconds: GaugeVec ["account"] =
        "Longest wait of a call that asks for none shorter. Seconds; the same on every host, take the maximum.";
    account_closed: GaugeVec ["account", "reason"] =
        "1 while calls of the account are refused because kintone does not serve it: maintenance, planned, unknown; other is how many of its accounts. Accounts; maximum over hosts.";
    account_requests_total: IntCounterVec ["account", "mode"] =
        "Calls that ended, by account and way in. Calls; sum over hosts.";
    account_refused_total: IntCounterVec ["account", "reason"] =
        "Calls that the gateway refused, nothing sent. Calls; sum over hosts.";
    account_failures_total: IntCounterVec ["account", "cause"] =
        "Calls that kintone refused or that broke on the way. Calls; sum over hosts.";

    tenant_inflight: GaugeVec ["account", "tenant"] =
        "Permits in use by a tenant. Permits; sum over hosts.";
    tenant_queued: GaugeVec ["account", "tenant"] =
        "Calls of a tenant that wait. Calls; sum over hosts.";
    tenant_requests_total: IntCounterVec ["account", "tenant"] =
        "Calls of a tenant that were admitted. Calls; sum over hosts.";
    tenant_permit_seconds_total: CounterVec ["account", "tenant"] =
        "Permits of a tenant times how long they were held. Permit seconds; sum over hosts.";

    app_requests_today: GaugeVec ["account", "app"] =
        "Calls of the 20 largest apps of an account since 09:00 Japan time. Calls; with fleet.redis those of all hosts, take the maximum, else sum over hosts.";
    account_daily_per_app: GaugeVec ["account"] =
        "Calls that each app of an account may make a day, all hosts together. Calls; the same on every host, take the maximum.";
    daily_budget_warnings_total: IntCounterVec ["account", "percent"] =
        "Apps that have reached that part of their calls of the day, on this host. Warnings; sum over hosts.";

    kintone_running: GaugeVec ["account"] =
        "X-ConcurrencyLimit-Running as last said. Calls; maximum over hosts.";
    kintone_limit: GaugeVec ["account"] =
        "X-ConcurrencyLimit-Limit as last said. Calls; maximum over hosts.";
    kintone_rejections_total: IntCounterVec ["account", "code"] =
        "Refusals of kintone for too many calls or maintenance, those that were waited out included. Answers; sum over hosts.";

    permits_acquired_total: IntCounterVec [] =
        "Permits handed out. Permits; sum over hosts.";
    permits_released_total: IntCounterVec [] =
        "Permits given back. Permits; sum over hosts.";
    permits_held: GaugeVec [] =
        "Permits out: acquired less released. Permits; sum over hosts.";

    address_up: GaugeVec ["address"] =
        "1 while the bind address of a published address is on this host. Minimum over hosts that bind it.";
    address_verified: GaugeVec ["address"] =
        "1 while echoes see a published address as published, or saw it so within unknown_for; only where verify is on. Minimum over hosts that bind it.";
    address_verified_timestamp_seconds: GaugeVec ["address"] =
        "When an address was last seen as published. Seconds since 1970; minimum over hosts that bind it.";
    echo_answers: GaugeVec ["echo", "answer"] =
        "Addresses by what an echo, by its number in verify.urls, said of them last: published, other, none. Addresses; sum over hosts.";
    address_connections: GaugeVec ["address"] =
        "Connections to kintone open from this address. Connections; sum over hosts.";
    local_ports_used: GaugeVec ["address"] =
        "Local ports in use on the bind address, closing connections included. Ports; maximum over hosts.";

    local_ports_limit: GaugeVec [] =
        "Local ports that the kernel hands out, per address: the width of ip_local_port_range. Ports; minimum over hosts.";

    caller_authentications_total: IntCounterVec ["caller", "credential"] =
        "Calls by what proved their caller: the number of the token in its list, certificate, network. Calls; sum over hosts.";
    authentication_failures_total: IntCounterVec ["reason"] =
        "Calls refused with 407. Calls; sum over hosts.";

    tunnels_open: IntGaugeVec ["caller"] =
        "Tunnels that are open. Tunnels; sum over hosts.";
    tunnels_total: IntCounterVec ["caller", "alpn"] =
        "Tunnels whose ClientHello was let through, by what it offers. Tunnels; sum over hosts.";
    inspected_connections: IntGaugeVec ["caller"] =
        "Inspected connections that are open. Connections; sum over hosts.";
    inspect_handshakes_total: IntCounterVec ["caller", "result"] =
        "TLS handshakes of inspected connections, by how they ended. Handshakes; sum over hosts.";
    tunnel_bytes_total: IntCounterVec ["direction"] =
        "Bytes carried in tunnels. Bytes; sum over hosts.";

    fleet_peer_up: GaugeVec ["peer"] =
        "1 if another host of the fleet was heard of within the last seconds, else 0. Take the minimum over hosts.";
    fleet_peer_age_seconds: GaugeVec ["peer"] =
        "How long ago the newest word of another host came. Seconds; maximum over hosts.";
    fleet_peer_differs: GaugeVec ["peer"] =
        "1 if another host's configuration or row differs from this host's, else 0. Take the maximum over hosts.";
    fleet_store_up: GaugeVec [] =
        "1 if the last beat reached the fleet's store, else 0. Minimum over hosts.";
    fleet_permits: GaugeVec ["state"] =
        "Permits of accounts in which something is lent, borrowed or wanted: own, lent, borrowed, stranded. Permits; sum over hosts.";

    fleet_side_age_seconds: GaugeVec ["peer"] =
        "How old the newest is that another host told beside permits. Seconds; maximum over hosts.";
    fleet_side_bad_rows_total: IntCounterVec [] =
        "How often what another host told beside permits was of no use. Rows read; sum over hosts.";
    fleet_side_bytes: GaugeVec [] =
        "Length of what this host tells the others beside permits. Bytes; maximum over hosts.";
    fleet_side_left_out: GaugeVec [] =
        "Topics that had no room in it. Topics; maximum over hosts.";
    handed_total: IntCounterVec ["peer", "result"] =
        "Calls that were to be handed to another host, since the account accepts only addresses of that host. Calls; sum over hosts.";

    inspect_ca_expiration_timestamp_seconds: GaugeVec ["ca"] =
        "When the first certificate of the private authority ends: of the one that signs, and of those in ca_next. Seconds since 1970; minimum over hosts.";

    config_info: GaugeVec ["hash"] =
        "1, with the SHA-256 of the configuration in force. Differing hashes between hosts are a fault; do not sum.";
    build_info: GaugeVec ["version"] =
        "1, with the version of the program. Do not sum.";
    config_last_reload_successful: GaugeVec [] =
        "1 if the configuration last read was taken, 0 if it was refused. Minimum over hosts.";
    config_last_reload_timestamp_seconds: GaugeVec [] =
        "When a configuration was last taken. Seconds since 1970; minimum over hosts.";

    published_addresses: GaugeVec ["state"] =
        "Addresses on the published list, by state. Addresses; maximum over hosts.";
    published_alarms: GaugeVec ["alarm"] =
        "Where the published list is not what the configuration says. Alarms; maximum over hosts.";
    draining: GaugeVec [] =
        "1 while this host is out of rotation or shutting down. Hosts; the sum is how many are away.";

    mails_total: IntCounterVec ["result"] =
        "Mails to people: sent, given_up after retries, lost because the spool did not take them. Mails; sum over hosts.";
    mails: GaugeVec ["state"] =
        "Mails in the spool: queued, held until an operator decides, dead. Mails; sum over hosts.";
    mail_overdue_seconds: GaugeVec [] =
        "For how long the oldest mail of the queue should have been sent. Seconds; maximum over hosts.";
    webhook_messages_total: IntCounterVec ["result"] =
        "Messages to the operators' webhook: sent, given_up after retries, lost because the spool did not take them. Messages; sum over hosts.";
    webhook_messages: GaugeVec ["state"] =
        "Messages to the operators' webhook in the spool: queued, dead. Messages; sum over hosts.";
    webhook_overdue_seconds: GaugeVec [] =
        "For how long the oldest message to the operators' webhook should have been sent. Seconds; maximum over hosts.";
    mail_signs_lost_total: IntCounterVec [] =
        "Ended calls that were not judged for mails because too many waited. Calls; sum over hosts.";

    retries_total: IntCounterVec ["reason"] =
        "Calls that were sent to kintone again. Calls; sum over hosts.";
    limit_hits_total: IntCounterVec ["limit"] =
        "How often a limit of this host was reached. Events; sum over hosts.";
    access_log_dropped_total: IntCounterVec [] =
        "Lines of the access log that were lost because it could not be written fast enough or at all. Lines; sum over hosts.";
    acceptance_accounts: GaugeVec ["address", "state"] =
        "Accounts of which it is known whether they take the published address: accepted, refused. Accounts; maximum over hosts.";
    acceptance_probes_total: IntCounterVec ["address", "result"] =
        "Accounts asked for a page without credentials, from the address: accepted, refused, unknown, unsent. Probes; sum over hosts.";
    upstream_connects_total: IntCounterVec ["address", "result"] =
        "Attempts to connect to kintone. Attempts; sum over hosts.";
}

impl Metrics {
    /// The end of the authority's certificates; of several in one place the first.
    pub(super) fn show_expiration(&self, config: &Config) {
        let expiration = &self.inspect_ca_expiration_timestamp_seconds;
        expiration.reset();
        let Some(inspect) = &config.inspect else {
            return;
        };
        let end = |ca: &CaCertificate| ca.not_after.as_second();
        let signing = inspect.ca_cert.certificates.iter().map(end).min();
        let next = inspect.ca_next.iter().flat_map(|next| &next.certificates);
        for (ca, end) in [("signing", signing), ("next", next.map(end).min())] {
            if let Some(end) = end {
                expiration.with_label_values(&[ca]).set(end as f64);
            }
        }
    }

    /// A call was to be handed to `peer`.
    pub(super) fn handed(&self, peer: &str, result: HandedResult) {
        // Hosts are few, and a call that is handed over costs a way between them: a look-up is nothing
        // beside it.
        let labels = [peer, result.label()];
        self.handed_total.with_label_values(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_text_says_how_hosts_are_put_together() {
        for metric in Metrics::DECLARED {
            assert!(metric.name.starts_with(PREFIX), "{}", metric.name);
            assert!(
                ["sum", "maximum", "inimum"]
                    .iter()
                    .any(|word| metric.help.contains(word)),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn no_host_name_is_a_label() {
        for metric in Metrics::DECLARED {
            assert!(!metric.labels.contains(&"host"), "{}", metric.name);
        }
    }
}
