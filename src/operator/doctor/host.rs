//! This host: its addresses, ports, descriptors, state directory, names, clock, authority and peers.

use std::fs::{OpenOptions, remove_file};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::customer::WayOut;
use super::report::Report;
use crate::config::{AddressState, Config};
use crate::descriptors;
use crate::egress::verify::{Answer, Finding};
use crate::egress::{AddressSnapshot, Presence, Source};
use crate::model::Host;
use crate::operator::fleet::{AskError, Wish, ask};

/// How long before the end of an authority it is told.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Where systemd's time service says that the clock has been set from outside (systemd-timesyncd(8)).
const CLOCK_SET: &str = "/run/systemd/timesync/synchronized";

/// A name below each zone that exists: Cybozu's own pages.
const KNOWN_LABEL: &str = "www";

pub(super) async fn examine(config: &Config, egress: &WayOut, now: Timestamp, report: &mut Report) {
    addresses(egress, report);
    verification(config, egress, report).await;
    let fleet = ask(config, &Wish::Status).await;
    let runs = !matches!(fleet, Err(AskError::Unreachable(..)));
    ports(config, runs, report);
    file_descriptors(config, report);
    state_dir(&config.state_dir, report);
    names(config, egress, report).await;
    clock(report);
    authority(config, now, report);
    peers(config, fleet, report);
}

fn addresses(egress: &WayOut, report: &mut Report) {
    let snapshots = egress.addresses();
    if snapshots.is_empty() {
        report.finding(
            "addresses",
            "none has a bind on this host, so that no call can leave from here; give one a bind",
        );
    }
    for address in snapshots {
        let (published, bind) = (address.published, address.bind);
        let what = format!("address {published}");
        match (address.presence, address.state) {
            (Presence::Absent, AddressState::Active) => report.finding(
                what,
                format_args!("{bind} is not on this host; add it to an interface"),
            ),
            (Presence::Absent, state) => report.note(
                what,
                format_args!(
                    "{bind} is not on this host; it is {}, not used",
                    state.word()
                ),
            ),
            (Presence::Up, AddressState::Active) => {
                report.well(&what, format_args!("{bind} is on this host"));
            }
            (Presence::Up, state) => report.note(
                what,
                format_args!("{bind} is on this host; it is {}, not used", state.word()),
            ),
        }
    }
}

/// As which address each one that is here leaves, as the echoes see it now; the gateway that runs here is not
/// asked.
async fn verification(config: &Config, egress: &WayOut, report: &mut Report) {
    if config.verify.is_none() {
        for address in config.addresses.iter().filter(|it| it.is_translated()) {
            report.note(
                format_args!("address {}", address.published),
                "as which address its bind leaves cannot be seen from here; switch [verify] on",
            );
        }
        return;
    }
    let here = |address: &AddressSnapshot| address.presence == Presence::Up;
    for address in egress.addresses().into_iter().filter(here) {
        let (published, bind) = (address.published, address.bind);
        let what = format!("verify {published}");
        let Some(found) = egress.verifier().ask_once(Source { published, bind }).await else {
            continue;
        };
        match found.finding {
            Finding::Published => report.well(&what, "the internet sees it as published"),
            Finding::Other(other) => report.finding(
                &what,
                format_args!(
                    "{bind} leaves as {other}; put the translation right (docs/verify.md)"
                ),
            ),
            Finding::Nothing => report.finding(&what, "no echo gives a usable answer"),
        }
        for (echo, answer) in &found.answers {
            if *answer != Answer::Saw(published.0) {
                report.note(format_args!("{what}, {echo}"), answer);
            }
        }
    }
}

/// Whether each listener has its port, or can have it; `runs`: a gateway answers on the admin one.
fn ports(config: &Config, runs: bool, report: &mut Report) {
    let listen = &config.listen;
    let proxy = listen.proxy.iter().map(|address| ("proxy", *address));
    let some = |key, address: Option<SocketAddr>| address.map(|address| (key, address));
    let listeners = proxy
        .chain([("admin", listen.admin)])
        .chain(some("metrics", listen.metrics))
        .chain(some("public", listen.public));
    for (key, address) in listeners {
        let what = format!("port {address} ([listen] {key})");
        match TcpListener::bind(address) {
            Ok(_) if runs => report.finding(
                what,
                "free, although a gateway runs: it has another configuration; restart it",
            ),
            Ok(_) => report.well(what, "free; no gateway runs here"),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && runs => {
                report.well(what, "in use, and a gateway runs here");
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                report.finding(what, "taken by another program; free it or choose another");
            }
            Err(error) => report.finding(what, format_args!("cannot be bound: {error}")),
        }
    }
}

