//! The calls of a day are those of all hosts.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::pair::{Host, Pair, Wish};
use crate::store::Store;
use crate::support::ACME;
use crate::support::caller::Caller;

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";
const FILE: &str = "https://acme.cybozu.com/k/v1/file.json?fileKey=x";
const PATIENCE: Duration = Duration::from_secs(30);

fn wish(store: &Store, quota: &str) -> Wish {
    let usual = Wish::new(store.url_of_user());
    Wish {
        quota: format!("{}daily_per_app = 40\n{quota}", usual.quota),
        fleet: "side_every = \"2s\"\n".to_owned(),
        ..usual
    }
}

async fn today(host: &Host) -> Value {
    let page = host.json(&format!("/api/v1/accounts/{ACME}")).await;
    page["apps_today"].clone()
}

async fn until_today(host: &Host, calls: u64) {
    // kintone does not count it; an account that is in use on a host is shown there.
    host.caller().get(FILE).await;
    let expected = json!([{"app": 1, "requests": calls}]);
    let begun = Instant::now();
    loop {
        let shown = today(host).await;
        if shown == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{shown}, never {expected}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Makes so many calls; how many went through.
async fn call(caller: &Caller, calls: u32) -> u32 {
    let mut passed = 0;
    for _ in 0..calls {
        let answer = caller.get(RECORDS).await;
        match answer.status.as_u16() {
            200 => passed += 1,
            429 => assert_eq!(answer.code(), "GW_DAILY_BUDGET"),
            other => panic!("{other}"),
        }
    }
    passed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enforced_budget_is_one_for_both_hosts_and_either_may_use_nearly_all() {
    let store = Store::with_acl();
    let pair = Pair::new(wish(&store, "daily_policy = \"enforce\"\n")).await;
    let (a, b) = (pair.start("gw-a"), pair.start("gw-b"));
    assert_eq!(call(&b.caller(), 5).await, 5);
    until_today(&a, 5).await;
    // More than half of the budget, and no more than is left of it.
    assert_eq!(call(&a.caller(), 60).await, 35);
    until_today(&b, 40).await;
    assert_eq!(call(&b.caller(), 3).await, 0);
    let sample = format!("kintone_egress_app_requests_today{{account=\"{ACME}\",app=\"1\"}}");
    for host in [&a, &b] {
        assert_eq!(host.metric(&sample).await, Some(40.0));
    }
    assert_eq!(pair.sim.accounting(ACME).requests_today[&1], 40);
    // What gw-a has told stands when it is gone, and for a gw-b that starts then.
    a.leave().await;
    b.leave().await;
    let b = pair.start("gw-b");
    until_today(&b, 40).await;
    assert_eq!(call(&b.caller(), 3).await, 0);
    b.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_lost_the_store_keep_within_the_budget() {
    let mut store = Store::start(&[]);
    let mut wish = wish(&store, "daily_policy = \"enforce\"\n");
    wish.redis = store.url();
    let pair = Pair::new(wish).await;
    let (a, b) = (pair.start("gw-a"), pair.start("gw-b"));
    assert_eq!(call(&b.caller(), 4).await, 4);
    until_today(&a, 4).await;
    assert_eq!(call(&a.caller(), 6).await, 6);
    until_today(&b, 10).await;
    store.kill();
    // Four rounds of two seconds, and one that is under way.
    sleep(Duration::from_secs(12)).await;
    assert_eq!(call(&a.caller(), 60).await, 15);
    assert_eq!(call(&b.caller(), 60).await, 15);
    assert_eq!(pair.sim.accounting(ACME).requests_today[&1], 40);
    store.resume();
    until_today(&a, 40).await;
    until_today(&b, 40).await;
    a.leave().await;
    b.leave().await;
    pair.check();
}
