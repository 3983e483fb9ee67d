//! Change in the day, on the program itself: reloads by the thousand, secrets that rotate, a drain
//! and its ways back, an end that nothing can hold up.

use std::time::Duration;

use kintone_egress::config::token::hash_token;
use kintone_sim::TenantSettings;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::process::Process;
use crate::support::caller::{ask_raw, fetch_plain, read};
use crate::support::crowd::flood;
use crate::support::{ACME, BATCH_TOKEN};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// What becomes of a thousand reloads, two thirds of them right.
const RELOADS: usize = 1000;

const QUICK_END: &str =
    "[drain]\nannounce = \"0s\"\ngrace = \"10s\"\n[log]\naccess = \"access.log\"\n";

/// Wrong files: what is put in the place of what, and what must be said of it.
const WRONG: [(&str, &str, &str); 8] = [
    ("[quota]", "[quota]\nconcurency = 7", "quota.concurency"),
    ("[quota]", "[quota]\nheadroom = -1", "quota.headroom"),
    ("[quota]", "[quota", "syntax"),
    (
        "priority = \"batch\"",
        "priority = \"urgent\"",
        "caller[1].priority",
    ),
    (
        "ca_file = \"ca.pem\"",
        "ca_file = \"absent.pem\"",
        "upstream.ca_file",
    ),
    (
        "[quota]",
        "[admin]\ntoken = { file = \"absent\" }\n[quota]",
        "admin.token",
    ),
    (
        "published = \"18.177.83.94\"",
        "published = \"18.177.83\"",
        "egress.address[0].published",
    ),
    ("name = \"nightly\"", "name = \"events\"", "caller[1].name"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_cost_no_call() {
    let mut tenant = TenantSettings::default();
    tenant.latency.base_ms = 5;
    let more = format!("{QUICK_END}[quota]\nrate = 0\n");
    let mut process = Process::start(tenant, &more).await;
    let caller = process.caller();
    let (stop, stopped) = tokio::sync::watch::channel(());
    let flooding = tokio::spawn(async move {
        let mut all = crate::support::crowd::Tally::default();
        while stopped.has_changed().is_ok() {
            let end = Instant::now() + Duration::from_millis(500);
            all.join(flood(&caller, 6, RECORDS, end).await);
        }
        all
    });
    let mut rotated = 0;
    let began = Instant::now();
    for number in 0..RELOADS {
        let by_signal = number % 2 == 1;
        if number % 3 == 2 {
            let (from, to, key) = WRONG[number / 3 % WRONG.len()];
            let wrong = process.config.replacen(from, to, 1);
            assert_ne!(wrong, process.config, "{key}");
            process.write_config(&wrong);
            let told = if by_signal {
                reload_by_signal(&process, "configuration refused").await
            } else {
                let answer = process.order("POST", "/api/v1/reload", None).await;
                assert_eq!(answer.status.as_u16(), 422, "{answer:?}");
                answer.json()
            };
            let faults = told["faults"].to_string();
            let place = faults.split_once("gateway.toml:").map(|(_, place)| place);
            let place = place.unwrap_or_else(|| panic!("{key}: {told}"));
            let parts: Vec<_> = place.splitn(4, ':').collect();
            assert!(
                parts[0].parse::<u32>().is_ok() && parts[1].parse::<u32>().is_ok(),
                "{told}"
            );
            assert!(faults.contains(key), "{key}: {told}");
        } else {
            let right = right(&process.config, number);
            process.write_config(&right);
            if by_signal {
                reload_by_signal(&process, "configuration in use").await;
            } else {
                let answer = process.order("POST", "/api/v1/reload", None).await;
                assert_eq!(answer.status.as_u16(), 200, "{answer:?}");
            }
        }
        if number % 100 == 99 {
            rotated += 1;
            let log = process.path("access.log");
            std::fs::rename(&log, process.path(&format!("access.log.{rotated}"))).unwrap();
            process.signal("USR1");
            process
                .until("the log is opened again", |_| log.exists())
                .await;
        }
    }
    let took = began.elapsed();
    drop(stop);
    let tally = flooding.await.unwrap();
    let calls = tally.of(200);
    println!(
        "{RELOADS} reloads in {took:?}, {calls} calls, {:?}",
        tally.statuses
    );
    assert!(
        tally.is_all_well(),
        "{:?}, {} broken",
        tally.statuses,
        tally.broken
    );
    assert!(
        calls >= RELOADS as u64,
        "too little load to say anything: {calls}"
    );
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
    let names = (1..=rotated).map(|number| format!("access.log.{number}"));
    let logs: String = names
        .chain(["access.log".to_owned()])
        .map(|name| process.read(&name))
        .collect();
    assert_eq!(
        logs.lines().count() as u64,
        calls,
        "each call has its line, in one of the logs"
    );
    assert!(process.sim.accounting(ACME).peak <= 80);
}

/// A right file that differs from the one before.
fn right(config: &str, number: usize) -> String {
    let token = format!("canary-rotated-{number}");
    let old = hash_token(BATCH_TOKEN.as_bytes()).to_hex();
    config
        .replace(&old, &hash_token(token.as_bytes()).to_hex())
        .replace(
            "[quota]",
            &format!(
                "[limits]\nconnections = {}\n[account.\"a{number}.cybozu.com\"]\nconcurrency = 50\n\
                 [account.\"acme.cybozu.com\".tenant.events]\nweight = {}\n[quota]\nqueue = {}",
                1000 + number,
                1 + number % 5,
                500 + number
            ),
        )
}

/// Sends SIGHUP and waits for the line that says what came of it.
async fn reload_by_signal(process: &Process, word: &str) -> Value {
    let before = process.stderr().matches("\"configuration ").count();
    process.signal("HUP");
    let count = |process: &Process| process.stderr().matches("\"configuration ").count();
    process
        .until("it is told", |process| count(process) > before)
        .await;
    let stderr = process.stderr();
    let line = stderr
        .lines()
        .rfind(|line| line.contains("\"configuration "))
        .unwrap();
    assert!(line.contains(word), "{line}");
    serde_json::from_str(line).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_in_files_rotate_and_what_needs_a_restart_is_named() {
    let more = format!(
        "{QUICK_END}[admin]\ntoken = {{ file = \"admin-token\" }}\n[fleet]\nhosts = [\"gw-a\"]\nhost = \"gw-a\"\n"
    );
    let token = |process: &Process, token: &str| {
        std::fs::write(process.path("admin-token"), format!("{token}\n")).unwrap();
    };
    let mut process = Process::start_with(TenantSettings::default(), &more, |folder| {
        std::fs::write(folder.join("admin-token"), "canary-admin-token-1\n").unwrap();
    })
    .await;
    let order = async |token: Option<&str>| process.order("POST", "/api/v1/reload", token).await;
    assert_eq!(order(None).await.status, 401);
    assert_eq!(order(Some("canary-admin-token-2")).await.status, 401);
    token(&process, "canary-admin-token-2");
    // Only a reload reads it.
    assert_eq!(order(Some("canary-admin-token-2")).await.status, 401);
    assert_eq!(order(Some("canary-admin-token-1")).await.status, 200);
    assert_eq!(order(Some("canary-admin-token-1")).await.status, 401);
    // One that is gone is a fault; the one in force stays.
    std::fs::remove_file(process.path("admin-token")).unwrap();
    let refused = order(Some("canary-admin-token-2")).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.json()["faults"].to_string().contains("admin.token"),
        "{refused:?}"
    );
    token(&process, "canary-admin-token-2");
    assert_eq!(
        order(Some("canary-admin-token-2")).await.json()["needs_restart"],
        serde_json::json!([])
    );

    let moved = process
        .config
        .replace("hosts = [\"gw-a\"]", "hosts = [\"gw-a\", \"gw-b\"]")
        .replace(
            "[drain]",
            "[quota]\nconcurrency = 90\n[state]\ndir = \"elsewhere\"\n[drain]",
        )
        .replace(
            "access = \"access.log\"",
            "access = \"other.log\"\nlevel = \"debug\"",
        )
        .replace(&process.metrics.to_string(), "127.0.0.1:9");
    process.write_config(&moved);
    let answer = order(Some("canary-admin-token-2")).await;
    assert_eq!(
        answer.json()["needs_restart"],
        serde_json::json!(["listen", "fleet.hosts", "state.dir", "log.access"])
    );
    assert_eq!(process.caller().get(RECORDS).await.status, 200);
    let (_, page) = process.page("/api/v1/accounts/acme.cybozu.com").await;
    let account: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        account["allowed"], 70,
        "the new quota, not divided by hosts that are not there: {page}"
    );
    let (_, page) = process.page("/api/v1/config").await;
    let config: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        config["fleet"]["hosts"],
        serde_json::json!(["gw-a"]),
        "what is in force"
    );
    assert_eq!(config["quota"]["concurrency"], 90);
    crate::support::caller::exchange_raw(process.proxy, b"no request\r\n\r\n").await;
    process
        .until("the new level is in force", |process| {
            process.stderr().contains("\"DEBUG\"")
        })
        .await;
    process
        .until("the call is logged where it was", |process| {
            process.read("access.log").lines().count() == 2
        })
        .await;
    assert!(!process.path("other.log").exists() && !process.path("elsewhere").exists());

    // The metrics listener reads and changes nothing, whatever is offered to it.
    for (path, status) in [
        ("/metrics", 200),
        ("/healthz", 200),
        ("/readyz", 200),
        ("/api/v1/config", 404),
        ("/", 404),
    ] {
        assert_eq!(fetch_plain(process.metrics, path).await.0, status, "{path}");
    }
    for (method, path) in [
        ("POST", "/api/v1/reload"),
        ("POST", "/api/v1/drain"),
        ("POST", "/metrics"),
    ] {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\
             Authorization: Bearer canary-admin-token-2\r\n\r\n"
        );
        let status = ask_raw(process.metrics, head.as_bytes()).await.status;
        assert!(matches!(status.as_u16(), 404 | 405), "{path}: {status}");
    }
    assert!(!process.stderr().contains("canary"));
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_announced_and_the_second_word_ends_at_once() {
    let more = "[drain]\nannounce = \"60s\"\ngrace = \"60s\"\n[log]\naccess = \"access.log\"\n";
    let mut process = Process::start(TenantSettings::default(), more).await;
    // Out of rotation and back.
    assert_eq!(
        process
            .order("POST", "/api/v1/drain?exit=false", None)
            .await
            .status,
        200
    );
    assert_eq!(process.page("/readyz").await.0, 503);
    assert_eq!(
        process.order("DELETE", "/api/v1/drain", None).await.status,
        200
    );
    assert_eq!(process.page("/readyz").await.0, 200);
    assert_eq!(
        process
            .order("POST", "/api/v1/drain?exit=perhaps", None)
            .await
            .status,
        400
    );

    let mut tunnel = process.caller().tunnel(ACME).await.unwrap();
    let inner = crate::support::caller::Caller::inner(
        http::Method::GET,
        ACME,
        "/k/v1/records.json?app=1",
        "",
    );
    read(tunnel.send_request(inner).await.unwrap())
        .await
        .unwrap();
    process.signal("TERM");
    process
        .until("it is told", |process| {
            process.stderr().contains("\"draining\"")
        })
        .await;
    assert_eq!(process.page("/readyz").await.0, 503);
    assert_eq!(process.page("/healthz").await.0, 200);
    let answer = process.caller().get(RECORDS).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("connection")),
        (200, "close")
    );
    // There is no way back from an end.
    for (method, path) in [("DELETE", "/api/v1/drain"), ("POST", "/api/v1/reload")] {
        let refused = process.order(method, path, None).await;
        assert_eq!(refused.status, 422, "{method} {path}: {refused:?}");
        assert!(
            refused.json()["faults"][0]
                .as_str()
                .unwrap()
                .contains("ending"),
            "{refused:?}"
        );
    }
    assert_eq!(
        process.order("POST", "/api/v1/drain", None).await.status,
        200,
        "it is under way"
    );
    process.signal("HUP");
    sleep(Duration::from_millis(100)).await;
    assert!(!process.has_ended());
    let told = Instant::now();
    process.signal("INT");
    assert_eq!(process.ended().await.code(), Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(20),
        "announce and grace are a minute each"
    );
    let log = process.read("access.log");
    assert_eq!(
        log.lines().count(),
        2,
        "the tunnel that was cut has its line too: {log}"
    );
    assert!(log.contains("drain_cut"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_neither_calls_nor_the_end() {
    let mut process = Process::start(TenantSettings::default(), QUICK_END).await;
    // A pipe that nobody writes to: who opens it waits for ever.
    std::fs::remove_file(process.path("gateway.toml")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(process.path("gateway.toml"))
        .status();
    assert!(made.unwrap().success());
    process.signal("HUP");
    let hanging = tokio::spawn({
        let admin = process.admin;
        let head = format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        async move { ask_raw(admin, head.as_bytes()).await.status.as_u16() }
    });
    sleep(Duration::from_millis(200)).await;
    assert_eq!(process.caller().get(RECORDS).await.status, 200);
    assert_eq!(
        process
            .order("POST", "/api/v1/drain?exit=false", None)
            .await
            .status,
        200
    );
    assert_eq!(
        process.order("DELETE", "/api/v1/drain", None).await.status,
        200
    );
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
    assert_eq!(
        hanging.await.unwrap(),
        503,
        "who waited for the reload is told"
    );
    assert_eq!(process.read("access.log").lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_anchors_are_read_again() {
    let process = Process::start(TenantSettings::default(), QUICK_END).await;
    let reload = async || process.order("POST", "/api/v1/reload", None).await;
    let ask = async |host: &str| {
        let url = format!("https://{host}.cybozu.com/k/v1/records.json?app=1");
        process.caller().get(&url).await
    };
    let good = process.read("ca.pem");
    assert_eq!(ask("acme").await.status, 200);
    let other = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
    std::fs::write(process.path("ca.pem"), other.cert.pem()).unwrap();
    assert_eq!(reload().await.status, 200);
    // Names that were not called yet, so that no connection of before is used.
    let refused = ask("one").await;
    assert_eq!(refused.code(), "GW_UPSTREAM_TLS", "{refused:?}");
    // A file without a certificate is a fault, and what is trusted stays as it is.
    for wrong in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        std::fs::write(process.path("ca.pem"), wrong).unwrap();
        let refused = reload().await;
        assert_eq!(refused.status, 422, "{wrong:?}: {refused:?}");
        let fault = refused.json()["faults"][0].as_str().unwrap().to_owned();
        assert!(
            fault.contains("upstream.ca_file") && fault.contains("ca.pem"),
            "{fault}"
        );
    }
    std::fs::write(process.path("ca.pem"), good).unwrap();
    assert_eq!(reload().await.status, 200);
    assert!(!ask("two").await.reason.starts_with("GW_"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_and_those_that_wait_for_it_go_on_over_a_reload() {
    let more = format!("{QUICK_END}[quota]\nrate = 1\nburst = 3\nqueue = 50\n");
    let process = Process::start(TenantSettings::default(), &more).await;
    let call = || {
        let caller = process.caller();
        tokio::spawn(async move {
            let answer = caller.get(RECORDS).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer
                .header("kintone-egress-queued-ms")
                .parse::<u64>()
                .unwrap()
        })
    };
    for _ in 0..3 {
        assert_eq!(call().await.unwrap(), 0, "a burst is let through at once");
    }
    let waiting = call();
    let queued = async || {
        let (_, page) = process.page("/api/v1/accounts/acme.cybozu.com").await;
        serde_json::from_str::<Value>(&page).unwrap()["queued"].clone()
    };
    while queued().await != 1 {}
    // Another queue leaves the limiter as it is; another rate does not give a new burst away.
    for (from, to) in [("queue = 50", "queue = 60"), ("rate = 1", "rate = 2")] {
        process.write_config(&process.config.replace(from, to));
        assert_eq!(
            process.order("POST", "/api/v1/reload", None).await.status,
            200
        );
    }
    let waited_ms = waiting.await.unwrap();
    assert!(waited_ms > 0, "it kept its place and waited on");
    let next_ms = call().await.unwrap();
    assert!(
        next_ms > 100,
        "half a second a token, and none was left: {next_ms} ms"
    );
}