fn file_descriptors(config: &Config, report: &mut Report) {
    let needed = descriptors::needed(config.limits.connections, config.upstream.pool_total);
    match descriptors::raise() {
        Some(limit) if limit < needed => report.note(
            "file descriptors",
            format_args!(
                "{limit} here, {needed} needed by [limits] connections and [upstream] pool_total; \
                 a service may have others: LimitNOFILE"
            ),
        ),
        Some(limit) => report.well("file descriptors", format_args!("{limit}, {needed} needed")),
        None => report.note("file descriptors", "the kernel does not say how many"),
    }
}

fn state_dir(dir: &Path, report: &mut Report) {
    let what = format!("state directory {}", dir.display());
    let probe = dir.join(format!("doctor.{}", std::process::id()));
    match OpenOptions::new().write(true).create_new(true).open(&probe) {
        Ok(_) => {
            let removed = remove_file(&probe);
            match removed {
                Ok(()) => report.well(what, "can be written by this user"),
                Err(error) => {
                    report.finding(what, format_args!("keeps {}: {error}", probe.display()));
                }
            }
        }
        Err(error) => report.finding(
            what,
            format_args!("cannot be written by this user: {error}; run this as the gateway's user"),
        ),
    }
}

async fn names(config: &Config, egress: &WayOut, report: &mut Report) {
    for zone in &config.upstream.zones {
        let what = format!("DNS, {zone}");
        let host = Host::from_normal(&format!("{KNOWN_LABEL}.{zone}"));
        match egress.look_up(&host).await {
            Ok(found) => report.well(what, format_args!("{host} is {}", found[0])),
            Err(verdict) => report.finding(
                what,
                format_args!(
                    "{host}: {}; check the name servers of this host",
                    verdict.word()
                ),
            ),
        }
    }
}

fn clock(report: &mut Report) {
    if Path::new(CLOCK_SET).exists() {
        report.well("clock", "set by systemd-timesyncd");
    } else {
        report.note(
            "clock",
            "systemd-timesyncd does not set it; with a DOMAIN it is compared with kintone's",
        );
    }
}

fn authority(config: &Config, now: Timestamp, report: &mut Report) {
    let Some(inspect) = &config.inspect else {
        return;
    };
    for certificate in inspect.published() {
        let what = format!("authority {}", certificate.subject);
        let until = certificate.not_after;
        if until <= now {
            report.finding(
                what,
                format_args!(
                    "ended {until}: callers refuse inspected connections; docs/inspect.md"
                ),
            );
        } else if certificate.not_before > now {
            report.finding(what, format_args!("begins {} only", certificate.not_before));
        } else if now.duration_until(until) < EXPIRY_WARNING {
            report.finding(
                what,
                format_args!("ends {until}: begin to change it now; docs/inspect.md"),
            );
        } else {
            report.well(what, format_args!("until {until}"));
        }
    }
}

fn peers(config: &Config, fleet: Result<String, AskError>, report: &mut Report) {
    let (fleet_of, what) = (&config.fleet, "fleet");
    if fleet_of.hosts.len() < 2 {
        return report.well(what, "this host is alone");
    }
    if fleet_of.redis.is_none() {
        let hosts = fleet_of.hosts.len();
        return report.note(
            what,
            format_args!("{hosts} hosts without [fleet] redis: each takes its fixed part"),
        );
    }
    let answer = match fleet {
        Ok(answer) => answer,
        Err(error @ AskError::Unreachable(..)) => return report.note(what, error),
        Err(error) => return report.finding(what, error),
    };
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if answer["store"]["up"] == true {
        report.well("fleet, store", "reached");
    } else {
        report.finding("fleet, store", "not reached; check [fleet] redis");
    }
    for peer in answer["peers"].as_array().into_iter().flatten() {
        let what = format!("fleet, {}", peer["host"].as_str().unwrap_or_default());
        let differs = peer["differs"].as_array().is_some_and(|of| !of.is_empty());
        if peer["evicted"] == true {
            report.note(what, "evicted: its part is the others'");
        } else if peer["up"] != true {
            report.finding(
                what,
                "not heard of; kintone-egress fleet status says since when",
            );
        } else if differs {
            report.finding(
                what,
                "has another configuration; give all hosts the same file",
            );
        } else {
            report.well(what, "heard of");
        }
    }
}
