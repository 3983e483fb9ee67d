//! Whatever happens to callers, permits come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kintone_egress::config::QuotaSettings;
use kintone_egress::quota::Owes;
use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::house::{BATCH, CALL, Dice, House, MS, Wish};

/// One call of a random kind that ends in a random way; it may be dropped at any await point.
async fn any_call(house: House, seed: u64) {
    let mut dice = Dice::new(seed);
    let wish = Wish {
        wait: (dice.throw(4) == 0).then(|| Duration::from_millis(dice.throw(300))),
        weight: 1 + dice.throw(3) as u32 / 2,
        ..if dice.throw(3) == 0 { BATCH } else { CALL }
    };
    let tenant = ["a", "b", "c", "d"][dice.throw(4) as usize];
    let Ok(mut permit) = house.admit(tenant, wish).await else {
        return;
    };
    sleep(Duration::from_micros(dice.throw(3000))).await;
    if dice.throw(8) == 0 {
        return;
    }
    permit.sent();
    sleep(dice.spread(20 * MS)).await;
    match dice.throw(10) {
        0 => drop(permit),
        1 => panic!("a fault of ours, on purpose"),
        2 => {
            if let Ok(mut permit) = permit.refused(Some(100), Some(101)).again().await {
                permit.sent();
                sleep(dice.spread(20 * MS)).await;
                permit.finish();
            }
        }
        3 => {
            permit.owed(Owes::Nothing);
            let mut guard = permit.yielding(tokio::time::Instant::now());
            tokio::select! {
                () = guard.asked() => {}
                () = sleep(dice.spread(200 * MS)) => permit.owed(Owes::Answer),
            }
            permit.shrink(1);
            permit.finish();
        }
        _ => {
            permit.answered(Some(100), Some(1 + dice.throw(40) as u32));
            permit.finish();
        }
    }
}

async fn crowd(calls: u64, seed: u64, rate: f64) {
    let house = House::new(QuotaSettings {
        concurrency: 40,
        rate,
        queue: 100,
        max_wait: 2000 * MS,
        settle: 5000 * MS,
        ..QuotaSettings::default()
    });
    let mut dice = Dice::new(seed);
    let mut tasks = JoinSet::new();
    for number in 0..calls {
        let task = tasks.spawn(any_call(house.clone(), seed ^ (number + 1)));
        if dice.throw(5) == 0 {
            let after = dice.spread(30 * MS);
            tokio::spawn(async move {
                sleep(after).await;
                task.abort();
            });
        }
        if dice.throw(3) == 0 {
            sleep(dice.spread(2 * MS)).await;
            let balance = house.quotas.balance();
            assert_eq!(balance.acquired - balance.released, balance.held);
            assert!(balance.held <= 40, "{balance:?}");
        }
    }
    while tasks.join_next().await.is_some() {}
    sleep(5100 * MS).await;
    house.assert_balanced(0);
    let snapshot = house.look();
    assert_eq!(
        (snapshot.in_flight, snapshot.settling, snapshot.queued),
        (0, 0, 0)
    );
    assert!(
        snapshot
            .tenants
            .iter()
            .all(|tenant| tenant.in_flight == 0 && tenant.queued == 0)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn permits_come_back_from_five_thousand_calls_that_end_in_any_way(
        seed in any::<u64>(),
        rate in prop_oneof![Just(0.0), Just(800.0)],
    ) {
        quiet_panics();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(crowd(5000, seed, rate));
    }
}

/// The same on several threads and real time: the balance is read while permits come and go.
#[test]
fn the_balance_is_even_at_every_instant_on_many_threads() {
    quiet_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let house = House::new(QuotaSettings {
            settle: 50 * MS,
            ..QuotaSettings::default()
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let reader = {
            let (quotas, is_over) = (house.quotas.clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let balance = quotas.balance();
                    assert_eq!(balance.acquired - balance.released, balance.held);
                    assert!(balance.held <= 80);
                }
            })
        };
        let mut tasks = JoinSet::new();
        for number in 0..3000 {
            tasks.spawn(any_call(house.clone(), number));
        }
        while tasks.join_next().await.is_some() {}
        is_over.store(true, Ordering::Relaxed);
        reader.join().expect("even throughout");
        while house.quotas.balance().held > 0 {
            tokio::task::yield_now().await;
        }
        house.assert_balanced(0);
    });
}

#[tokio::test(start_paused = true)]
async fn accounts_are_forgotten_when_idle_and_their_balance_is_kept() {
    let house = House::new(QuotaSettings::default());
    house.admit("a", CALL).await.expect("a permit").finish();
    let held = house.admit("a", CALL).await.expect("a permit");
    sleep(1_200_000 * MS).await;
    assert!(house.quotas.snapshot_of(&house.account).is_some(), "in use");
    held.finish();
    sleep(1_200_000 * MS).await;
    assert!(
        house.quotas.snapshot_of(&house.account).is_none(),
        "idle for long"
    );
    assert_eq!(house.quotas.balance().acquired, 2);
    house.assert_balanced(0);
    let found = house.quotas.snapshot_at_rest(&house.account);
    let limit = QuotaSettings::default().concurrency;
    assert_eq!((found.limit, found.in_flight, found.queued), (limit, 0, 0));
    assert!(
        house.quotas.snapshot_of(&house.account).is_none(),
        "looking at it does not bring it back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reload_loses_no_permit_no_waiter_and_no_debt() {
    let rated = |rate, concurrency| QuotaSettings {
        rate,
        burst: 1,
        concurrency,
        ..QuotaSettings::default()
    };
    let house = House::new(rated(1.0, 21));
    let held = house.admit("a", CALL).await.expect("a permit");
    let other = house.clone();
    let waiter = tokio::spawn(async move { other.admit("a", CALL).await });
    sleep(100 * MS).await;
    house.quotas.reload(&crate::house::config(rated(1.0, 30)));
    sleep(100 * MS).await;
    assert!(!waiter.is_finished(), "the rate's state was kept");
    assert_eq!(house.look().allowed, 10);
    sleep(810 * MS).await;
    assert!(waiter.is_finished());
    house.assert_balanced(2);
    drop(held);
    drop(waiter);
}

/// Panics of tests' calls are meant; their messages are not.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_meant = info
                .payload()
                .downcast_ref::<&str>()
                .is_some_and(|text| text.contains("on purpose"));
            if !is_meant {
                usual(info);
            }
        }));
    });
}
