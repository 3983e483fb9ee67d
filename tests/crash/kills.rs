//! kill -9, again and again.

use std::time::Duration;

use kintone_sim::Latency;
use tokio::time::{Instant, sleep};

use crate::load::Load;
use crate::site::{Process, Site, until};
use crate::support::{ACME, API_TOKEN, BATCH_TOKEN, Plan, TOKEN, invariants};

/// Permits of the account.
const ALLOWED: u32 = 20;

/// Kills of one test.
const KILLS: usize = 50;

/// kintone goes on with a call for at most 300 ms, whatever becomes of its caller.
fn plan() -> Plan {
    let mut plan = Plan {
        quota: "concurrency = 30\nheadroom = 10\ninteractive_reserve = 0".into(),
        settle: "3s",
        grace: "100ms",
        ..Plan::default()
    };
    plan.tenant.concurrency = 30;
    plan.tenant.latency = Latency {
        base_ms: 150,
        jitter_ms: 150,
        ..Latency::default()
    };
    plan
}

/// Most calls of ours that kintone ever had at once, and that it had to refuse none.
fn check(site: &Site) -> u32 {
    let accounting = site.sim.accounting(ACME);
    assert!(
        accounting.peak <= ALLOWED,
        "{} calls at once, {ALLOWED} allowed",
        accounting.peak
    );
    assert_eq!((accounting.refused, accounting.over_limit_times), (0, 0));
    let ledger = site.sim.ledger();
    invariants::check_sockets(&ledger, &["127.0.1.94", "127.0.1.241"]);
    invariants::check_executions(&ledger);
    invariants::check_secrets(&site.said(), &[TOKEN, BATCH_TOKEN, API_TOKEN]);
    accounting.peak
}

/// How long the first call of a process took to kintone, from before its start, in milliseconds.
async fn first_call(site: &Site, process: &Process) -> u128 {
    let mut first = None;
    until("a call is admitted", async || {
        first = site.first_call_after(process.spawned);
        first.is_some()
    })
    .await;
    (first.unwrap() - process.spawned).as_millis()
}

/// Waits until the account has room, and then a while that differs from kill to kill.
async fn until_room(site: &Site, kill: usize) {
    until("there is room for new calls", async || {
        let inflight = site.figure("inflight").await;
        let settling = site.figure("settling").await;
        inflight.is_some_and(|inflight| inflight > 0 && inflight <= 14) && settling == Some(0)
    })
    .await;
    sleep(Duration::from_millis(kill as u64 * 37 % 120)).await;
}

/// Fewer calls than permits: those left behind do not fill the account, so the first call after a
/// start need not wait for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_admits_at_once_and_never_exceeds_the_limit() {
    let site = Site::new(&plan()).await;
    let load = Load::start(&site.caller(), 12);
    let (mut firsts, mut usual) = (Vec::new(), Vec::new());
    let mut taken_over = 0;
    let mut process = site.start();
    for kill in 0..KILLS {
        until_room(&site, kill).await;
        process.kill();
        process = site.start();
        firsts.push(first_call(&site, &process).await);
        taken_over += u64::from(site.figure("settling").await.unwrap_or(0) > 0);
        if kill % 5 == 4 {
            // A start that follows a drain, for comparison: whatever else the machine does.
            until_room(&site, kill).await;
            assert_eq!(process.drain().code(), Some(0));
            process = site.start();
            usual.push(first_call(&site, &process).await);
        }
    }
    load.stop().await;
    let peak = check(&site);
    assert_eq!(process.drain().code(), Some(0));
    firsts.sort_unstable();
    usual.sort_unstable();
    let (median, usual_median) = (firsts[KILLS / 2], usual[usual.len() / 2]);
    println!(
        "{KILLS} kills: first call at kintone after {} to {} ms, median {median} ms; after a drain \
         {usual_median} ms; calls taken over after {taken_over} of them; {peak} of {ALLOWED} at once",
        firsts[0],
        firsts[KILLS - 1]
    );
    assert!(taken_over > KILLS as u64 / 2, "kills under load");
    // What else the machine does makes starts late, the record does not.
    assert!(firsts[KILLS / 10] <= 100, "{firsts:?}");
    assert!(median <= 2 * usual_median.max(50), "{firsts:?}, {usual:?}");
}

/// More calls than permits: every permit is in use when the process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_account_stays_within_its_limit() {
    // Nothing runs that could tell that those left behind are over: time alone frees their permits.
    let settle = "2s";
    let site = Site::new(&Plan { settle, ..plan() }).await;
    let load = Load::start(&site.caller(), 60);
    let mut process = site.start();
    for kill in 0..5 {
        first_call(&site, &process).await;
        sleep(Duration::from_millis(kill as u64 * 97 % 700)).await;
        process.kill();
        process = site.start();
    }
    first_call(&site, &process).await;
    sleep(Duration::from_secs(1)).await;
    load.stop().await;
    assert_eq!(check(&site), ALLOWED, "the account was full");
    assert_eq!(process.drain().code(), Some(0));
}

/// What these tests would see without the record: the control.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_state_a_killed_gateway_exceeds_the_limit() {
    let site = Site::new(&plan()).await;
    let load = Load::start(&site.caller(), 60);
    let mut peak = 0;
    for _ in 0..10 {
        let process = site.start();
        first_call(&site, &process).await;
        process.kill();
        std::fs::remove_dir_all(site.state()).unwrap();
        peak = peak.max(site.sim.accounting(ACME).peak);
        if peak > ALLOWED {
            break;
        }
    }
    load.stop().await;
    assert!(peak > ALLOWED, "these tests see nothing: {peak}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_on_one_directory_refuse() {
    let site = Site::new(&plan()).await;
    let process = site.start();
    site.until_serving().await;
    let begun = Instant::now();
    let second = site.serve().status().unwrap();
    assert_eq!(second.code(), Some(1), "after {:?}", begun.elapsed());
    let said = site.said();
    let line = said
        .lines()
        .find(|line| line.contains("another gateway runs on it"))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("[state] dir = ") && line.contains("end that one first"));
    assert_eq!(process.drain().code(), Some(0));
}
