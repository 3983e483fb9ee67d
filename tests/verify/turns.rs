//! What echoes say turns while calls go on.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep};

use crate::echo::{
    Does, Echo, FIRST, FIRST_WRONG, INTERVAL, RIGHT, SECOND, WRONG, plan, reload, shown,
    until_ready_is, until_seen, verify,
};
use crate::support::{House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// Time for the machine, beyond what is promised.
const GRACE: Duration = Duration::from_millis(300);

/// The addresses that a few calls leave from.
async fn used(house: &House) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for _ in 0..4 {
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(answer.status, StatusCode::OK);
        used.insert(answer.header("kintone-egress-address").to_owned());
    }
    used
}

fn both() -> BTreeSet<String> {
    BTreeSet::from([FIRST.0.to_owned(), SECOND.0.to_owned()])
}

#[tokio::test]
async fn an_address_that_turns_wrong_is_out_within_an_interval_and_comes_back_by_itself() {
    let echo = Echo::telling(RIGHT).await;
    house(plan(&[&echo]), async |house| {
        assert_eq!(used(&house).await, both());
        for _ in 0..2 {
            echo.now(Does::Tells(FIRST_WRONG));
            let took = until_seen(&house, "other").await;
            assert!(took < INTERVAL + GRACE, "{took:?}");
            let shown = shown(&house, FIRST.0).await;
            assert_eq!(shown["pooled"], 0, "idle connections are closed: {shown}");
            assert_eq!(used(&house).await, BTreeSet::from([SECOND.0.to_owned()]));
            let (status, page) = house.admin_page("/readyz").await;
            assert_eq!(status, 200, "one is left: {page}");
            assert!(
                page.contains("18.177.83.94 (bind 127.0.1.94) leaves as"),
                "{page}"
            );
            echo.now(Does::Tells(RIGHT));
            let took = until_seen(&house, "published").await;
            assert!(took < INTERVAL + GRACE, "{took:?}");
            assert_eq!(used(&house).await, both());
        }
    })
    .await;
}

#[tokio::test]
async fn when_all_turn_wrong_the_host_is_unready_within_an_interval() {
    let echo = Echo::telling(RIGHT).await;
    house(plan(&[&echo]), async |house| {
        assert_eq!(used(&house).await, both());
        echo.now(Does::Tells(WRONG));
        let took = until_ready_is(&house, 503).await;
        assert!(took < INTERVAL + GRACE, "{took:?}");
        let before = house.sim.ledger().executions.len();
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(house.caller().open_tunnel("acme.cybozu.com").await.is_err());
        assert_eq!(house.sim.ledger().executions.len(), before);
        echo.now(Does::Tells(RIGHT));
        until_ready_is(&house, 200).await;
        until_seen(&house, "published").await;
    })
    .await;
}

#[tokio::test]
async fn the_last_verdict_stands_for_unknown_for_while_no_echo_answers() {
    let echo = Echo::telling(RIGHT).await;
    house(plan(&[&echo]), async |house| {
        assert_eq!(used(&house).await, both());
        echo.now(Does::Hangs);
        let silent = Instant::now();
        let mut warned = false;
        // It was proven at the earliest an interval before.
        while silent.elapsed() < Duration::from_secs(3) - INTERVAL - GRACE {
            let (status, page) = house.admin_page("/readyz").await;
            assert_eq!(status, 200, "{page}");
            warned |= page.contains("no echo has said how it leaves; the last verdict stands");
            sleep(Duration::from_millis(50)).await;
        }
        assert!(warned, "the alarm comes at once");
        until_ready_is(&house, 503).await;
        let took = silent.elapsed();
        assert!(took < Duration::from_secs(3) + 2 * GRACE, "{took:?}");
        let answer = house.caller().get(RECORDS).await;
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["detail"], "address_unverified");
        echo.now(Does::Tells(RIGHT));
        until_ready_is(&house, 200).await;
    })
    .await;
}

