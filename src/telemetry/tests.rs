//! Telemetry through its front door: what goes in as a record comes out as counts and a line.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::{CallerName, Code, Credential, Detail, Mode, Outcome, Published};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::test_support::{config, exposed, quiet, record, sum, value};
use crate::telemetry::{AccessLogHandle, Alpn, ConnectResult, LimitName, Record, Retry, Telemetry};

/// Everything that is written, for several holders.
#[derive(Clone, Default)]
struct Sheet(Arc<Mutex<Vec<u8>>>);

impl Write for Sheet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_call_that_went_well_is_counted_everywhere_once() {
    let telemetry = quiet(&config(&[], 10));
    telemetry.end(record("acme.cybozu.com"));
    let text = exposed(&telemetry);
    for (series, expected) in [
        (
            r#"requests_total{caller="call-events",mode="forward",outcome="ok"}"#,
            "1",
        ),
        (
            r#"account_requests_total{account="acme.cybozu.com",mode="forward"}"#,
            "1",
        ),
        (
            r#"caller_authentications_total{caller="call-events",credential="1"}"#,
            "1",
        ),
        (r#"request_seconds_sum{mode="forward"}"#, "0.05"),
        (r#"upstream_seconds_sum{mode="forward"}"#, "0.04"),
        (r#"overhead_seconds_sum{mode="forward"}"#, "0.007"),
        (r#"queue_wait_seconds_sum{priority="interactive"}"#, "0.003"),
        (r#"build_info{version="1.2.3"}"#, "1"),
        (r#"config_info{hash="0123abcd"}"#, "1"),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    assert_eq!(sum(&text, "requests_total"), 1);
    assert!(!text.contains("account_failures_total{"));
}

#[test]
fn who_is_refused_with_407_is_unknown_whatever_name_was_given() {
    let telemetry = quiet(&config(&[], 10));
    telemetry.end(Record {
        outcome: Outcome::Refused(Code::AuthenticationRequired),
        detail: Some(Detail::WrongToken),
        status: Some(407),
        ..record("acme.cybozu.com")
    });
    let text = exposed(&telemetry);
    let series =
        r#"requests_total{caller="unknown",mode="forward",outcome="authentication_required"}"#;
    assert_eq!(value(&text, series), Some("1"));
    let series = r#"authentication_failures_total{reason="wrong_token"}"#;
    assert_eq!(value(&text, series), Some("1"));
    assert!(!text.contains("caller_authentications_total{"));
}

#[test]
fn what_is_malformed_has_no_mode() {
    let telemetry = quiet(&config(&[], 10));
    let refused = Outcome::Refused(Code::BadRequest);
    telemetry.end(Record {
        caller: None,
        outcome: refused,
        status: Some(400),
        ..record("acme.cybozu.com")
    });
    // Bytes in a tunnel that are not TLS: the answer, 200, was given before.
    telemetry.end(Record {
        mode: Some(Mode::Tunnel),
        outcome: refused,
        ..record("acme.cybozu.com")
    });
    let text = exposed(&telemetry);
    let series = r#"requests_total{caller="unknown",mode="unknown",outcome="bad_request"}"#;
    assert_eq!(value(&text, series), Some("1"));
    let series = r#"requests_total{caller="call-events",mode="tunnel",outcome="bad_request"}"#;
    assert_eq!(value(&text, series), Some("1"));
}

#[test]
fn tunnels_are_open_until_dropped_and_their_bytes_are_counted() {
    let telemetry = quiet(&config(&[], 10));
    let name = CallerName::parse("call-events").unwrap();
    let tunnel = telemetry.tunnel_opened(&name, Alpn::H2);
    tunnel.to_kintone(5);
    tunnel.from_kintone(7);
    let text = exposed(&telemetry);
    let open = r#"tunnels_open{caller="call-events"}"#;
    assert_eq!(value(&text, open), Some("1"));
    drop(tunnel);
    let text = exposed(&telemetry);
    for (series, expected) in [
        (open, "0"),
        (r#"tunnels_total{caller="call-events",alpn="h2"}"#, "1"),
        (r#"tunnel_bytes_total{direction="to_kintone"}"#, "5"),
        (r#"tunnel_bytes_total{direction="from_kintone"}"#, "7"),
    ] {
        let sorted = series.replace(
            r#"caller="call-events",alpn="h2""#,
            r#"alpn="h2",caller="call-events""#,
        );
        assert_eq!(value(&text, &sorted), Some(expected), "{series}");
    }
}

#[test]
fn every_word_of_the_closed_sets_can_be_counted() {
    let telemetry = quiet(&config(&[], 10));
    Retry::ALL.iter().for_each(|it| telemetry.retried(*it));
    LimitName::ALL
        .iter()
        .for_each(|it| telemetry.limit_hit(*it));
    let address = Published([18, 177, 83, 94].into());
    for result in ConnectResult::ALL {
        telemetry.connected(address, *result);
    }
    for mode in Mode::ALL.into_iter().map(Some).chain([None]) {
        for outcome in Outcome::all() {
            telemetry.end(Record {
                mode,
                outcome,
                ..record("acme.cybozu.com")
            });
        }
    }
    for credential in [
        Credential::Token(9),
        Credential::Token(255),
        Credential::Network,
    ] {
        telemetry.end(Record {
            credential: Some(credential),
            ..record("acme.cybozu.com")
        });
    }
    for &reason in Detail::ALL {
        telemetry.end(Record {
            outcome: Outcome::Refused(Code::AuthenticationRequired),
            detail: Some(reason),
            ..record("acme.cybozu.com")
        });
    }
    let text = exposed(&telemetry);
    assert_eq!(sum(&text, "retries_total"), Retry::ALL.len() as u64);
    // Once by itself, and once for each refusal that tells of a limit.
    let told = Detail::ALL.iter().filter_map(|it| LimitName::of(*it));
    let hits = LimitName::ALL.len() + told.count();
    assert_eq!(sum(&text, "limit_hits_total"), hits as u64);
    assert_eq!(
        sum(&text, "upstream_connects_total"),
        ConnectResult::ALL.len() as u64
    );
    let ended = 4 * Outcome::all().count() + 3 + Detail::ALL.len();
    assert_eq!(sum(&text, "requests_total"), ended as u64);
    let ninth = r#"caller_authentications_total{caller="call-events",credential="255"}"#;
    assert_eq!(value(&text, ninth), Some("1"));
}

#[test]
fn a_refused_configuration_is_seen_and_the_old_hash_stays() {
    let telemetry = quiet(&config(&[], 10));
    telemetry.reload_refused();
    let text = exposed(&telemetry);
    assert_eq!(value(&text, "config_last_reload_successful"), Some("0"));
    assert!(text.contains(r#"hash="0123abcd""#));
    let mut newer = config(&[], 10);
    newer.hash = "ffff".into();
    telemetry.reloaded(&newer);
    let text = exposed(&telemetry);
    assert_eq!(value(&text, "config_last_reload_successful"), Some("1"));
    assert!(text.contains(r#"hash="ffff""#) && !text.contains("0123abcd"));
}

#[test]
fn every_call_has_its_line_and_lost_ones_are_counted() {
    let sheet = Sheet::default();
    let log = AccessLogHandle::to_writer(Box::new(sheet.clone())).unwrap();
    let telemetry = Telemetry::new(&config(&[], 10), log.clone(), "1.2.3");
    for _ in 0..1000 {
        telemetry.end(record("acme.cybozu.com"));
    }
    log.shutdown(Duration::from_secs(10));
    telemetry.end(record("acme.cybozu.com"));
    let written = String::from_utf8(sheet.0.lock().unwrap().clone()).unwrap();
    assert_eq!(written.lines().count(), 1000);
    for line in written.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["host"], "gw-a");
    }
    assert_eq!(
        value(&exposed(&telemetry), "access_log_dropped_total"),
        Some("1")
    );
}

#[test]
fn the_documentation_names_exactly_the_metrics_and_labels_that_exist() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut documented: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `kintone_egress_"))
        .map(|line| {
            let mut cells = line.split('|').map(str::trim);
            let name = cells.next().unwrap().trim_matches('`').to_owned();
            let labels = cells.nth(1).unwrap().replace('`', "");
            (format!("kintone_egress_{name}"), labels)
        })
        .collect();
    documented.sort();
    let mut declared: Vec<(String, String)> = Metrics::DECLARED
        .iter()
        .map(|it| (it.name.to_owned(), it.labels.join(", ")))
        .collect();
    declared.sort();
    assert_eq!(documented, declared);
}
