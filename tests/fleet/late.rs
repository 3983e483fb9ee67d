//! Calls on a loan that has ended: before their first byte, after it, and in a process that slept.

use std::collections::BTreeSet;
use std::time::Duration;

use kintone_sim::{Fault, FaultKind};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::pair::{Pair, Wish, until};
use crate::process::Process;
use crate::sharing::{Busy, PATIENCE, RECORDS, slow};
use crate::store::Store;
use crate::support::ACME;
use crate::support::crowd::{Tally, burst};
use crate::support::invariants::check_executions;

/// Permits of each of two hosts, and what one can borrow of the other.
const OWN: u32 = 49;
const BORROWED: u32 = 46;

async fn pair_of(store: &Store, call_ms: u64, fleet: &str) -> (Pair, [Process; 2]) {
    let pair = Pair::new(Wish {
        tenant: slow(call_ms),
        fleet: fleet.to_owned(),
        quota: "concurrency = 100\nheadroom = 2\ninteractive_reserve = 0\nmax_wait = \"60s\"\n"
            .to_owned(),
        ..Wish::new(store.url())
    })
    .await;
    let hosts = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    (pair, hosts)
}

/// Whether the loan ends while calls on it are on their way to kintone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loan {
    Ends,
    Lasts,
}

/// A host's own permits are all in use for six seconds, and calls on borrowed ones connect to kintone
/// for three: tells how many were at kintone at once, and for how long each of these waited.
async fn on_their_way(loan: Loan) -> (u32, Vec<u64>) {
    let mut store = Store::start(&[]);
    let (pair, [a, _b]) = pair_of(&store, 6000, "loan = \"1s\"\n").await;
    let caller = a.caller();
    let own = tokio::spawn(async move { burst(&caller, OWN as usize, RECORDS).await });
    let at_kintone = || pair.sim.accounting(ACME).in_process;
    until("own permits are in use", PATIENCE, || at_kintone() == OWN).await;
    pair.sim
        .fault(Fault::always(FaultKind::TlsSlow { wait_ms: 3000 }));
    let caller = a.caller();
    let late = tokio::spawn(async move { burst(&caller, BORROWED as usize, RECORDS).await });
    let all = (OWN + BORROWED) as usize;
    until("all have a permit and connect", PATIENCE, || {
        pair.sim.ledger().sockets.len() == all
    })
    .await;
    if loan == Loan::Ends {
        store.kill();
    }
    let (own, late) = (own.await.unwrap(), late.await.unwrap());
    assert!(own.is_all_well() && late.is_all_well(), "{own:?} {late:?}");
    pair.check();
    (pair.sim.accounting(ACME).peak, late.queued_ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_loan_ends_before_its_first_byte_waits_for_another_permit() {
    let [ended, lasted] = [Loan::Ends, Loan::Lasts].map(|loan| tokio::spawn(on_their_way(loan)));
    let (ended, lasted) = (ended.await.unwrap(), lasted.await.unwrap());
    println!(
        "at once {} and, on a loan that lasts, {}",
        ended.0, lasted.0
    );
    let shortest = |waits: &[u64]| waits.iter().min().copied().unwrap();
    println!("waited at least {} ms", shortest(&ended.1));
    assert_eq!((ended.0, lasted.0), (OWN, OWN + BORROWED));
    // From the end of the handshake to that of the calls on own permits.
    assert!(shortest(&ended.1) >= 1500, "{:?}", ended.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_outlives_its_loan_by_overrun_is_cut_and_the_own_ones_go_on() {
    let mut store = Store::start(&[]);
    let (pair, [a, _b]) = pair_of(&store, 9000, "loan = \"1s\"\noverrun = \"1s\"\n").await;
    let mut calls = JoinSet::new();
    for number in 0..OWN + BORROWED {
        let caller = a.caller();
        calls.spawn(async move {
            let answer = caller.post_record(ACME, &format!("{number}")).await;
            (answer, Instant::now())
        });
    }
    until("all are at kintone", PATIENCE, || {
        pair.sim.accounting(ACME).in_process == OWN + BORROWED
    })
    .await;
    let gone_at = Instant::now();
    store.kill();
    let (mut tally, mut cuts, mut codes) = (Tally::default(), Vec::new(), BTreeSet::new());
    for (answer, at) in calls.join_all().await {
        tally.count(&answer);
        let answer = answer.unwrap();
        if answer.status == 502 {
            codes.insert(answer.code());
            cuts.push(at - gone_at);
        }
    }
    let (first, last) = (cuts.iter().min().unwrap(), cuts.iter().max().unwrap());
    println!(
        "{:?}, cut {first:?} to {last:?} later: {codes:?}",
        tally.statuses
    );
    assert_eq!((tally.of(200), tally.of(502)), (49, 46), "{tally:?}");
    // The loan was prolonged at most a beat before, and ends a little early for clocks that differ.
    assert!(*first >= Duration::from_millis(1500), "{first:?}");
    assert!(*last <= Duration::from_secs(5), "{last:?}");
    check_executions(&pair.sim.ledger());
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_slept_for_longer_than_its_loan_wakes_within_its_own_permits() {
    let store = Store::start(&[]);
    let (pair, [a, b]) = pair_of(&store, 300, "loan = \"2s\"\noverrun = \"1s\"\n").await;
    let sleeper = Busy::begin(&a);
    until("it has borrowed", PATIENCE, || {
        pair.sim.accounting(ACME).in_process >= 90
    })
    .await;
    a.signal("STOP");
    let awake = Busy::begin(&b);
    let back = b.until_usable(PATIENCE, |permits| permits == 49).await;
    println!("the other host has its own part {back:?} later");
    pair.sim.restart_accounting(ACME);
    sleep(Duration::from_secs(1)).await;
    let alone = pair.sim.accounting(ACME).peak;
    a.signal("CONT");
    let woken_at = Instant::now();
    until("it serves again", PATIENCE, || {
        pair.sim.accounting(ACME).in_process > OWN + OWN / 2
    })
    .await;
    println!("it serves {:?} after it woke", woken_at.elapsed());
    sleep(Duration::from_secs(3)).await;
    let (slept, other) = (sleeper.stop().await, awake.stop().await);
    println!("answers {:?} {:?}", slept.statuses, other.statuses);
    assert_eq!(alone, OWN, "the other host's");
    assert!(other.is_all_well(), "{:?}", other.statuses);
    // What was cut as it woke may be answered so, and by how long calls took while it slept the wait
    // of the next ones seems too long for a while.
    let is_known = |status: &u16| matches!(status, 200 | 429 | 502);
    assert!(slept.statuses.keys().all(is_known), "{:?}", slept.statuses);
    pair.check();
}
