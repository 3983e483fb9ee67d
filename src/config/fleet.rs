//! `[fleet]`: which host this is, and among which hosts the limits are shared.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::credential::secret;
use super::name;
use super::read::{Section, Value};
use super::shape::Fleet;
use super::source::shown;
use super::store::{Exchange, FORMS, StoreUrl};

/// Reads `[fleet]`. `environment_host` is `$KINTONE_EGRESS_HOST`, `host_name` the system's.
pub(super) fn read(
    root: &mut Section<'_>,
    environment_host: Option<&str>,
    host_name: &str,
) -> Fleet {
    let mut section = root.section("fleet");
    let configured = section.get("host").and_then(|value| name::host(&value));
    if let (Some(configured), Some(environment)) = (&configured, environment_host)
        && configured != environment
    {
        section.warn(
            "host",
            format!(
                "is {configured:?}, but $KINTONE_EGRESS_HOST is {}",
                shown(environment)
            ),
            "the file wins; leave it out where one file serves all hosts",
        );
    }
    let host = configured.unwrap_or_else(|| environment_host.unwrap_or(host_name).to_owned());
    let hosts = section.get("hosts").and_then(|value| hosts(&value));
    let redis = section.get("redis").and_then(|value| {
        let url = secret(&value)?;
        match StoreUrl::parse(url.expose()) {
            Ok(url) => Some(url),
            Err(problem) => value.fault(problem, format!("expected {FORMS}")),
        }
    });
    let exchange = exchange(&mut section);
    if let Some(hosts) = &hosts
        && !hosts.contains(&host)
    {
        section.fault(
            "hosts",
            format!("lacks this host, {}", shown(&host)),
            "add it, or set `host` or $KINTONE_EGRESS_HOST to one of them",
        );
    }
    section.finish();
    Fleet {
        hosts: hosts.unwrap_or_else(|| vec![host.clone()]),
        host,
        redis,
        exchange,
    }
}

fn exchange(section: &mut Section<'_>) -> Exchange {
    let usual = Exchange::default();
    let mut duration = |key, usual, from_ms, to_s| {
        let range = Duration::from_millis(from_ms)..=Duration::from_secs(to_s);
        section.or(key, usual, |value| value.duration(range))
    };
    let beat = duration("beat", usual.beat, 200, 5);
    let loan = duration("loan", usual.loan, 1000, 600);
    let exchange = Exchange {
        connect_timeout: duration("redis_connect_timeout", usual.connect_timeout, 50, 10),
        response_timeout: duration("redis_response_timeout", usual.response_timeout, 50, 10),
        beat,
        loan,
        overrun: duration("overrun", usual.overrun, 1000, 600),
        evict_after: duration("evict_after", usual.evict_after, 10_000, DAY_S),
        side_every: duration("side_every", usual.side_every, 2_000, 60),
        side_rows: section.or("side_rows", usual.side_rows, |value| value.size(SIDE_ROWS)),
        ca_file: section.get("redis_ca_file").and_then(|value| value.path()),
        prefix: section.or("redis_prefix", usual.prefix, |value| prefix(value)),
    };
    if loan < beat * BEATS_OF_A_LOAN {
        section.fault(
            "loan",
            format!("is shorter than {BEATS_OF_A_LOAN} beats, so that one lost word ends it"),
            "lengthen `loan` or shorten `beat`",
        );
    }
    exchange
}

/// What a host may tell beside permits, in bytes.
const SIDE_ROWS: RangeInclusive<u64> = 4 << 10..=16 << 20;

/// A day, in seconds.
const DAY_S: u64 = 24 * 60 * 60;

/// A loan outlasts so many beats at least.
const BEATS_OF_A_LOAN: u32 = 4;

/// Longest `redis_prefix`, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

fn prefix(value: &Value<'_>) -> Option<String> {
    let expected = "1 to 64 of A-Z a-z 0-9 . _ - and :";
    let text = value.text(expected)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if text.is_empty() || text.len() > PREFIX_BYTES_MAX || !text.chars().all(is_plain) {
        return value.fault(
            format!("is {}", shown(text)),
            format!("expected {expected}"),
        );
    }
    Some(text.to_owned())
}

fn hosts(value: &Value<'_>) -> Option<Vec<String>> {
    let mut hosts: Vec<String> = Vec::new();
    for entry in value.list("host names")? {
        let Some(host) = name::host(&entry) else {
            continue;
        };
        if hosts.contains(&host) {
            entry.fault::<()>(format!("names {host:?} again"), "each host stands once");
        } else {
            hosts.push(host);
        }
    }
    if hosts.is_empty() {
        return value.fault(
            "is empty",
            "expected the names of all hosts, this one among them",
        );
    }
    Some(hosts)
}
