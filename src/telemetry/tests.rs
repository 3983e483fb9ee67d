//! Telemetry through its front door: what goes in as a record comes out as counts and a line.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::Config;
use crate::model::{
    Account, CallerName, Cause, Code, Credential, Detail, Mode, Outcome, Priority, Published,
    RequestId,
};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::test_config::config;
use crate::telemetry::{
    AccessLogHandle, AccountLoad, AccountView, Alpn, Balance, ConnectResult, LimitName, Record,
    Rejection, Retry, Telemetry, Views,
};

fn quiet(config: &Config) -> Arc<Telemetry> {
    Telemetry::new(config, AccessLogHandle::off(), "1.2.3")
}

fn record(account: &str) -> Record {
    Record {
        caller: CallerName::parse("call-events"),
        credential: Some(Credential::Token(1)),
        priority: Some(Priority::Interactive),
        account: Some(Account::from_normal(account)),
        mode: Some(Mode::Forward),
        status: Some(200),
        outcome: Outcome::Ok,
        kintone_limit: Some(100),
        kintone_running: Some(3),
        queued: Some(Duration::from_millis(3)),
        upstream_time: Some(Duration::from_millis(40)),
        total: Duration::from_millis(50),
        ..Record::new(RequestId::from_random(1))
    }
}

fn exposed(telemetry: &Telemetry) -> String {
    telemetry.expose(&Views::default())
}

/// The value of a series as it stands in the text, such as `3`; `None` if it is not there.
fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    let series = format!("kintone_egress_{series} ");
    text.lines().find_map(|line| line.strip_prefix(&series))
}

