//! Many calls at once against permits and rate.

use std::sync::atomic::Ordering;
use std::time::Duration;

use kintone_egress::config::QuotaSettings;
use tokio::time::Instant;

use crate::house::{CALL, Counts, House, Kintone, MS, all, quantile};

#[tokio::test(start_paused = true)]
async fn of_three_hundred_at_once_eighty_run_and_none_is_refused() {
    for counts in [Counts::AtArrival, Counts::AtAnswer] {
        let house = House::new(QuotaSettings::default());
        let kintone = Kintone::new(MS, counts);
        let begun = Instant::now();
        let outcomes = all((0..300).map(|_| {
            let (house, kintone) = (house.clone(), kintone.clone());
            async move { house.call(&kintone, "a", CALL, 198 * MS).await }
        }))
        .await;
        assert!(outcomes.iter().all(Result::is_ok), "{counts:?}");
        assert_eq!(kintone.peak_ours.load(Ordering::Relaxed), 80);
        assert_eq!(kintone.refusals.load(Ordering::Relaxed), 0);
        // 300 calls of 200 ms on 80 permits are four rounds; timers round up to the millisecond.
        assert!(
            begun.elapsed() <= 805 * MS,
            "{counts:?} {:?}",
            begun.elapsed()
        );
        house.assert_balanced(0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_a_hundred_lets_three_hundred_through_in_two_seconds() {
    let house = House::new(QuotaSettings {
        rate: 100.0,
        burst: 100,
        concurrency: 1000,
        ..QuotaSettings::default()
    });
    let mut waits = all((0..300).map(|_| {
        let house = house.clone();
        async move {
            let permit = house.admit("a", CALL).await.expect("admitted");
            let waited = permit.waited();
            permit.finish();
            waited
        }
    }))
    .await;
    assert_eq!(quantile(&mut waits, 0.33), Duration::ZERO);
    let last = quantile(&mut waits, 1.0);
    assert!((2000 * MS..2300 * MS).contains(&last), "{last:?}");
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_spent_only_by_a_grant() {
    let house = House::new(QuotaSettings {
        rate: 1.0,
        burst: 2,
        concurrency: 21,
        max_wait: 3000 * MS,
        ..QuotaSettings::default()
    });
    let first = house.admit("a", CALL).await.expect("a permit");
    for _ in 0..50 {
        let wish = crate::house::Wish {
            wait: Some(Duration::ZERO),
            ..CALL
        };
        assert!(
            house.admit("a", wish).await.is_err(),
            "the only permit is in use"
        );
    }
    first.finish();
    let second = house
        .admit("a", CALL)
        .await
        .expect("the second token is still there");
    assert_eq!(second.waited(), Duration::ZERO);
}