#[tokio::test]
async fn one_echo_that_lies_is_outvoted_and_one_that_is_dead_changes_nothing() {
    let liar = Echo::telling(WRONG).await;
    let dead = Echo::start(Does::Hangs).await;
    let honest = Echo::telling(RIGHT).await;
    let other = Echo::telling(RIGHT).await;
    house(plan(&[&liar, &dead, &honest, &other]), async |house| {
        assert_eq!(used(&house).await, both());
        sleep(2 * INTERVAL).await;
        assert_eq!(used(&house).await, both());
        let metric = async |echo: u32, answer: &str| {
            let labels = format!("{{answer=\"{answer}\",echo=\"{echo}\"}}");
            let sample = format!("kintone_egress_echo_answers{labels}");
            house.metric(&sample).await
        };
        assert_eq!(metric(1, "other").await, Some(2.0));
        assert_eq!(metric(2, "none").await, Some(2.0));
        assert_eq!(metric(3, "published").await, Some(2.0));
        // As many say so as say otherwise: nothing leaves.
        other.now(Does::Hangs);
        until_ready_is(&house, 503).await;
        other.now(Does::Tells(RIGHT));
        until_ready_is(&house, 200).await;
        // A lie in favour does not help a wrong address.
        for truth in [&honest, &other] {
            truth.now(Does::Tells(WRONG));
        }
        liar.now(Does::Tells(RIGHT));
        let took = until_ready_is(&house, 503).await;
        assert!(took < INTERVAL + GRACE, "{took:?}");
    })
    .await;
}

#[tokio::test]
async fn echoes_can_be_exchanged_switched_off_and_on_without_a_restart() {
    let old = Echo::telling(RIGHT).await;
    let new = Echo::telling(FIRST_WRONG).await;
    house(plan(&[&old]), async |house| {
        assert_eq!(used(&house).await, both());
        let (before, after) = (verify(&[&old]), verify(&[&new]));
        house.reconfigure(|text| text.replace(&before, &after));
        reload(&house).await;
        until_seen(&house, "other").await;
        assert_eq!(used(&house).await, BTreeSet::from([SECOND.0.to_owned()]));
        house.reconfigure(|text| text.replace(&after, ""));
        reload(&house).await;
        sleep(Duration::from_millis(50)).await;
        assert!(shown(&house, FIRST.0).await["verification"].is_null());
        assert_eq!(used(&house).await, both());
        let sample = "kintone_egress_address_verified{address=\"18.177.83.94\"}";
        assert_eq!(house.metric(sample).await, None);
        house.reconfigure(|text| format!("{text}{after}"));
        reload(&house).await;
        until_seen(&house, "other").await;
        assert_eq!(used(&house).await, BTreeSet::from([SECOND.0.to_owned()]));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_by_kintones_edge_has_the_echoes_asked_soon() {
    let echo = Echo::telling(RIGHT).await;
    // By itself the next round comes after 6 s or more, for a doubt after 2 s.
    let mut plan = Plan {
        tables: verify(&[&echo])
            .replace("\"1s\"", "\"12s\"")
            .replace("\"3s\"", "\"60s\"")
            + "connections = \"interval\"\n",
        ..Plan::default()
    };
    plan.tenant.allow = Some(vec![SECOND.1.parse().unwrap()]);
    house(plan, async |house| {
        let began = Instant::now();
        sleep(Duration::from_millis(200)).await;
        assert_eq!(echo.asked().len(), 2, "once for each address");
        echo.now(Does::Tells(FIRST_WRONG));
        for _ in 0..4 {
            house.caller().get(RECORDS).await;
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(echo.asked().len(), 2, "not with every refusal");
        until_seen(&house, "other").await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(echo.asked().len(), 3, "the other address is in no doubt");
        assert_eq!(used(&house).await, BTreeSet::from([SECOND.0.to_owned()]));
    })
    .await;
}
