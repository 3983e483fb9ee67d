//! Which accounts have series, and what becomes of the counts of those that have none.

use std::time::Duration;

use crate::model::{Account, Cause, Code, Outcome};
use crate::telemetry::test_support::{config, exposed, quiet, record, sum, value};
use crate::telemetry::{AccountLoad, AccountView, Balance, Record, Rejection, Views};

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
