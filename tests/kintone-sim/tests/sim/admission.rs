//! How many requests are in process, and who is refused.

use std::time::Duration;

use kintone_sim::{Latency, TenantSettings, WhenClientLeaves};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{self, Client, HOST, RECORDS};

fn slow(concurrency: u32, base_ms: u64) -> TenantSettings {
    TenantSettings {
        concurrency,
        latency: Latency {
            base_ms,
            ..Latency::default()
        },
        ..TenantSettings::default()
    }
}

#[tokio::test]
async fn exactly_the_limit_gets_in_and_the_rest_is_refused() {
    let sim = client::start(slow(5, 300)).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(Client::new(&sim).await);
    }
    let calls: Vec<_> = clients
        .into_iter()
        .map(|mut client| tokio::spawn(async move { client.get(RECORDS).await.unwrap() }))
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let ok = answers.iter().filter(|a| a.status == 200).count();
    let refused: Vec<_> = answers.iter().filter(|a| a.status == 429).collect();
    assert_eq!((ok, refused.len()), (5, 7));
    for answer in refused {
        assert_eq!(answer.header("x-concurrencylimit-limit"), "5");
        assert_eq!(answer.header("x-concurrencylimit-running"), "6");
    }
    let accounting = sim.accounting(HOST);
    assert_eq!((accounting.peak, accounting.peak_with_foreign), (5, 5));
    assert_eq!((accounting.admitted, accounting.refused), (5, 7));
    assert_eq!(accounting.in_process, 0);
    assert_eq!(accounting.refused_at.len(), 7);
    assert_eq!(accounting.over_limit_times, 0);
    // Five requests of 300 ms each: the integral is theirs, whatever the pauses between.
    assert!(
        (1.5..2.5).contains(&accounting.busy_seconds),
        "{accounting:?}"
    );
}

#[tokio::test]
async fn the_refusal_is_kintones() {
    let sim = client::start(slow(1, 0)).await;
    sim.update(HOST, |settings| settings.foreign = 1);
    let answer = client::get(&sim, RECORDS).await.unwrap();
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.header("content-type"),
        "application/json;charset=utf-8"
    );
    assert_eq!(answer.header("x-cybozu-error"), "GAIA_TO04");
    assert_eq!(
        answer.header("cache-control"),
        "no-cache, no-store, must-revalidate"
    );
    assert!(!answer.headers.contains_key("retry-after"));
    let body = answer.json();
    assert_eq!(body["code"], "GAIA_TO04");
    assert_eq!(body["id"].as_str().unwrap().len(), 20);
    assert_eq!(
        body["message"],
        "The number of concurrent API requests exceeds the limit."
    );

    let mut request = client::request("GET", RECORDS, "");
    let ja = "ja,en;q=0.5".parse().unwrap();
    request.headers_mut().insert("accept-language", ja);
    let answer = Client::new(&sim).await.send(request).await.unwrap();
    assert_eq!(
        answer.json()["message"],
        "APIの同時リクエスト数が上限を超えています。"
    );
    assert!(
        sim.ledger()
            .executions
            .iter()
            .all(|e| !e.admitted && !e.executed)
    );
}

#[tokio::test]
async fn foreign_load_takes_places_and_may_exceed_the_limit() {
    let sim = client::start(slow(3, 0)).await;
    let answer = client::get(&sim, RECORDS).await.unwrap();
    assert_eq!(answer.header("x-concurrencylimit-running"), "1");
    sim.update(HOST, |settings| settings.foreign = 2);
    let answer = client::get(&sim, RECORDS).await.unwrap();
    assert_eq!(answer.header("x-concurrencylimit-running"), "3");
    sim.update(HOST, |settings| settings.foreign = 7);
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 429);
    sim.update(HOST, |settings| settings.foreign = 0);
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 200);
    let accounting = sim.accounting(HOST);
    assert_eq!((accounting.peak, accounting.peak_with_foreign), (1, 7));
    assert_eq!(accounting.over_limit_times, 1);
}

