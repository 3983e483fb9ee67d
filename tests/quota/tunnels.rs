//! Permits that are held for long.

use kintone_egress::config::QuotaSettings;
use kintone_egress::quota::{Owes, Permit};
use tokio::time::{Instant, sleep};

use crate::house::{CALL, House, MS, Wish, breathe};

fn few(permits: u32) -> QuotaSettings {
    QuotaSettings {
        concurrency: 20 + permits,
        ..QuotaSettings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_returns_its_surplus_and_waits_for_all_it_wants() {
    let house = House::new(few(6));
    let mut tunnel = house
        .admit("a", Wish { weight: 5, ..CALL })
        .await
        .expect("permits");
    assert_eq!(house.look().in_flight, 5);
    let other = house.clone();
    let second = tokio::spawn(async move { other.admit("a", Wish { weight: 5, ..CALL }).await });
    breathe().await;
    let third = house.clone();
    let third = tokio::spawn(async move { third.admit("a", CALL).await });
    breathe().await;
    assert!(
        !third.is_finished(),
        "nobody takes permits from under a call that wants more"
    );
    tunnel.shrink(1);
    breathe().await;
    assert!(second.is_finished());
    house.assert_balanced(6);
    drop((tunnel, second, third));
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_tunnel_is_asked_when_a_call_waits() {
    let house = House::new(few(2));
    let tunnels = [
        house.admit("a", CALL).await.expect("a permit"),
        house.admit("a", CALL).await.expect("a permit"),
    ];
    let begun = Instant::now();
    sleep(5000 * MS).await;
    let mut newer = tunnels[0].yielding(begun + 2000 * MS);
    let mut older = tunnels[1].yielding(begun);
    breathe().await;
    let asked = |guard: &mut kintone_egress::quota::YieldGuard| {
        let mut asked = Box::pin(guard.asked());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        asked.as_mut().poll(&mut context).is_ready()
    };
    use std::future::Future;
    assert!(!asked(&mut newer) && !asked(&mut older), "nobody waits");
    let other = house.clone();
    let call = tokio::spawn(async move { other.admit("a", CALL).await.map(Permit::finish) });
    breathe().await;
    assert!(!asked(&mut newer));
    assert!(asked(&mut older));
    drop(older);
    let [_kept, closed] = tunnels;
    closed.finish();
    call.await.expect("no panic").expect("admitted");
    sleep(1000 * MS).await;
    assert!(!asked(&mut newer));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_counts_as_ours_only_while_it_is_owed() {
    let house = House::new(QuotaSettings::default());
    let mut tunnels = Vec::new();
    for _ in 0..40 {
        let mut tunnel = house.admit("a", CALL).await.expect("a permit");
        tunnel.sent();
        tunnel.owed(Owes::Nothing);
        tunnels.push(tunnel);
    }
    let mut call = house.admit("a", CALL).await.expect("a permit");
    call.sent();
    for _ in 0..3 {
        call.answered(Some(100), Some(41));
    }
    assert_eq!(
        house.look().outside,
        40,
        "the tunnels sleep: these are others"
    );
    for tunnel in &tunnels {
        tunnel.owed(Owes::Answer);
    }
    sleep(70_000 * MS).await;
    for _ in 0..3 {
        call.answered(Some(100), Some(41));
    }
    assert_eq!(house.look().outside, 0, "the tunnels work: these are ours");
}
