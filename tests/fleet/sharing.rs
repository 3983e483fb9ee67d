//! Two gateways, one limit, a real store: what either gets, and what they cost the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kintone_sim::TenantSettings;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::pair::{Pair, Wish, until};
use crate::process::Process;
use crate::store::Store;
use crate::support::ACME;
use crate::support::crowd::{Tally, flood, flood_while};

pub(crate) const RECORDS: &str = "http://acme.cybozu.com/k/v1/records.json?app=1";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn slow(base_ms: u64) -> TenantSettings {
    let mut tenant = TenantSettings::default();
    tenant.latency.base_ms = base_ms;
    tenant
}

/// Calls at kintone on average, by its own account: the most of the windows up to the first with
/// `enough`. Others' load on the machine can only make it less.
async fn at_kintone(pair: &Pair, enough: f64) -> f64 {
    let mut best = 0.0_f64;
    for _ in 0..4 {
        if best >= enough {
            break;
        }
        pair.sim.restart_accounting(ACME);
        sleep(Duration::from_secs(3)).await;
        let seen = pair.sim.accounting(ACME);
        best = best.max(seen.busy_seconds / seen.elapsed_seconds);
    }
    best
}

/// The host's callers begin; how long until so many of their calls are at kintone.
async fn rush(pair: &Pair, host: &Process, calls: u32) -> (Duration, Busy) {
    let (busy, begun) = (Busy::begin(host), Instant::now());
    let are_there = || pair.sim.accounting(ACME).in_process >= calls;
    until("they are at kintone", PATIENCE, are_there).await;
    (begun.elapsed(), busy)
}

/// Callers of a host, more than there are permits, until they are told to stop.
pub(crate) struct Busy {
    goes_on: Arc<AtomicBool>,
    calling: JoinHandle<Tally>,
}

impl Busy {
    pub(crate) fn begin(host: &Process) -> Self {
        let (caller, goes_on) = (host.caller(), Arc::new(AtomicBool::new(true)));
        let told = Arc::clone(&goes_on);
        let calling = tokio::spawn(async move {
            flood_while(&caller, 150, RECORDS, move || told.load(Ordering::Relaxed)).await
        });
        Self { goes_on, calling }
    }

    /// Each ends with the answer that it waits for.
    pub(crate) async fn stop(self) -> Tally {
        self.goes_on.store(false, Ordering::Relaxed);
        self.calling.await.unwrap()
    }
}

/// Calls take so long that what a slow machine needs between two of them hardly counts, and end one by
/// one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_busy_host_of_two_has_nearly_all_within_a_second_and_both_share_all() {
    let store = Store::with_acl();
    let mut tenant = slow(1500);
    tenant.latency.jitter_ms = 1000;
    let pair = Pair::new(Wish {
        tenant,
        // What was lent is soon back when nobody wants it any more; while it is wanted, nothing changes.
        fleet: "loan = \"2s\"\n".to_owned(),
        ..Wish::new(store.url_of_user())
    })
    .await;
    let [a, b] = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    // Connections are made, which takes a slow machine its time; then all is as before.
    let (first, busy) = rush(&pair, &a, 95).await;
    assert!(busy.stop().await.is_all_well());
    // Of an account in which nothing is lent, hosts do not speak.
    for host in [&a, &b] {
        host.until_usable(PATIENCE, |permits| permits == 0).await;
    }
    let (took, busy) = rush(&pair, &a, 95).await;
    println!("95 calls at kintone after {took:?}, {first:?} without connections");
    let alone = at_kintone(&pair, 94.0).await;
    println!("calls at kintone, one busy host: {alone:.1}");
    let other = Busy::begin(&b);
    let halves = b.until_usable(PATIENCE, |permits| permits == 49).await;
    println!("halves after {halves:?}");
    let shared = at_kintone(&pair, 0.97 * 98.0).await;
    println!("calls at kintone, both busy: {shared:.1}");
    let (one, two) = (busy.stop().await, other.stop().await);
    println!("answers {:?} {:?}", one.statuses, two.statuses);
    assert!(one.is_all_well() && two.is_all_well());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(alone >= 94.0 && shared >= 0.97 * 98.0, "{alone} {shared}");
    pair.check();
}

/// Commands by name since the store began, but for those of redis-cli.
fn commands_of_hosts(store: &Store) -> u64 {
    let names = ["set", "mget", "publish", "subscribe"];
    names.iter().map(|name| store.calls_of(name)).sum()
}

/// Calls answered and commands sent in `span` while both hosts are busy.
async fn cost(store: &Store, pair: &Pair, span: Duration) -> (u64, u64) {
    let (calls, commands) = (pair.sim.accounting(ACME).admitted, commands_of_hosts(store));
    sleep(span).await;
    let calls = pair.sim.accounting(ACME).admitted - calls;
    (calls, commands_of_hosts(store) - commands)
}

/// First both are busy, with few calls and with many; then permits are handed over and back all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_costs_no_command_and_hand_overs_no_more_than_fifteen_a_second() {
    const SPAN: Duration = Duration::from_secs(6);
    let store = Store::start(&[]);
    let pair = Pair::new(Wish {
        tenant: slow(2000),
        quota: "concurrency = 100\nheadroom = 2\ninteractive_reserve = 0\nmax_wait = \"60s\"\n"
            .to_owned(),
        ..Wish::new(store.url())
    })
    .await;
    let [a, b] = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    let (first, second) = (Busy::begin(&a), Busy::begin(&b));
    b.until_usable(PATIENCE, |permits| permits == 49).await;
    sleep(Duration::from_secs(2)).await;
    let (before, begun) = (commands_of_hosts(&store), Instant::now());
    let (few, of_few) = cost(&store, &pair, SPAN).await;
    pair.sim.update(ACME, |tenant| tenant.latency.base_ms = 10);
    sleep(Duration::from_secs(3)).await;
    let (many, of_many) = cost(&store, &pair, SPAN).await;
    println!("{few} calls, {of_few} commands; {many} calls, {of_many} commands");
    let second = second.stop().await;
    assert!(second.is_all_well(), "{:?}", second.statuses);
    // Now one of them comes and goes.
    let is_over = Arc::new(AtomicBool::new(false));
    let (caller, told) = (b.caller(), Arc::clone(&is_over));
    let coming = tokio::spawn(async move {
        let mut tally = Tally::default();
        while !told.load(Ordering::Relaxed) {
            let soon = Instant::now() + Duration::from_millis(400);
            tally.join(flood(&caller, 60, RECORDS, soon).await);
            sleep(Duration::from_millis(400)).await;
        }
        tally
    });
    sleep(SPAN).await;
    let all = commands_of_hosts(&store) - before;
    let per_s = all as f64 / begun.elapsed().as_secs_f64() / 2.0;
    println!("{per_s:.1} commands a second and host, all in all");
    is_over.store(true, Ordering::Relaxed);
    assert!(coming.await.unwrap().is_all_well() && first.stop().await.is_all_well());
    assert!(many >= few * 5, "{few} and {many} calls");
    // Beats that fall into the one span and not into the other.
    assert!(of_many <= of_few + 8, "{of_few} and {of_many} commands");
    assert!(per_s <= 15.0, "{per_s}");
    pair.check();
}
