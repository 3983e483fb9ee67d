//! Waits: told at once what cannot be, and when to come back.

use std::time::Duration;

use kintone_egress::config::QuotaSettings;
use kintone_egress::model::Denial;
use kintone_egress::quota::Permit;
use tokio::time::{Instant, sleep};

use crate::house::{BATCH, CALL, House, MS, Wish, breathe};

fn patient(wait: Duration) -> Wish {
    Wish {
        wait: Some(wait),
        ..CALL
    }
}

fn few(permits: u32) -> QuotaSettings {
    QuotaSettings {
        concurrency: 20 + permits,
        interactive_reserve: 0,
        ..QuotaSettings::default()
    }
}

/// A call of this length that is already in the queue or running.
fn background(house: &House, service: Duration, wait: Duration) {
    let house = house.clone();
    tokio::spawn(async move {
        let mut permit = house.admit("a", patient(wait)).await.expect("admitted");
        permit.sent();
        sleep(service).await;
        permit.finish();
    });
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_served_in_time_is_told_at_once_and_when() {
    for (waiting, elapsed_ms) in [(0, 3000), (4, 0), (9, 2500), (17, 500)] {
        let house = House::new(QuotaSettings {
            max_wait: 600_000 * MS,
            ..few(4)
        });
        for _ in 0..4 {
            background(&house, 10_000 * MS, 600_000 * MS);
            sleep(10 * MS).await;
        }
        sleep(10_100 * MS).await;
        // Service times are known. Four run, some wait, and time passes.
        for _ in 0..4 + waiting {
            background(&house, 10_000 * MS, 600_000 * MS);
        }
        breathe().await;
        sleep(elapsed_ms * MS).await;
        let asked = Instant::now();
        let denial = house
            .admit("a", patient(2000 * MS))
            .await
            .expect_err("infeasible");
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert!(matches!(denial, Denial::WaitExceeded(_)), "{denial:?}");
        let told = denial.figures().and_then(|f| f.retry_after).expect("known");
        let permit = house
            .admit("a", patient(600_000 * MS))
            .await
            .expect("patient");
        let truth = permit.waited();
        let error = (told.as_secs_f64() / truth.as_secs_f64() - 1.0).abs();
        assert!(
            error <= 0.2,
            "{waiting} waiting: told {told:?}, was {truth:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_its_turn_at_the_rate_is_told_at_once_and_when() {
    let house = House::new(QuotaSettings {
        rate: 2.0,
        burst: 4,
        ..QuotaSettings::default()
    });
    for _ in 0..4 {
        house.admit("a", CALL).await.expect("a token").finish();
    }
    for _ in 0..18 {
        background(&house, MS, 10_000 * MS);
    }
    breathe().await;
    let asked = Instant::now();
    let denial = house
        .admit("a", patient(5000 * MS))
        .await
        .expect_err("infeasible");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert!(matches!(denial, Denial::RateLimited(_)), "{denial:?}");
    let told = denial.figures().and_then(|f| f.retry_after).expect("known");
    let permit = house
        .admit("a", patient(10_000 * MS))
        .await
        .expect("just in time");
    assert!(
        told.abs_diff(permit.waited()) <= 500 * MS,
        "{told:?} {:?}",
        permit.waited()
    );
}

#[tokio::test(start_paused = true)]
async fn without_knowledge_a_call_waits_out_its_wait() {
    let house = House::new(few(1));
    let held = house.admit("a", CALL).await.expect("a permit");
    let asked = Instant::now();
    let denial = house.admit("a", CALL).await.expect_err("too late");
    assert_eq!(asked.elapsed(), 10_000 * MS);
    let figures = denial.figures().expect("figures");
    assert_eq!(figures.waited, 10_000 * MS);
    assert_eq!((figures.running, figures.limit, figures.queued), (1, 1, 0));
    assert_eq!(figures.retry_after, None);
    drop(held);
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn places_kept_for_a_heavy_call_do_not_open_a_full_queue() {
    let house = House::new(QuotaSettings { queue: 2, ..few(3) });
    let held = [
        house.admit("a", CALL).await.expect("a permit"),
        house.admit("a", CALL).await.expect("a permit"),
    ];
    let wait = |wish| {
        let house = house.clone();
        tokio::spawn(async move { house.admit("a", wish).await.map(Permit::finish) })
    };
    // It waits for two places: the one that is free is kept for it.
    let heavy = wait(Wish { weight: 2, ..CALL });
    breathe().await;
    let light = wait(CALL);
    breathe().await;
    assert_eq!(house.look().queued, 2);
    let denial = house.admit("a", CALL).await.expect_err("the queue is full");
    assert!(matches!(denial, Denial::QueueFull(_)), "{denial:?}");
    let denial = house.admit("b", patient(Duration::ZERO)).await;
    assert!(matches!(denial, Err(Denial::WaitExceeded(_))), "{denial:?}");
    drop(held);
    heavy.await.expect("no panic").expect("a permit");
    light.await.expect("no panic").expect("a permit");
    house.assert_balanced(0);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_wait_counts_and_zero_is_not_waiting() {
    let house = House::new(few(1));
    let _held = house.admit("a", CALL).await.expect("a permit");
    for (wish, least, most) in [
        (patient(Duration::ZERO), 0, 0),
        (patient(1500 * MS), 1500, 1501),
        (patient(60_000 * MS), 10_000, 10_001),
        (BATCH, 600_000, 600_001),
    ] {
        let asked = Instant::now();
        house.admit("a", wish).await.expect_err("no permit");
        let waited = asked.elapsed();
        assert!((least * MS..=most * MS).contains(&waited), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_room_for_those_with_fewer_waiting() {
    let house = House::new(QuotaSettings { queue: 3, ..few(1) });
    let held = house.admit("a", CALL).await.expect("a permit");
    let many: Vec<_> = (0..3)
        .map(|_| {
            let house = house.clone();
            tokio::spawn(async move { house.admit("many", CALL).await.map(Permit::finish) })
        })
        .collect();
    breathe().await;
    let denial = house.admit("many", CALL).await.expect_err("full");
    assert!(matches!(denial, Denial::QueueFull(_)), "{denial:?}");
    sleep(100 * MS).await;
    let other = house.clone();
    let few = tokio::spawn(async move { other.admit("few", CALL).await.map(Permit::finish) });
    breathe().await;
    let mut outcomes = Vec::new();
    assert!(
        many[2].is_finished() && !many[0].is_finished(),
        "the youngest gave way"
    );
    held.finish();
    for call in many {
        outcomes.push(call.await.expect("no panic"));
    }
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
    let Err(Denial::QueueFull(figures)) = outcomes[2] else {
        panic!("{:?}", outcomes[2]);
    };
    assert_eq!(figures.waited, 100 * MS);
    few.await.expect("no panic").expect("admitted");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_comes_back_within_its_first_wait_or_not_at_all() {
    let house = House::new(few(4));
    let mut permit = house
        .admit("a", patient(1000 * MS))
        .await
        .expect("a permit");
    permit.sent();
    sleep(300 * MS).await;
    let refused = permit.refused(Some(24), Some(25));
    house.assert_balanced(0);
    let mut permit = refused.again().await.expect("there is time");
    assert!(
        (250 * MS..252 * MS).contains(&permit.waited()),
        "{:?}",
        permit.waited()
    );
    permit.sent();
    sleep(300 * MS).await;
    let asked = Instant::now();
    let denial = permit
        .refused(Some(24), Some(25))
        .again()
        .await
        .expect_err("850 ms are over");
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert!(matches!(denial, Denial::WaitExceeded(_)), "{denial:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_process_is_not_learned_as_service_time() {
    let house = House::new(few(4));
    for _ in 0..40 {
        let house = house.clone();
        tokio::spawn(async move {
            loop {
                if let Ok(mut permit) = house.admit("a", CALL).await {
                    permit.sent();
                    sleep(200 * MS).await;
                    permit.finish();
                }
                sleep(20 * MS).await;
            }
        });
    }
    sleep(10_050 * MS).await;
    assert_eq!(house.look().refused.wait_exceeded, 0);
    // Nothing runs meanwhile, and every timer is late.
    tokio::time::advance(60_000 * MS).await;
    breathe().await;
    let waited_out = house.look().refused.wait_exceeded;
    assert!(waited_out <= 36, "those that waited: {waited_out}");
    sleep(10_000 * MS).await;
    assert_eq!(house.look().refused.wait_exceeded, waited_out);
}
