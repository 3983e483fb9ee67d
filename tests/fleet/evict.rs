//! A host that dies for good: what the others have until it is evicted, after it, and when it returns.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::operate::{command, until_fleet};
use crate::pair::{Host, Pair, Wish, until};
use crate::process::Process;
use crate::sharing::{RECORDS, slow};
use crate::store::Store;
use crate::support::crowd::flood;

/// Longest wait for anything that has no figure of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// `[fleet] evict_after`: a little more than what `overrun`, `settle`, the kernel's 20 s and a tenth
/// make, so that an eviction that is allowed is in force at once, as it is by the defaults.
const EVICT_AFTER: Duration = Duration::from_secs(28);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_died_is_evicted_its_part_is_used_and_given_back_when_it_is_admitted() {
    let store = Store::with_acl();
    let wish = Wish {
        tenant: slow(100),
        fleet: format!(
            "loan = \"3s\"\noverrun = \"1s\"\nevict_after = \"{}s\"\n",
            EVICT_AFTER.as_secs()
        ),
        ..Wish::new(store.url_of_user())
    };
    let pair = Pair::new(wish).await;
    let (a, died) = bereft(&pair).await;
    let (caller, busy_until) = (a.caller(), died + Duration::from_secs(50));
    let busy = tokio::spawn(async move { flood(&caller, 150, RECORDS, busy_until).await });
    let (status, said) = command(&a, &["evict", "gw-b", "--stopped"]).await;
    assert!(
        status == Some(3) && said.contains("was seen") && said.contains("evict_after"),
        "{status:?} {said}"
    );
    let back = until("its own part is back", PATIENCE, || a.allowed() >= 49).await;
    println!("the survivor's own part is back {back:?} after the death");
    // The defaults' loans last 15 s longer.
    assert!(back <= Duration::from_secs(30), "{back:?}");
    // Its last word may have been read a beat or two after it died.
    tokio::time::sleep_until(died + EVICT_AFTER + Duration::from_secs(2)).await;
    assert_eq!(
        a.allowed(),
        49,
        "without a word nobody has the dead one's part"
    );
    let ordered = Instant::now();
    let (status, said) = command(&a, &["evict", "gw-b", "--stopped"]).await;
    assert!(
        status == Some(0) && said.contains("fleet admit gw-b"),
        "{said}"
    );
    until("the survivor has all", PATIENCE, || a.allowed() == 98).await;
    let all = ordered.elapsed();
    println!("all permits {all:?} after the order to evict");
    assert!(all <= Duration::from_secs(2), "{all:?}");
    until_fleet(&a, "the eviction is in force", |fleet| {
        fleet["in_force"] == true
            && fleet["evicted"] == serde_json::json!(["gw-b"])
            && fleet["peers"][0]["evicted"] == true
            && fleet["permits"]["own"] == 98
    })
    .await;
    let (status, said) = command(&a, &["evict", "gw-b", "--stopped"]).await;
    assert!(
        status == Some(3) && said.contains("evicted already"),
        "{said}"
    );
    // It comes back without being admitted: it knows, takes nothing, and says what is to be done.
    let b = Process::start(&pair, "gw-b", &pair.wish);
    until_ready(&b, 503, "kintone-egress fleet admit gw-b").await;
    assert_eq!((b.permits("own").await, a.allowed()), (0, 98));
    let (status, said) = command(&a, &["admit", "gw-b"]).await;
    assert!(status == Some(0) && said.contains("is admitted"), "{said}");
    until_ready(&b, 200, "").await;
    let both_until = Instant::now() + Duration::from_secs(5);
    let of_returned = b.caller();
    let other = tokio::spawn(async move { flood(&of_returned, 150, RECORDS, both_until).await });
    until("both have their half", PATIENCE, || a.allowed() == 49).await;
    assert_eq!(b.permits("own").await, 49);
    let (of_b, of_a) = (other.await.unwrap(), busy.await.unwrap());
    println!("answers {:?} {:?}", of_a.statuses, of_b.statuses);
    assert!(of_a.is_all_well() && of_b.is_all_well() && of_b.of(200) > 0);
    drop(b);
    a.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_defaults_a_survivor_has_its_own_part_45_s_after_a_busy_host_died() {
    let store = Store::with_acl();
    let wish = Wish {
        tenant: slow(100),
        ..Wish::new(store.url_of_user())
    };
    let pair = Pair::new(wish).await;
    let (a, died) = bereft(&pair).await;
    let (caller, busy_until) = (a.caller(), died + Duration::from_secs(50));
    let busy = tokio::spawn(async move { flood(&caller, 150, RECORDS, busy_until).await });
    let back = until("its own part is back", PATIENCE, || a.allowed() >= 49).await;
    println!("the survivor's own part is back {back:?} after the death");
    assert!(back <= Duration::from_secs(45), "{back:?}");
    assert!(busy.await.unwrap().is_all_well());
    a.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_may_have_been_evicted_takes_nothing_until_it_has_heard_the_others() {
    let mut store = Store::start(&[]);
    let evict_after = Duration::from_secs(12);
    let usual = Wish::new(store.url());
    let wish = Wish {
        quota: format!("{}max_wait = \"1s\"\n", usual.quota),
        fleet: format!("evict_after = \"{}s\"\n", evict_after.as_secs()),
        ..usual
    };
    let pair = Pair::new(wish).await;
    let a = pair.start("gw-a");
    let mut b = Process::start(&pair, "gw-b", &pair.wish);
    a.caller().get(RECORDS).await;
    b.caller().get(RECORDS).await;
    until_fleet(&a, "they know each other", |fleet| {
        fleet["peers"][0]["up"] == true
    })
    .await;
    b.kill();
    store.kill();
    let died = Instant::now();
    // The control: it cannot have been evicted so soon, and has its part without a word.
    let mut b = Process::start(&pair, "gw-b", &pair.wish);
    assert_eq!(b.caller().get(RECORDS).await.status, 200);
    b.kill();
    tokio::time::sleep_until(died + evict_after).await;
    let b = Process::start(&pair, "gw-b", &pair.wish);
    until_ready(&b, 503, "until every other host has answered").await;
    assert_eq!(b.caller().get(RECORDS).await.status, 429);
    store.resume();
    until_ready(&b, 200, "").await;
    assert_eq!(b.caller().get(RECORDS).await.status, 200);
    drop(b);
    a.leave().await;
    pair.check();
}

/// `gw-a` after `gw-b` has died, busy with all that it could borrow, and when that was.
async fn bereft(pair: &Pair) -> (Host, Instant) {
    let a = pair.start("gw-a");
    let mut b = Process::start(pair, "gw-b", &pair.wish);
    let of_dead = b.caller();
    let rush = Instant::now() + Duration::from_secs(600);
    let lost = tokio::spawn(async move { flood(&of_dead, 120, RECORDS, rush).await });
    until_fleet(&a, "the one that will die has borrowed", |fleet| {
        fleet["permits"]["lent"] == 46
    })
    .await;
    b.kill();
    let died = Instant::now();
    lost.abort();
    (a, died)
}

/// Waits until its `/readyz` has this status and says this.
async fn until_ready(process: &Process, status: u16, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (is, said) = process.page("/readyz").await;
        if is == status && said.contains(what) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "never {status} {what}: {is} {said}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}
