//! What goes wrong, as a client sees it.

use std::time::Duration;

use kintone_sim::{Fault, FaultKind, Sim, TenantSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::{self, Client, HOST, RECORDS};

const RECORD: &str = "/k/v1/record.json";

fn post(title: &str) -> String {
    let body = format!(r#"{{"app":1,"record":{{"title":{{"value":"{title}"}}}}}}"#);
    format!(
        "POST {RECORD} HTTP/1.1\r\nHost: {HOST}\r\nX-Cybozu-API-Token: demo-token\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends these bytes and gives all that comes back, with the error that ended it.
async fn exchange(sim: &Sim, bytes: &str) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let mut tls = client::connect(sim, HOST).await.unwrap();
    tls.write_all(bytes.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match tls.read(&mut buffer).await {
            Ok(0) => return (got, None),
            Ok(read) => got.extend_from_slice(&buffer[..read]),
            Err(error) => return (got, Some(error.kind())),
        }
    }
}

const RESET: Option<std::io::ErrorKind> = Some(std::io::ErrorKind::ConnectionReset);

#[tokio::test]
async fn answers_in_place_of_kintones() {
    let cases = [
        (FaultKind::TooManyRequests, 429, "GAIA_TO04"),
        (FaultKind::Overload, 502, "一時的な過負荷かメンテナンス"),
        (FaultKind::Unavailable, 503, "Service Unavailable"),
        (FaultKind::RedirectToLogin, 302, "Found"),
        (FaultKind::HtmlPage, 200, "<html"),
        (
            FaultKind::Json {
                status: 520,
                code: "GAIA_DA02".to_owned(),
                message: "locked".to_owned(),
            },
            520,
            "GAIA_DA02",
        ),
        (
            FaultKind::Status {
                status: 418,
                content_type: "text/plain".to_owned(),
                body: "teapot".to_owned(),
            },
            418,
            "teapot",
        ),
        (FaultKind::EarlyAnswer { status: 413 }, 413, "early"),
    ];
    let sim = client::start(TenantSettings::default()).await;
    for (place, (kind, status, text)) in cases.into_iter().enumerate() {
        let name = kind.name();
        sim.fault(Fault::once(kind));
        let body = format!(r#"{{"app":1,"record":{{"title":{{"value":"t{place}"}}}}}}"#);
        let answer = client::send(&sim, "POST", RECORD, &body).await;
        assert_eq!(answer.status, status, "{name}");
        let body = String::from_utf8_lossy(&answer.body);
        assert!(body.contains(text), "{name}: {body}");
    }
    let ledger = sim.ledger();
    assert_eq!((ledger.totals.executed, ledger.totals.faults), (0, 8));
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reset_after_executing_leaves_the_record() {
    let sim = client::start(TenantSettings::default()).await;
    sim.fault(Fault::once(FaultKind::ResetBeforeAnswer));
    assert_eq!(exchange(&sim, &post("before")).await, (Vec::new(), RESET));
    sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
    assert_eq!(exchange(&sim, &post("after")).await, (Vec::new(), RESET));
    let executed: Vec<bool> = sim.ledger().executions.iter().map(|e| e.executed).collect();
    assert_eq!(executed, [false, true]);
    let found = |title| format!("{RECORDS}&query=title=%22{title}%22");
    let records = |answer: client::Answer| answer.json()["records"].as_array().unwrap().len();
    assert_eq!(
        records(client::get(&sim, &found("before")).await.unwrap()),
        0
    );
    assert_eq!(
        records(client::get(&sim, &found("after")).await.unwrap()),
        1
    );
    assert_eq!(sim.accounting(HOST).in_process, 0);
}

#[tokio::test]
async fn answers_are_cut_at_the_byte() {
    let sim = client::start(TenantSettings::default()).await;
    for bytes in [1, 20, 150, 300] {
        sim.fault(Fault::once(FaultKind::ResetAfterBytes { bytes }));
        let get = format!(
            "GET {RECORDS} HTTP/1.1\r\nHost: {HOST}\r\nX-Cybozu-API-Token: demo-token\r\n\r\n"
        );
        let (got, end) = exchange(&sim, &get).await;
        assert_eq!((got.len() as u64, end), (bytes, RESET));
    }
    sim.fault(Fault::once(FaultKind::HalfBodyThenReset));
    let (got, end) = exchange(&sim, &post("half")).await;
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let announced: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!((body.len(), end), (announced / 2, RESET));
}

#[tokio::test]
async fn garbage_and_slowness() {
    let sim = client::start(TenantSettings::default()).await;
    sim.fault(Fault::once(FaultKind::Garbage));
    let (got, end) = exchange(&sim, &post("garbage")).await;
    assert!(got.starts_with(b"\x16\x03\x03 this is not HTTP"), "{got:?}");
    assert_eq!(end, None);

    let started = tokio::time::Instant::now();
    sim.fault(Fault::once(FaultKind::SlowHead { wait_ms: 100 }));
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(100));

    let whole = client::get(&sim, RECORDS).await.unwrap().body;
    let pieces = whole.len().div_ceil(200) as u32;
    let started = tokio::time::Instant::now();
    sim.fault(Fault::once(FaultKind::SlowBody {
        bytes: 200,
        tick_ms: 10,
    }));
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().body, whole);
    assert!(started.elapsed() >= Duration::from_millis(10) * pieces);
}

#[tokio::test]
async fn connections_end_without_a_word() {
    let sim = client::start(TenantSettings::default()).await;
    for kind in [
        FaultKind::CloseAfterAnswer,
        FaultKind::CloseIdle { after_ms: 50 },
    ] {
        let name = kind.name();
        sim.fault(Fault::once(kind));
        let (got, end) = exchange(&sim, &post(name)).await;
        let text = String::from_utf8(got).unwrap().to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 200 ok"), "{text}");
        assert!(!text.contains("connection:"), "{text}");
        assert!(text.ends_with(r#""revision":"1"}"#), "{text}");
        assert_eq!(end, None);
    }
}

#[tokio::test]
async fn stalls_last_until_the_client_goes() {
    let sim = client::start(TenantSettings::default()).await;
    for kind in [
        FaultKind::StallAfterBytes { bytes: 100 },
        FaultKind::AnswerThenStall,
        FaultKind::EndlessBody,
    ] {
        let name = kind.name();
        sim.fault(Fault::once(kind));
        let mut tls = client::connect(&sim, HOST).await.unwrap();
        tls.write_all(post(name).as_bytes()).await.unwrap();
        let mut got = [0; 100];
        tls.read_exact(&mut got).await.unwrap();
        drop(tls);
        while sim
            .ledger()
            .sockets
            .iter()
            .any(|socket| socket.closed.is_none())
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(sim.accounting(HOST).in_process, 0, "{name}");
    }
    let left: Vec<bool> = sim
        .ledger()
        .executions
        .iter()
        .map(|e| e.client_left)
        .collect();
    assert!(left[1] && left[2], "{left:?}");
}

#[tokio::test]
async fn the_interim_answer_can_be_refused_or_withheld() {
    let sim = client::start(TenantSettings::default()).await;
    let expecting =
        post("expect").replacen("Content-Type", "Expect: 100-continue\r\nContent-Type", 1);
    let (head, body) = expecting.split_at(expecting.find("\r\n\r\n").unwrap() + 4);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    for (kind, start) in [
        (None, format!("{interim}HTTP/1.1 200 OK")),
        (Some(FaultKind::NoContinue), "HTTP/1.1 200 OK".to_owned()),
        (
            Some(FaultKind::ExpectationFailed),
            "HTTP/1.1 417".to_owned(),
        ),
    ] {
        sim.tenant(HOST, TenantSettings::default());
        if let Some(kind) = kind {
            sim.fault(Fault::once(kind));
        }
        let mut tls = client::connect(&sim, HOST).await.unwrap();
        let arrived = sim.ledger().totals.requests + 1;
        tls.write_all(head.as_bytes()).await.unwrap();
        while sim.ledger().totals.requests < arrived {
            tokio::task::yield_now().await;
        }
        tls.write_all(body.as_bytes()).await.unwrap();
        let mut got = vec![0; start.len()];
        tls.read_exact(&mut got).await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), start);
    }
}

#[tokio::test]
async fn handshakes_fail_as_told() {
    let sim = client::start(TenantSettings::default()).await;
    for (kind, text) in [
        (FaultKind::TlsWrongName, "not valid for name"),
        (FaultKind::TlsExpired, "expired"),
        (FaultKind::TlsUntrusted, "UnknownIssuer"),
        (FaultKind::TlsAlert, "alert"),
        (FaultKind::TlsReset, "reset"),
    ] {
        let name = kind.name();
        sim.fault(Fault {
            domain: Some(HOST.to_owned()),
            ..Fault::once(kind)
        });
        let error = client::connect(&sim, HOST).await.unwrap_err().to_string();
        assert!(error.contains(text), "{name}: {error}");
    }
    let ledger = sim.ledger();
    assert_eq!(ledger.sockets.len(), 5);
    assert!(
        ledger
            .sockets
            .iter()
            .all(|socket| socket.sni.as_deref() == Some(HOST))
    );
    sim.fault(Fault::once(FaultKind::TlsStall));
    let stalled = tokio::time::timeout(Duration::from_millis(100), client::connect(&sim, HOST));
    assert!(stalled.await.is_err());
    sim.fault(Fault::once(FaultKind::TlsSlow { wait_ms: 50 }));
    let begun = std::time::Instant::now();
    client::connect(&sim, HOST).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn filters_skip_and_count() {
    let sim = client::start(TenantSettings::default()).await;
    sim.fault(Fault {
        path: Some("/k/v1/records*".to_owned()),
        method: Some("GET".to_owned()),
        skip: 1,
        count: Some(2),
        ..Fault::once(FaultKind::Unavailable)
    });
    let mut client = Client::new(&sim).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let form = client.get("/k/v1/app/form/fields.json?app=1").await;
        assert_eq!(form.unwrap().status, 200);
        statuses.push(client.get(RECORDS).await.unwrap().status.as_u16());
    }
    assert_eq!(statuses, [200, 503, 503, 200]);
    sim.fault(Fault::always(FaultKind::Overload));
    assert_eq!(client.get(RECORDS).await.unwrap().status, 502);
    sim.clear_faults();
    assert_eq!(client.get(RECORDS).await.unwrap().status, 200);
}
