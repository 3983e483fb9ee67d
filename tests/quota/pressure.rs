//! Other tools load the same kintone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kintone_egress::config::QuotaSettings;
use tokio::time::{Instant, sleep};

use crate::house::{CALL, Counts, Dice, House, Kintone, MS, breathe, config};

struct Run {
    refused_in_first_second: u32,
    refused_later: u32,
    errors: u32,
    use_after: u32,
}

/// Outside load 0, then 60 for 10 s, then 0 again, under a closed loop of 150 callers.
async fn step(distance: Duration, counts: Counts, steady: bool) -> Run {
    let house = House::new(QuotaSettings::default());
    let kintone = Kintone::new(distance, counts);
    let errors = Arc::new(AtomicU32::new(0));
    for number in 0..150 {
        let (house, kintone, errors) = (house.clone(), kintone.clone(), errors.clone());
        let mut dice = Dice::new(number + 1);
        tokio::spawn(async move {
            loop {
                let service = if steady {
                    200 * MS
                } else {
                    dice.spread(200 * MS)
                };
                if house.call(&kintone, "a", CALL, service).await.is_err() {
                    errors.fetch_add(1, Ordering::Relaxed);
                    sleep(MS).await;
                }
            }
        });
    }
    sleep(5130 * MS).await;
    let refusals = || kintone.refusals.load(Ordering::Relaxed);
    assert_eq!(refusals(), 0);
    kintone.outside.store(60, Ordering::Relaxed);
    sleep(1000 * MS).await;
    let refused_in_first_second = refusals();
    sleep(1000 * MS).await;
    let after_two = refusals();
    sleep(8000 * MS).await;
    let refused_later = refusals() - after_two;
    kintone.outside.store(0, Ordering::Relaxed);
    sleep(10_000 * MS).await;
    Run {
        refused_in_first_second,
        refused_later,
        errors: errors.load(Ordering::Relaxed),
        use_after: house.look().in_flight,
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_outside_load_is_followed_down_and_up() {
    for distance in [MS, 3 * MS] {
        for counts in [Counts::AtArrival, Counts::AtAnswer] {
            for steady in [true, false] {
                let run = step(distance, counts, steady).await;
                let what = format!("{distance:?} {counts:?} steady {steady}");
                assert_eq!(run.errors, 0, "{what}");
                assert_eq!(run.refused_later, 0, "{what}");
                assert!(run.use_after >= 76, "{what}: {}", run.use_after);
                if steady && counts == Counts::AtArrival {
                    // All 80 calls end and 80 new ones begin in the very millisecond of the step:
                    // nobody could know of it. What does not fit is refused once.
                    assert!(run.refused_in_first_second <= 40, "{what}");
                    continue;
                }
                assert!(
                    run.refused_in_first_second <= 5,
                    "{what}: {}",
                    run.refused_in_first_second
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn aborted_calls_settle_until_proved_gone_or_long_enough() {
    let house = House::new(QuotaSettings::default());
    let mut calls = Vec::new();
    for _ in 0..80 {
        let mut permit = house.admit("a", CALL).await.expect("a permit");
        permit.sent();
        calls.push(permit);
    }
    drop(calls.drain(..30).collect::<Vec<_>>());
    let snapshot = house.look();
    assert_eq!((snapshot.in_flight, snapshot.settling), (50, 30));
    // An answer to a call that was sent before the aborts proves nothing.
    calls[0].answered(Some(100), Some(50));
    assert_eq!(house.look().settling, 30);
    calls.remove(0).finish();
    // Nor does one to a call that came to kintone perhaps before them.
    let mut at_once = house.admit("a", CALL).await.expect("a permit");
    at_once.sent();
    at_once.answered(Some(100), Some(50));
    at_once.finish();
    assert_eq!(house.look().settling, 30);
    sleep(1000 * MS).await;
    let mut later = house.admit("a", CALL).await.expect("a permit");
    later.sent();
    // 50 of ours are live; of 62 running calls at most 12 can be aborted ones.
    later.answered(Some(100), Some(62));
    assert_eq!(house.look().settling, 12);
    assert_eq!(
        house.look().outside,
        0,
        "settling calls are not taken for outside load"
    );
    later.answered(Some(100), Some(50));
    assert_eq!(house.look().settling, 0);
    later.finish();
    drop(calls.pop());
    house.assert_balanced(49);
    sleep(119_000 * MS).await;
    assert_eq!(house.look().settling, 1);
    sleep(1100 * MS).await;
    assert_eq!(house.look().settling, 0);
    calls
        .into_iter()
        .for_each(kintone_egress::quota::Permit::finish);
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_settle_do_not_lock_an_account_up() {
    let house = House::new(QuotaSettings {
        max_wait: 30_000 * MS,
        ..QuotaSettings::default()
    });
    for _ in 0..3 {
        let mut aborted = house.admit("a", CALL).await.expect("a permit");
        aborted.sent();
    }
    let mut refused = house.admit("a", CALL).await.expect("a permit");
    refused.sent();
    drop(refused.refused(Some(100), Some(101)));
    let snapshot = house.look();
    assert_eq!((snapshot.allowed, snapshot.settling), (1, 3));
    // Only an answer could tell that the three are over and that the load has passed, and there is
    // no room for a call that would bring one.
    let begun = Instant::now();
    let mut probe = house.admit("a", CALL).await.expect("a permit");
    let waited = begun.elapsed();
    assert!(waited >= 5000 * MS, "not while it can be true: {waited:?}");
    assert!(waited <= 6000 * MS, "{waited:?}");
    probe.sent();
    probe.answered(Some(100), Some(1));
    assert_eq!(house.look().settling, 0);
    probe.finish();
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_limit_of_kintone_counts_and_waiting_calls_obey_it() {
    let house = House::new(QuotaSettings::default());
    let mut permit = house.admit("a", CALL).await.expect("a permit");
    permit.sent();
    permit.answered(Some(30), Some(1));
    let snapshot = house.look();
    assert_eq!((snapshot.limit, snapshot.allowed), (30, 10));
    permit.answered(Some(500), Some(1));
    let snapshot = house.look();
    assert_eq!((snapshot.limit, snapshot.allowed), (100, 80));
    assert_eq!(snapshot.kintone_limit, Some(500));
}

#[tokio::test(start_paused = true)]
async fn each_of_two_hosts_takes_its_fixed_part() {
    let mut config = config(QuotaSettings::default());
    config.fleet.hosts = vec!["gw-a".into(), "gw-b".into()];
    let (a, b) = (House::with(&config), House::with(&config));
    let kintone = Kintone::new(MS, Counts::AtAnswer);
    for house in [&a, &b] {
        for number in 0..100 {
            let (house, kintone) = (house.clone(), kintone.clone());
            let mut dice = Dice::new(number + 1);
            tokio::spawn(async move {
                loop {
                    let service = dice.spread(200 * MS);
                    house
                        .call(&kintone, "a", CALL, service)
                        .await
                        .expect("admitted");
                }
            });
        }
    }
    sleep(10_000 * MS).await;
    breathe().await;
    assert_eq!(a.look().allowed, 40);
    assert_eq!(b.look().allowed, 40);
    assert!(kintone.peak_ours.load(Ordering::Relaxed) <= 80);
    kintone.outside.store(40, Ordering::Relaxed);
    sleep(10_000 * MS).await;
    assert!(a.look().in_flight + b.look().in_flight <= 60);
    assert!(a.look().in_flight + b.look().in_flight >= 50);
}
