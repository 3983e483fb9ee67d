//! Before a new connection carries a call, an echo that was asked later has its say.

use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::echo::{
    Does, Echo, FIRST, FIRST_WRONG, RIGHT, SECOND, WRONG, reload, shown, until_ready_is, verify,
};
use crate::support::invariants::check_refusal;
use crate::support::{House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// Such rounds come so seldom that they find nothing during a test.
const SELDOM: &str = "interval = \"60s\"\ntimeout = \"2s\"\n";

fn tables(echoes: &[&Echo], more: &str) -> String {
    let tables = verify(echoes).replace("interval = \"1s\"\n", SELDOM);
    tables.replace("\"3s\"", "\"120s\"") + more
}

/// A house whose addresses are asked for seldom, but for new connections.
fn plan(echoes: &[&Echo]) -> Plan {
    Plan {
        tables: tables(echoes, ""),
        ..Plan::default()
    }
}

/// Requests that kintone has seen from a bind address.
fn requests_from(house: &House, (_, bind): (&str, &str)) -> usize {
    let bind: IpAddr = bind.parse().unwrap();
    let ledger = house.sim.ledger();
    let calls = ledger.executions.iter();
    calls.filter(|call| call.peer.ip() == bind).count()
}

/// Calls, all at once: where each answer says that it left from.
async fn call_at_once(house: &House, count: usize) -> Vec<(StatusCode, String)> {
    let mut calls = JoinSet::new();
    for _ in 0..count {
        let caller = house.caller();
        calls.spawn(async move {
            let answer = caller.get(RECORDS).await;
            let from = answer.header("kintone-egress-address").to_owned();
            (answer.status, from)
        });
    }
    calls.join_all().await
}

#[tokio::test]
async fn no_call_leaves_on_a_connection_that_was_made_after_the_address_turned_wrong() {
    let echo = Echo::telling(RIGHT).await;
    house(plan(&[&echo]), async |house| {
        until_ready_is(&house, 200).await;
        echo.now(Does::Tells(FIRST_WRONG));
        assert_eq!(
            shown(&house, FIRST.0).await["verification"]["seen"],
            "published"
        );
        let well = (StatusCode::OK, SECOND.0.to_owned());
        assert_eq!(call_at_once(&house, 12).await, vec![well; 12]);
        assert_eq!(
            shown(&house, FIRST.0).await["verification"]["seen"],
            "other"
        );
        house.caller().open_tunnel("acme.cybozu.com").await.unwrap();
        assert_eq!(requests_from(&house, FIRST), 0);
        assert_eq!(requests_from(&house, SECOND), 12);
        let labels = format!("{{address=\"{}\",result=\"unproven\"}}", FIRST.0);
        let dropped = format!("kintone_egress_upstream_connects_total{labels}");
        let dropped = house.metric(&dropped).await.unwrap_or_default();
        assert!(dropped >= 1.0, "{dropped} connections were dropped");
    })
    .await;
}

#[tokio::test]
async fn where_no_other_address_is_left_calls_are_refused_unsent() {
    let echo = Echo::telling(RIGHT).await;
    // So that the address is back soon.
    let mut plan = plan(&[&echo]);
    plan.tables = plan.tables.replace("\"60s\"", "\"6s\"");
    house(plan, async |house| {
        until_ready_is(&house, 200).await;
        echo.now(Does::Tells(WRONG));
        let caller = house.caller();
        let (answer, tunnel) =
            tokio::join!(caller.get(RECORDS), caller.open_tunnel("acme.cybozu.com"));
        let refused = tunnel.unwrap_err();
        for answer in [&answer, &refused] {
            check_refusal(answer, 503, "GW_EGRESS_UNAVAILABLE", "proxy_internal_error");
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], "address_mismatch");
        }
        let ledger = house.sim.ledger();
        assert!(!ledger.sockets.is_empty(), "there was a connection");
        assert_eq!(ledger.executions.len(), 0);
        assert_eq!(house.quotas.balance().held, 0);
        echo.now(Does::Tells(RIGHT));
        until_ready_is(&house, 200).await;
        assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn connections_that_are_made_together_share_a_round() {
    let echo = Echo::telling(RIGHT).await;
    let mut plan = plan(&[&echo]);
    plan.tables += "connection_pause = \"500ms\"\n";
    house(plan, async |house| {
        until_ready_is(&house, 200).await;
        assert_eq!(echo.asked().len(), 2, "once for each address");
        let began = Instant::now();
        for (status, _) in call_at_once(&house, 40).await {
            assert_eq!(status, StatusCode::OK);
        }
        let rounds = (echo.asked().len() - 2) as u128;
        let most = 2 * (1 + began.elapsed().as_millis().div_ceil(500));
        assert!(
            (2..=most).contains(&rounds),
            "{rounds} rounds, at most {most}"
        );
        // What is in the pool needs nobody's word.
        let before = echo.asked().len();
        assert!(house.caller().get(RECORDS).await.status.is_success());
        assert_eq!(echo.asked().len(), before);
    })
    .await;
}

#[tokio::test]
async fn a_dead_echo_keeps_the_first_connections_waiting_and_no_other() {
    let echo = Echo::telling(RIGHT).await;
    house(plan(&[&echo]), async |house| {
        until_ready_is(&house, 200).await;
        echo.now(Does::Hangs);
        let open = async || {
            let began = Instant::now();
            house.caller().open_tunnel("acme.cybozu.com").await.unwrap();
            began.elapsed()
        };
        let (one, other) = tokio::join!(open(), open());
        for took in [one, other] {
            assert!(took > Duration::from_millis(1500), "{took:?}");
            assert!(took < Duration::from_secs(4), "{took:?}");
        }
        for _ in 0..10 {
            let took = open().await;
            assert!(took < Duration::from_millis(1000), "{took:?}");
        }
        let (status, page) = house.admin_page("/readyz").await;
        assert!(status == 200 && page.contains("no echo has said"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn one_dead_echo_of_two_keeps_nobody_waiting_once_it_is_known() {
    let (echo, dead) = (Echo::telling(RIGHT).await, Echo::start(Does::Hangs).await);
    house(plan(&[&echo, &dead]), async |house| {
        // Until the first round has ended, which waits for the dead one.
        let sample = "kintone_egress_echo_answers{answer=\"none\",echo=\"2\"}";
        while house.metric(sample).await != Some(2.0) {
            sleep(Duration::from_millis(10)).await;
        }
        let asked = dead.asked().len();
        for _ in 0..6 {
            let began = Instant::now();
            house.caller().open_tunnel("acme.cybozu.com").await.unwrap();
            let took = began.elapsed();
            assert!(took < Duration::from_millis(1000), "{took:?}");
        }
        assert_eq!(dead.asked().len(), asked);
        echo.now(Does::Tells(WRONG));
        let tunnel = house.caller().open_tunnel("acme.cybozu.com").await;
        assert_eq!(tunnel.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
}

#[tokio::test]
async fn connections_can_go_by_what_the_last_interval_said_and_a_reload_changes_that() {
    let echo = Echo::telling(RIGHT).await;
    let mut plan = plan(&[&echo]);
    plan.tables = tables(&[&echo], "connections = \"interval\"\n");
    house(plan, async |house| {
        until_ready_is(&house, 200).await;
        let asked = echo.asked().len();
        assert_eq!(call_at_once(&house, 4).await.len(), 4);
        house.caller().open_tunnel("acme.cybozu.com").await.unwrap();
        assert_eq!(echo.asked().len(), asked, "only for the addresses");
        house.reconfigure(|text| text.replace("\"interval\"", "\"each\""));
        reload(&house).await;
        while echo.asked().len() == asked {
            sleep(Duration::from_millis(5)).await;
        }
        echo.now(Does::Tells(WRONG));
        let tunnel = house.caller().open_tunnel("acme.cybozu.com").await;
        assert_eq!(tunnel.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    })
    .await;
}
