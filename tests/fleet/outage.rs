//! The store is gone for longer than any loan lasts.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::pair::{Pair, Wish};
use crate::process::Process;
use crate::sharing::{PATIENCE, RECORDS, slow};
use crate::store::Store;
use crate::support::ACME;
use crate::support::crowd::flood;

/// How long the store is gone.
const GONE: Duration = Duration::from_secs(60);
/// `[fleet] loan`, and what a process may be late by.
const LOAN: Duration = Duration::from_secs(18 + 2);

/// By the defaults. One host wants more than its part, the other one less: both go on with their
/// parts, no call fails, and all permits are shared again as soon as the store is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_for_a_minute_no_call_fails_and_all_share_again_when_it_is_back() {
    let mut store = Store::start(&[]);
    let mut tenant = slow(1500);
    tenant.latency.jitter_ms = 1000;
    let pair = Pair::new(Wish {
        tenant,
        ..Wish::new(store.url())
    })
    .await;
    let [a, b] = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    let end = Instant::now() + GONE + Duration::from_secs(15);
    let [busy, calm] = [(&a, 110), (&b, 20)].map(|(host, callers)| {
        let caller = host.caller();
        tokio::spawn(async move { flood(&caller, callers, RECORDS, end).await })
    });
    // What the calm host does not want.
    let most = 98 - 20 - 7;
    a.until_usable(PATIENCE, |permits| permits >= most).await;
    let gone_at = Instant::now();
    store.kill();
    let lapsed = a.until_usable(PATIENCE, |permits| permits == 49).await;
    println!("its own part alone {lapsed:?} after the store was gone");
    assert!(lapsed <= LOAN, "{lapsed:?}");
    // Calls that began on the loan run to their end.
    sleep(Duration::from_secs(5)).await;
    pair.sim.restart_accounting(ACME);
    sleep_until(gone_at + GONE).await;
    let alone = pair.sim.accounting(ACME);
    assert_eq!(a.usable().await, 49);
    store.resume();
    let back = a.until_usable(PATIENCE, |permits| permits >= most).await;
    println!("shared again {back:?} after the store's return");
    let [busy, calm] = [busy.await.unwrap(), calm.await.unwrap()];
    println!("answers {:?} {:?}", busy.statuses, calm.statuses);
    println!("at once while it was gone: {}", alone.peak);
    assert!(busy.is_all_well() && calm.is_all_well());
    assert!(back <= Duration::from_secs(2), "{back:?}");
    // Nobody used what was the other one's.
    assert!(alone.peak <= 49 + 20, "{}", alone.peak);
    pair.check();
}
