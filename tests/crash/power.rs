//! The end of the machine: another boot id, and a short uptime.

use std::path::Path;
use std::time::Duration;

use http::{HeaderValue, Method};
use kintone_egress::config::file::{Environment, Loaded, load};
use kintone_egress::gateway::{Gateway, Signal, Source};
use kintone_egress::telemetry::access_log::AccessLogHandle;
use kintone_sim::Latency;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::load::Load;
use crate::site::{Site, until};
use crate::support::caller::{ask_raw, fetch_plain};
use crate::support::{ACME, Plan};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

fn plan() -> Plan {
    let mut plan = Plan {
        quota: "concurrency = 30\nheadroom = 10\ninteractive_reserve = 0".into(),
        settle: "3s",
        ..Plan::default()
    };
    plan.tenant.latency = Latency {
        base_ms: 400,
        ..Latency::default()
    };
    plan
}

/// What a kernel says that was booted `up` ago.
fn booted(dir: &Path, boot_id: &str, up: &str) {
    let random = dir.join("proc/sys/kernel/random");
    std::fs::create_dir_all(&random).unwrap();
    std::fs::write(random.join("boot_id"), boot_id).unwrap();
    std::fs::create_dir_all(dir.join("etc")).unwrap();
    std::fs::write(dir.join("etc/machine-id"), "1f").unwrap();
    std::fs::write(dir.join("proc/uptime"), format!("{up} 0.00\n")).unwrap();
}

/// A gateway that serves.
struct Booted {
    signals: mpsc::Sender<Signal>,
    running: JoinHandle<()>,
}

/// A gateway of this process, on a kernel of the test's choice, which serves nobody yet.
fn build(site: &Site, boot_id: &str, up: &str) -> Gateway {
    let root = site.path("root");
    booted(&root, boot_id, up);
    let environment = Environment {
        root: Some(root),
        ..Environment::default()
    };
    let path = site.path("gateway.toml");
    let Loaded { config, .. } = load(&path, &environment).unwrap();
    let source = Source { path, environment };
    Gateway::build(config, source, AccessLogHandle::off()).unwrap()
}

impl Booted {
    fn start(site: &Site, boot_id: &str, up: &str) -> Self {
        let gateway = build(site, boot_id, up);
        let (signals, receiver) = mpsc::channel(1);
        let running = tokio::spawn(async move {
            gateway.run(receiver).await.unwrap();
        });
        Self { signals, running }
    }

    async fn drain(self) {
        self.signals.send(Signal::End).await.unwrap();
        self.running.await.unwrap();
    }
}

/// A host whose machine loses power under load.
async fn site_without_power() -> Site {
    let site = Site::new(&plan()).await;
    let load = Load::start(&site.caller(), 12);
    let process = site.start();
    until("calls are in flight", async || {
        site.sim.accounting(ACME).in_process >= 6
    })
    .await;
    process.kill();
    load.stop().await;
    // Not every machine that tests has a machine id: from here on this one has.
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let gateway = build(&site, &boot_id, "1000.00");
    assert_eq!(gateway.quotas().unknown_for(), None);
    assert!(gateway.quotas().balance().held >= 6, "calls taken over");
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_power_loss_calls_wait_and_readyz_says_for_what() {
    let site = site_without_power().await;
    let begun = Instant::now();
    let gateway = Booted::start(&site, "0f0f0f0f-0000-0000-0000-000000000001", "1.00");
    let (status, page) = fetch_plain(site.admin, "/readyz").await;
    assert_eq!(status, 503, "{page}");
    assert!(
        page.contains("calls wait 2 s more") && page.contains("settle"),
        "{page}"
    );
    let ready = format!(
        "GET /.kintone-egress/ready HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.proxy
    );
    let answer = ask_raw(site.proxy, ready.as_bytes()).await;
    assert_eq!(answer.status.as_u16(), 503);

    let caller = site.caller();
    let mut impatient = caller.request(Method::GET, RECORDS, "");
    let wait = HeaderValue::from_static("500");
    impatient
        .headers_mut()
        .insert("kintone-egress-max-wait-ms", wait);
    let refused = caller.send(impatient).await.unwrap();
    assert_eq!(
        (refused.status.as_u16(), &*refused.code()),
        (429, "GW_WAIT_EXCEEDED")
    );
    assert_eq!(
        refused.header("kintone-egress-queued-ms"),
        "0",
        "told at once"
    );
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!(site.figure("settling").await, Some(30), "the whole limit");

    let patient = caller.get(RECORDS).await;
    assert_eq!(patient.status.as_u16(), 200);
    let waited = site.first_call_after(begun).unwrap() - begun;
    println!("power loss, up 1 s, settle 3 s: first call after {waited:?}");
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
    let (status, page) = fetch_plain(site.admin, "/readyz").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(site.figure("settling").await, Some(0));
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_does_not_shorten_the_wait_after_a_power_loss() {
    let site = site_without_power().await;
    let boot_id = "0f0f0f0f-0000-0000-0000-000000000002";
    for up in ["0.50", "1.50"] {
        // Built and gone again, as by a kill.
        let gateway = build(&site, boot_id, up);
        let left = gateway.quotas().unknown_for().unwrap();
        let up = Duration::from_secs_f64(up.parse().unwrap());
        let whole = Duration::from_secs(3) - up;
        assert!(left <= whole && left > whole / 2, "{left:?} of {whole:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_took_long_to_boot_need_not_wait() {
    let site = site_without_power().await;
    let gateway = Booted::start(&site, "0f0f0f0f-0000-0000-0000-000000000003", "3.01");
    let (status, page) = fetch_plain(site.admin, "/readyz").await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(site.caller().get(RECORDS).await.status.as_u16(), 200);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_gateway_leaves_a_record_that_outlives_the_machine() {
    let site = Site::new(&plan()).await;
    let process = site.start();
    site.until_serving().await;
    assert_eq!(site.caller().get(RECORDS).await.status.as_u16(), 200);
    assert_eq!(process.drain().code(), Some(0));
    let gateway = Booted::start(&site, "0f0f0f0f-0000-0000-0000-000000000004", "0.10");
    assert_eq!(fetch_plain(site.admin, "/readyz").await.0, 200);
    assert_eq!(site.caller().get(RECORDS).await.status.as_u16(), 200);
    gateway.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_gone_or_broken_costs_a_wait_and_is_told() {
    let site = Site::new(&plan()).await;
    let flight = site.state().join("flight");
    for (what, told) in [
        ("gone", "the flight record is gone"),
        ("broken", "kept as flight.damaged"),
    ] {
        let process = site.start();
        site.until_serving().await;
        assert_eq!(process.drain().code(), Some(0));
        match what {
            "gone" => std::fs::remove_file(&flight).unwrap(),
            _ => std::fs::write(&flight, "no record").unwrap(),
        }
        let process = site.start();
        site.until_serving().await;
        let (status, page) = fetch_plain(site.admin, "/readyz").await;
        assert_eq!(status, 503, "{what}: {page}");
        assert!(site.said().contains(told), "{what}: {}", site.said());
        process.kill();
    }
}
