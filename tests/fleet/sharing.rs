//! Two gateways, one limit, a real store: what either gets, and what they cost the store.

use std::time::Duration;

use kintone_sim::{Latency, TenantSettings};
use tokio::time::{Instant, sleep};

use crate::pair::{Pair, Wish, until};
use crate::store::Store;
use crate::support::ACME;
use crate::support::crowd::flood;

const RECORDS: &str = "http://acme.cybozu.com/k/v1/records.json?app=1";
const PATIENCE: Duration = Duration::from_secs(20);

fn slow(ms: u64) -> TenantSettings {
    TenantSettings {
        latency: Latency::Fixed(Duration::from_millis(ms)),
        ..TenantSettings::default()
    }
}

fn wish(store: &Store) -> Wish {
    Wish {
        tenant: slow(200),
        ..Wish::new(store.url_of_user())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_busy_host_of_two_has_nearly_all_within_a_second_and_both_share_all() {
    let store = Store::with_acl();
    let pair = Pair::new(wish(&store)).await;
    let (a, b) = (pair.start("gw-a").await, pair.start("gw-b").await);
    sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let busy = {
        let caller = a.caller();
        tokio::spawn(
            async move { flood(&caller, 150, RECORDS, begun + Duration::from_secs(6)).await },
        )
    };
    let took = until("one host has 95", PATIENCE, || a.allowed() >= 95).await;
    println!("95 permits after {took:?}");
    sleep(Duration::from_millis(3000).saturating_sub(begun.elapsed())).await;
    let accounting = pair.sim.accounting(ACME);
    let mean = accounting.mean_between(begun + Duration::from_secs(1), Instant::now());
    println!("in flight of one busy host: {mean:.1}");
    let caller = b.caller();
    let both = begun + Duration::from_secs(6);
    let other = tokio::spawn(async move { flood(&caller, 150, RECORDS, both).await });
    sleep(Duration::from_millis(4000).saturating_sub(begun.elapsed())).await;
    let shared = [a.allowed(), b.allowed()];
    println!("both busy: {shared:?}");
    let from = Instant::now();
    sleep(Duration::from_millis(1500)).await;
    let accounting = pair.sim.accounting(ACME);
    let mean_both = accounting.mean_between(from, Instant::now());
    println!("in flight of both: {mean_both:.1}");
    let (one, two) = (busy.await.unwrap(), other.await.unwrap());
    assert!(one.is_all_well() && two.is_all_well(), "{one:?} {two:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(shared.iter().sum::<u32>() >= 96, "{shared:?}");
    a.leave().await;
    b.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_not_grow_with_calls() {
    let store = Store::with_acl();
    let pair = Pair::new(Wish {
        tenant: slow(20),
        ..wish(&store)
    })
    .await;
    let (a, b) = (pair.start("gw-a").await, pair.start("gw-b").await);
    sleep(Duration::from_secs(1)).await;
    let before = store.commands();
    let begun = Instant::now();
    let end = begun + Duration::from_secs(6);
    let (one, two) = (a.caller(), b.caller());
    // One of them comes and goes, so that permits are handed over and back.
    let first = tokio::spawn(async move { flood(&one, 120, RECORDS, end).await });
    let second = tokio::spawn(async move {
        let mut calls = 0;
        while Instant::now() < end {
            calls += flood(
                &two,
                60,
                RECORDS,
                Instant::now() + Duration::from_millis(400),
            )
            .await
            .of(200);
            sleep(Duration::from_millis(400)).await;
        }
        calls
    });
    let calls = first.await.unwrap().of(200) + second.await.unwrap();
    let commands = store.commands() - before;
    let per_s = commands as f64 / begun.elapsed().as_secs_f64() / 2.0;
    println!("{calls} calls, {commands} commands: {per_s:.1} a second and host");
    // What was saved up may be spent besides.
    assert!(per_s <= 15.0 + 40.0 / 6.0, "{per_s}");
    assert!(calls > commands * 4, "{calls} calls, {commands} commands");
    a.leave().await;
    b.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_each_keeps_its_part_and_shares_again_when_it_is_back() {
    let mut store = Store::start(&[]);
    let pair = Pair::new(Wish {
        fleet: "loan = \"3s\"\noverrun = \"1s\"\n".to_owned(),
        redis: store.url(),
        ..wish(&store)
    })
    .await;
    let (a, b) = (pair.start("gw-a").await, pair.start("gw-b").await);
    let caller = a.caller();
    let begun = Instant::now();
    let end = begun + Duration::from_secs(16);
    let busy = tokio::spawn(async move { flood(&caller, 150, RECORDS, end).await });
    until("one host has 95", PATIENCE, || a.allowed() >= 95).await;
    store.kill();
    let lapsed = until("the loan has ended", PATIENCE, || a.allowed() == 49).await;
    println!("49 permits {lapsed:?} after the store was gone");
    assert!(lapsed <= Duration::from_secs(4), "{lapsed:?}");
    sleep(Duration::from_secs(3)).await;
    assert_eq!(a.allowed(), 49);
    store.resume();
    let back = until("they share again", PATIENCE, || a.allowed() >= 95).await;
    println!("shared again {back:?} after the store's return");
    let tally = busy.await.unwrap();
    assert!(tally.is_all_well(), "{tally:?}");
    a.leave().await;
    b.leave().await;
    pair.check();
}
