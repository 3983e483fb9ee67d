//! Daily counts beside kintone's own, over kill -9.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use kintone_sim::{AppSettings, Latency};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::site::{Site, until};
use crate::support::caller::{Caller, fetch_plain, read};
use crate::support::{ACME, Plan};

const CALLS: u64 = 10_000;
const KILLS: u64 = 50;
const CALLERS: u64 = 16;

/// Two apps, and calls that take some milliseconds, so that every kill finds some in flight.
fn plan() -> Plan {
    let mut plan = Plan {
        quota: "interactive_reserve = 0".into(),
        settle: "500ms",
        grace: "5s",
        ..Plan::default()
    };
    plan.tenant.latency = Latency {
        base_ms: 2,
        jitter_ms: 20,
        ..Latency::default()
    };
    plan.tenant.apps = vec![
        AppSettings::demo(),
        AppSettings {
            id: 2,
            ..AppSettings::demo()
        },
    ];
    plan
}

/// One of many kinds of call: by method, by where it names its app, by who it is for.
fn request(caller: &Caller, number: u64) -> http::Request<Full<Bytes>> {
    let app = 1 + number / 5 % 2;
    let records = format!("https://{ACME}/k/v1/records.json");
    let record = format!("https://{ACME}/k/v1/record.json");
    let title = format!("\"title\": {{\"value\": \"of {number}\"}}");
    let (method, url, body) = match number % 5 {
        0 | 1 => (
            Method::GET,
            format!("{records}?app={app}&limit=1"),
            String::new(),
        ),
        2 => (
            Method::POST,
            record,
            format!("{{\"app\": {app}, \"record\": {{{title}}}}}"),
        ),
        3 => (
            Method::GET,
            records,
            format!("{{\"limit\": 1, \"app\": \"{app}\"}}"),
        ),
        _ => {
            let num = format!("{{\"num\": {{\"value\": \"{number}\"}}}}");
            (
                Method::PUT,
                record,
                format!("{{\"id\": 1, \"record\": {num}, \"app\": {app}}}"),
            )
        }
    };
    let mut request = caller.request(method, &url, body);
    let headers = request.headers_mut();
    if number.is_multiple_of(3) {
        headers.insert(
            "kintone-egress-purpose",
            HeaderValue::from_static("incoming"),
        );
    }
    if number.is_multiple_of(7) {
        headers.insert(
            "kintone-egress-tenant",
            HeaderValue::from_static("company-1"),
        );
    }
    request
}

async fn call_on(caller: Caller, next: Arc<AtomicU64>) {
    let mut sender: Option<SendRequest<Full<Bytes>>> = None;
    loop {
        let mut open = match sender.take() {
            Some(open) => open,
            None => match caller.try_connect().await {
                Ok(open) => open,
                Err(_) => {
                    sleep(Duration::from_millis(2)).await;
                    continue;
                }
            },
        };
        if open.ready().await.is_err() {
            continue;
        }
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= CALLS {
            return;
        }
        let answered = open.send_request(request(&caller, number)).await;
        if let Ok(answered) = answered
            && read(answered).await.is_ok()
        {
            sender = Some(open);
        }
    }
}

/// What the gateway counted: calls by app, and how many of all may not have been sent.
async fn counted(site: &Site) -> (BTreeMap<u64, u64>, u64) {
    let (status, page) = fetch_plain(site.admin, &format!("/api/v1/accounts/{ACME}/days")).await;
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    let (mut apps, mut uncertain) = (BTreeMap::new(), 0);
    for row in page["days"].as_array().unwrap() {
        let app = row["app"]
            .as_u64()
            .unwrap_or_else(|| panic!("an app is unknown: {row}"));
        *apps.entry(app).or_default() += row["requests"].as_u64().unwrap();
        uncertain += row["uncertain"].as_u64().unwrap();
    }
    (apps, uncertain)
}

/// The figure that is promised: after 10,000 mixed calls and 50 kill -9 the gateway has counted what
/// kintone has. The one thing that nobody can know is whether the kernel got the first byte of a call
/// in the very instant of the kill: so many calls more may have been counted, never fewer.
#[tokio::test(flavor = "multi_thread")]
async fn daily_counts_equal_those_of_kintone_over_kills() {
    let site = Site::new(&plan()).await;
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    let begun = Instant::now();
    let mut process = site.start();
    for _ in 0..CALLERS {
        callers.spawn(call_on(site.caller(), Arc::clone(&next)));
    }
    for kill in 1..=KILLS {
        let due = kill * CALLS / (KILLS + 1);
        let made = || next.load(Ordering::Relaxed);
        until("calls are made", async || made() >= due).await;
        // Somewhere in the life of the calls that are under way.
        sleep(Duration::from_micros(kill * 397 % 9_000)).await;
        process.kill();
        process = site.start();
    }
    while callers.join_next().await.is_some() {}
    until("kintone is at rest", async || {
        site.sim.accounting(ACME).in_process == 0
    })
    .await;
    let (ours, uncertain) = counted(&site).await;
    let theirs = site.sim.accounting(ACME).requests_today;
    let of = |counts: &BTreeMap<u64, u64>| counts.values().sum::<u64>();
    println!(
        "{CALLS} calls, {KILLS} kills in {:?}: counted {ours:?}, by kintone {theirs:?}, uncertain \
         {uncertain}",
        begun.elapsed()
    );
    assert!(of(&theirs) > CALLS / 2, "most calls come to kintone");
    for (app, theirs) in &theirs {
        assert!(ours[app] >= *theirs, "app {app}: too few");
    }
    let difference = of(&ours) - of(&theirs);
    assert!(
        difference <= uncertain,
        "{difference} more, {uncertain} may be"
    );
    assert_eq!(process.drain().code(), Some(0));
    let process = site.start();
    site.until_serving().await;
    assert_eq!(
        counted(&site).await,
        (ours, uncertain),
        "a drain changes nothing"
    );
    assert_eq!(process.drain().code(), Some(0));
}
