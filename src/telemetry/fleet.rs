//! How this host stands in its fleet, as metrics and the API show it.

use std::time::Duration;

use prometheus::GaugeVec;
use serde::Serialize;

use super::metrics::Metrics;
use super::views::{milliseconds, shown};
use crate::model::Account;

/// How this host stands in its fleet. Times in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FleetView {
    /// This host.
    pub host: String,
    /// All hosts of the configuration, this one among them.
    pub hosts: Vec<String>,
    /// Whether permits are lent between hosts; if not, each has its fixed part of every limit.
    pub shares: bool,
    /// `open`, `unproven` (it waits for the others' answers), `superseded` (another process has its
    /// name); `null` where nothing is shared.
    pub access: Option<&'static str>,
    /// For how long it uses nothing, since nobody knows what it had lent before it started.
    #[serde(rename = "doubt_ms", serialize_with = "milliseconds")]
    pub doubt: Option<Duration>,
    /// Hosts whose part the others have.
    pub evicted: Vec<String>,
    /// Whether this host has the whole part that evictions and admissions leave it.
    pub in_force: bool,
    /// The store.
    pub store: FleetStoreView,
    /// The sum over all accounts in which something is lent, borrowed or wanted.
    pub permits: FleetPermits,
    /// What hosts tell each other beside permits.
    pub side: FleetSideView,
    /// The other hosts.
    pub peers: Vec<FleetPeerView>,
    /// The accounts in which something is lent, borrowed or wanted.
    pub accounts: Vec<FleetAccountView>,
}

/// How the store stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FleetStoreView {
    /// Whether the last beat reached it.
    pub up: bool,
    /// How long ago a beat reached it.
    #[serde(rename = "age_ms", serialize_with = "milliseconds")]
    pub age: Option<Duration>,
    /// Why the last beat that failed did, while none has reached it since.
    pub error: Option<String>,
    /// Beats that were due so far.
    pub beats: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// What hosts tell each other beside permits: the calls of the day, say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FleetSideView {
    /// How long ago it last went both ways.
    #[serde(rename = "age_ms", serialize_with = "milliseconds")]
    pub age: Option<Duration>,
    /// Why it failed last, while it has not succeeded since.
    pub error: Option<String>,
    /// How often it has failed.
    pub failures: u64,
    /// The length of what this host tells, in bytes.
    pub bytes: usize,
    /// What had no room in it (`[fleet] side_rows`).
    pub left_out: Vec<&'static str>,
    /// How often what another host told was of no use.
    pub bad_rows: u64,
}

/// Permits by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FleetPermits {
    /// This host's own that it may use now.
    pub own: u32,
    /// Lent to hosts that can use them.
    pub lent: u32,
    /// Borrowed, for this host to use now.
    pub borrowed: u32,
    /// Lent, and nobody can use them now: they come back by themselves.
    pub stranded: u32,
}

/// Another host.
#[derive(Clone, Debug, Serialize)]
pub struct FleetPeerView {
    /// Its name.
    pub host: String,
    /// Whether it was heard of within the last seconds.
    pub up: bool,
    /// How long ago its newest row came.
    #[serde(rename = "age_ms", serialize_with = "milliseconds")]
    pub age: Option<Duration>,
    /// How old the newest is that it told beside permits.
    #[serde(rename = "side_age_ms", serialize_with = "milliseconds")]
    pub side_age: Option<Duration>,
    /// Whether it is evicted.
    pub evicted: bool,
    /// What of its configuration or its row differs from what this host expects.
    pub differs: Vec<String>,
}

/// One account.
#[derive(Clone, Debug, Serialize)]
pub struct FleetAccountView {
    /// Its domain.
    #[serde(serialize_with = "shown")]
    pub account: Account,
    /// The permits that all hosts share.
    pub total: u32,
    /// This host's part of them.
    pub part: u32,
    /// What this host has of them.
    #[serde(flatten)]
    pub permits: FleetPermits,
    /// Permits in use at the last beat.
    pub inflight: u32,
    /// Calls that waited at the last beat.
    pub queued: u32,
}

/// A host that was not heard of for longer is down. Idle, hosts beat once in five beats.
pub const PEER_UP_BEATS: u32 = 25;

/// Sets the gauges of the fleet; without one there are none.
pub(super) fn set_gauges(metrics: &Metrics, fleet: Option<&FleetView>) {
    for gauge in [
        &metrics.fleet_peer_up,
        &metrics.fleet_peer_age_seconds,
        &metrics.fleet_peer_differs,
        &metrics.fleet_store_up,
        &metrics.fleet_permits,
        &metrics.fleet_side_age_seconds,
        &metrics.fleet_side_bytes,
        &metrics.fleet_side_left_out,
    ] {
        gauge.reset();
    }
    metrics.fleet_side_bad_rows_total.reset();
    let Some(fleet) = fleet.filter(|fleet| fleet.shares) else {
        return;
    };
    for peer in &fleet.peers {
        set(
            &metrics.fleet_peer_up,
            &[&peer.host],
            f64::from(u8::from(peer.up)),
        );
        if let Some(age) = peer.age {
            let age_s = age.as_secs_f64();
            set(&metrics.fleet_peer_age_seconds, &[&peer.host], age_s);
        }
        if let Some(age) = peer.side_age {
            let age_s = age.as_secs_f64();
            set(&metrics.fleet_side_age_seconds, &[&peer.host], age_s);
        }
        let differs = f64::from(u8::from(!peer.differs.is_empty()));
        set(&metrics.fleet_peer_differs, &[&peer.host], differs);
    }
    set(&metrics.fleet_side_bytes, &[], fleet.side.bytes as f64);
    let left_out = fleet.side.left_out.len() as f64;
    set(&metrics.fleet_side_left_out, &[], left_out);
    let bad_rows = metrics
        .fleet_side_bad_rows_total
        .with_label_values::<&str>(&[]);
    bad_rows.inc_by(fleet.side.bad_rows);
    let up = f64::from(u8::from(fleet.store.up));
    set(&metrics.fleet_store_up, &[], up);
    let FleetPermits {
        own,
        lent,
        borrowed,
        stranded,
    } = fleet.permits;
    for (state, permits) in [
        ("own", own),
        ("lent", lent),
        ("borrowed", borrowed),
        ("stranded", stranded),
    ] {
        set(&metrics.fleet_permits, &[state], f64::from(permits));
    }
}

fn set(gauge: &GaugeVec, labels: &[&str], value: f64) {
    gauge.with_label_values(labels).set(value);
}