/// The sum over all series of a metric.
fn sum(text: &str, metric: &str) -> u64 {
    let metric = format!("kintone_egress_{metric}{{");
    text.lines()
        .filter(|line| line.starts_with(&metric))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(_, value)| value.parse::<u64>().unwrap())
        .sum()
}

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
fn refusals_failures_and_rejections_of_an_account_are_told_apart() {
    let telemetry = quiet(&config(&["acme.cybozu.com"], 10));
    let acme = Account::from_normal("acme.cybozu.com");
    let ended = |outcome, cause, code: Option<&str>, status| {
        telemetry.end(Record {
            outcome,
            cause,
            kintone_code: code.map(Into::into),
            status: Some(status),
            ..record("acme.cybozu.com")
        });
    };
    ended(Outcome::Refused(Code::WaitExceeded), None, None, 429);
    ended(Outcome::Refused(Code::UpstreamTls), None, None, 502);
    let concurrency = Some(Cause::AccountConcurrency);
    ended(Outcome::KintoneError, concurrency, Some("GAIA_TO04"), 429);
    ended(Outcome::KintoneError, Some(Cause::Maintenance), None, 503);
    telemetry.rejection_absorbed(&acme, Rejection::ConcurrencyAdmission);
    let text = exposed(&telemetry);
    let of = |metric: &str, label: &str| {
        let series = format!("{metric}{{account=\"acme.cybozu.com\",{label}}}");
        value(&text, &series).map(str::to_owned)
    };
    let one = Some("1".to_owned());
    assert_eq!(
        of("account_refused_total", r#"reason="wait_exceeded""#),
        one
    );
    assert_eq!(of("account_failures_total", r#"cause="upstream-tls""#), one);
    assert_eq!(
        of("account_failures_total", r#"cause="account-concurrency""#),
        one
    );
    assert_eq!(of("account_failures_total", r#"cause="maintenance""#), one);
    let two = Some("2".to_owned());
    assert_eq!(of("kintone_rejections_total", r#"code="GAIA_TO04""#), two);
    assert_eq!(of("kintone_rejections_total", r#"code="503""#), one);
    assert_eq!(sum(&text, "account_refused_total"), 1);
    assert_eq!(sum(&text, "account_failures_total"), 3);

    let failures = telemetry.recent_failures(&acme);
    assert_eq!(failures.len(), 4);
    assert_eq!(
        failures[0].cause,
        Some(Cause::Maintenance),
        "the newest first"
    );
    for _ in 0..30 {
        ended(Outcome::Refused(Code::WaitExceeded), None, None, 429);
    }
    assert_eq!(telemetry.recent_failures(&acme).len(), 20);
}

#[test]
fn ten_thousand_accounts_have_no_more_series_than_allowed_and_lose_no_call() {
    let telemetry = quiet(&config(&["first.cybozu.com"], 50));
    for number in 0..10_000 {
        telemetry.end(record(&format!("a{number}.cybozu.com")));
    }
    telemetry.end(record("first.cybozu.com"));
    let text = exposed(&telemetry);
    let series = text
        .lines()
        .filter(|line| line.starts_with("kintone_egress_account_requests_total{"))
        .count();
    assert_eq!(series, 51, "50 and other");
    assert_eq!(sum(&text, "account_requests_total"), 10_001);
    let other = r#"account_requests_total{account="other",mode="forward"}"#;
    assert_eq!(value(&text, other), Some("9951"));
    let first = Account::from_normal("first.cybozu.com");
    assert_eq!(telemetry.account_label(&first).as_str(), "first.cybozu.com");
}

#[test]
fn an_account_that_kintone_never_answered_for_has_no_series() {
    let telemetry = quiet(&config(&[], 50));
    telemetry.end(Record {
        kintone_limit: None,
        kintone_running: None,
        ..record("guessed.cybozu.com")
    });
    let text = exposed(&telemetry);
    assert!(!text.contains("guessed"));
    let other = r#"account_requests_total{account="other",mode="forward"}"#;
    assert_eq!(value(&text, other), Some("1"));
}

#[test]
fn accounts_that_lose_their_label_are_merged_into_other() {
    let telemetry = quiet(&config(&["old.cybozu.com"], 2));
    for domain in ["old.cybozu.com", "learned.cybozu.com", "old.cybozu.com"] {
        telemetry.end(record(domain));
    }
    telemetry.end(Record {
        outcome: Outcome::Refused(Code::QueueFull),
        ..record("old.cybozu.com")
    });
    telemetry.reloaded(&config(&["new.cybozu.com"], 2));
    let text = exposed(&telemetry);
    assert!(!text.contains("old.cybozu.com"));
    assert_eq!(sum(&text, "account_requests_total"), 4);
    for (series, expected) in [
        (
            r#"account_requests_total{account="other",mode="forward"}"#,
            "3",
        ),
        (
            r#"account_refused_total{account="other",reason="queue_full"}"#,
            "1",
        ),
        (
            r#"account_requests_total{account="learned.cybozu.com",mode="forward"}"#,
            "1",
        ),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    let old = Account::from_normal("old.cybozu.com");
    assert!(telemetry.account_label(&old).is_other());
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
fn gauges_are_of_the_moment_and_limits_of_other_accounts_are_not_summed() {
    let telemetry = quiet(&config(&["acme.cybozu.com"], 1));
    let view = |domain: &str, inflight| AccountView {
        account: Account::from_normal(domain),
        load: AccountLoad {
            limit: 100,
            allowed: 80,
            inflight,
            oldest_wait: Some(Duration::from_millis(u64::from(inflight))),
            ..AccountLoad::default()
        },
        tenants: Vec::new(),
        waiting: Vec::new(),
    };
    let views = |acquired| Views {
        accounts: vec![
            view("acme.cybozu.com", 3),
            view("b.cybozu.com", 4),
            view("c.cybozu.com", 5),
        ],
        balance: Balance {
            acquired,
            released: acquired - 12,
            held: 12,
        },
        ..Views::default()
    };
    let _ = telemetry.expose(&views(20));
    let text = telemetry.expose(&views(30));
    for (series, expected) in [
        (r#"account_inflight{account="acme.cybozu.com"}"#, "3"),
        (r#"account_inflight{account="other"}"#, "9"),
        (r#"account_oldest_wait_seconds{account="other"}"#, "0.005"),
        (
            r#"account_permits_allowed{account="acme.cybozu.com"}"#,
            "80",
        ),
        ("permits_acquired_total", "30"),
        ("permits_released_total", "18"),
        ("permits_held", "12"),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    assert!(!text.contains(r#"account_permits_allowed{account="other"}"#));
    let gone = telemetry.expose(&Views::default());
    assert!(
        !gone.contains("account_inflight{"),
        "an idle account leaves"
    );
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
    assert_eq!(sum(&text, "limit_hits_total"), LimitName::ALL.len() as u64);
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
fn calls_that_end_on_many_threads_during_reloads_are_all_counted() {
    let telemetry = quiet(&config(&["a0.cybozu.com"], 3));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for number in 0..2_000 {
                    telemetry.end(record(&format!("a{}.cybozu.com", number % 7)));
                }
            });
        }
        scope.spawn(|| {
            for number in 0..200 {
                let domain = format!("a{}.cybozu.com", number % 5);
                telemetry.reloaded(&config(&[&domain], 1 + number % 3));
            }
        });
    });
    let text = exposed(&telemetry);
    assert_eq!(sum(&text, "account_requests_total"), 8_000);
    assert_eq!(sum(&text, "requests_total"), 8_000);
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
