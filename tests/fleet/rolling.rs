//! A third host, and another limit, while calls go on by real processes: never more than allowed.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::pair::{Pair, Wish, until};
use crate::process::Process;
use crate::sharing::{Busy, PATIENCE, slow};
use crate::store::Store;
use crate::support::ACME;

/// While something changes, calls go on for so long.
const WHILE: Duration = Duration::from_secs(2);

fn wish(store: &Store) -> Wish {
    let mut tenant = slow(150);
    tenant.latency.jitter_ms = 100;
    Wish {
        tenant,
        quota: quota(100),
        fleet: "loan = \"3s\"\noverrun = \"1s\"\n".to_owned(),
        ..Wish::new(store.url())
    }
}

fn quota(limit: u32) -> String {
    format!("concurrency = {limit}\nheadroom = 2\ninteractive_reserve = 0\nmax_wait = \"60s\"\n")
}

/// Waits until at most, or at least, so many calls are at kintone at once for a second.
async fn until_at_once(pair: &Pair, what: &str, is_right: impl Fn(u32) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        pair.sim.restart_accounting(ACME);
        sleep(Duration::from_secs(1)).await;
        let peak = pair.sim.accounting(ACME).peak;
        if is_right(peak) {
            println!("{what}: {peak} at once");
            return;
        }
        assert!(Instant::now() < deadline, "never {what}: {peak} at once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_host_joins_two_that_are_busy_and_all_three_share_what_there_is() {
    let store = Store::start(&[]);
    let pair = Pair::new(wish(&store)).await;
    let three = Wish {
        hosts: &["gw-a", "gw-b", "gw-c"],
        ..pair.wish.clone()
    };
    let hosts = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    let [a, b] = &hosts;
    let [of_a, of_b] = [a, b].map(Busy::begin);
    let at_kintone = || pair.sim.accounting(ACME).in_process;
    until("two share all", PATIENCE, || at_kintone() >= 97).await;
    let c = Process::start(&pair, "gw-c", &three);
    let of_c = Busy::begin(&c);
    sleep(WHILE).await;
    let [mut a, mut b] = hosts;
    let mut over = Vec::new();
    // One after the other is started again with the new file.
    over.push(of_a.stop().await);
    a.end();
    a = Process::start(&pair, "gw-a", &three);
    let of_a = Busy::begin(&a);
    sleep(WHILE).await;
    over.push(of_b.stop().await);
    b.end();
    b = Process::start(&pair, "gw-b", &three);
    let of_b = Busy::begin(&b);
    for (host, part) in [(&a, 33), (&b, 33), (&c, 32)] {
        host.until_usable(PATIENCE, |permits| permits == part).await;
    }
    until("three share all", PATIENCE, || at_kintone() >= 97).await;
    for busy in [of_a, of_b, of_c] {
        over.push(busy.stop().await);
    }
    for tally in &over {
        assert!(tally.is_all_well(), "{:?}", tally.statuses);
    }
    println!("{} at once at most", pair.sim.accounting(ACME).peak);
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_lowered_and_raised_host_by_host_under_load() {
    let store = Store::start(&[]);
    let pair = Pair::new(wish(&store)).await;
    let lower = Wish {
        quota: quota(50),
        ..pair.wish.clone()
    };
    let hosts = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    let [of_a, of_b] = [&hosts[0], &hosts[1]].map(Busy::begin);
    let reload = |host: usize, wish: &Wish| {
        let name = ["gw-a", "gw-b"][host];
        pair.configure(name, name, wish);
        hosts[host].signal("HUP");
    };
    until_at_once(&pair, "all of 98", |peak| peak == 98).await;
    reload(0, &lower);
    until_at_once(&pair, "the smaller one counts", |peak| peak <= 48).await;
    reload(1, &lower);
    sleep(WHILE).await;
    until_at_once(&pair, "all of 48", |peak| peak == 48).await;
    reload(0, &pair.wish);
    sleep(WHILE).await;
    until_at_once(&pair, "the smaller one still counts", |peak| peak <= 48).await;
    reload(1, &pair.wish);
    until_at_once(&pair, "all of 98 again", |peak| peak == 98).await;
    let (one, two) = (of_a.stop().await, of_b.stop().await);
    println!("answers {:?} {:?}", one.statuses, two.statuses);
    assert!(one.is_all_well() && two.is_all_well());
    pair.check();
}