/// Sends a request and closes the connection at once.
async fn send_and_leave(sim: &kintone_sim::Sim) {
    let mut tls = client::connect(sim, HOST).await.unwrap();
    let head =
        format!("GET {RECORDS} HTTP/1.1\r\nHost: {HOST}\r\nX-Cybozu-API-Token: demo-token\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    while sim.ledger().totals.admitted == 0 {
        tokio::task::yield_now().await;
    }
    drop(tls);
}

#[tokio::test]
async fn work_goes_on_after_its_client_has_left() {
    let sim = client::start(slow(1, 400)).await;
    send_and_leave(&sim).await;
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 429);
    while sim.accounting(HOST).in_process > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = sim.ledger().executions[0].clone();
    let took = first.end.unwrap().at - first.start.at;
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert!(first.executed && first.client_left);
}

#[tokio::test]
async fn a_client_that_closed_before_its_answer_has_left() {
    let sim = client::start(slow(1, 50)).await;
    let mut tls = client::connect(&sim, HOST).await.unwrap();
    let head =
        format!("GET {RECORDS} HTTP/1.1\r\nHost: {HOST}\r\nX-Cybozu-API-Token: demo-token\r\n\r\n");
    // One answer is read, so that nothing unread turns the close into a reset.
    for _ in 0..2 {
        tls.write_all(head.as_bytes()).await.unwrap();
        if sim.ledger().totals.executed == 0 {
            let mut got = Vec::new();
            while !got.ends_with(b"\"totalCount\":null}") {
                tls.read_buf(&mut got).await.unwrap();
            }
        }
    }
    drop(tls);
    while sim.ledger().totals.client_left == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left: Vec<bool> = sim
        .ledger()
        .executions
        .iter()
        .map(|e| e.client_left)
        .collect();
    assert_eq!(left, [false, true]);
}

#[tokio::test]
async fn work_may_stop_when_its_client_leaves() {
    let sim = client::start(TenantSettings {
        client_left: WhenClientLeaves::Stops,
        ..slow(1, 60_000)
    })
    .await;
    send_and_leave(&sim).await;
    while sim.accounting(HOST).in_process > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = sim.ledger().executions[0].clone();
    assert!(first.client_left && !first.executed);
}

#[tokio::test]
async fn the_mean_over_a_window_is_exact() {
    let sim = client::start(slow(10, 500)).await;
    let before = sim.accounting(HOST);
    client::get(&sim, RECORDS).await.unwrap();
    let after = sim.accounting(HOST);
    let by_sums = after.mean_since(&before);
    let by_steps = after.mean_between(before.at, after.at);
    assert!((by_sums - by_steps).abs() < 1e-9, "{by_sums} {by_steps}");
    assert!(by_sums > 0.0 && by_sums < 1.0);
    sim.restart_accounting(HOST);
    assert_eq!(sim.accounting(HOST).peak, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_count_is_exact_when_calls_come_from_all_sides() {
    let mut settings = slow(7, 0);
    settings.latency.jitter_ms = 2;
    let sim = client::start(settings).await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        let mut client = Client::new(&sim).await;
        calls.push(tokio::spawn(async move {
            let mut ok = 0;
            for _ in 0..100 {
                ok += u64::from(client.get(RECORDS).await.unwrap().status == 200);
            }
            ok
        }));
    }
    let mut ok = 0;
    for call in calls {
        ok += call.await.unwrap();
    }
    let (accounting, ledger) = (sim.accounting(HOST), sim.ledger());
    assert_eq!((accounting.admitted, ledger.totals.executed), (ok, ok));
    assert_eq!(accounting.refused, 2000 - ok);
    assert_eq!((accounting.peak, accounting.in_process), (7, 0));
    assert_eq!(accounting.steps.len() as u64, 1 + 2 * ok);
    // Every step is one in or one out, so no change was lost between two of them.
    for pair in accounting.steps.windows(2) {
        assert_eq!(pair[0].own.abs_diff(pair[1].own), 1);
        assert!(pair[0].at <= pair[1].at && pair[1].own <= 7);
    }
}
