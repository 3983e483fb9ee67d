//! Before its first use an address is asked for.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;

use crate::echo::{
    Does, Echo, FIRST, FIRST_WRONG, RIGHT, SECOND, STRANGE, WRONG, ok, plan, shown, until_ready_is,
};
use crate::support::invariants::check_refusal;
use crate::support::{Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

#[tokio::test]
async fn addresses_that_are_seen_as_published_are_used_from_the_first_call_on() {
    let echo = Echo::telling(RIGHT).await;
    house(plan(&[&echo]), async |house| {
        for _ in 0..4 {
            let answer = house.caller().get(RECORDS).await;
            assert_eq!(answer.status, StatusCode::OK, "the first call, too");
        }
        let mut asked: Vec<_> = echo.asked();
        asked.truncate(2);
        asked.sort();
        let by: Vec<_> = asked.iter().map(|(ip, _)| ip.to_string()).collect();
        assert_eq!(by, [FIRST.1, SECOND.1], "each from that very address");
        let head = &asked[0].1;
        assert!(head.starts_with("GET /ip HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("{}", echo.address)), "{head}");
        for (published, _) in [FIRST, SECOND] {
            let label = format!("{{address=\"{published}\"}}");
            let metric = async |name: &str| {
                let sample = format!("kintone_egress_{name}{label}");
                house.metric(&sample).await
            };
            assert_eq!(metric("address_verified").await, Some(1.0));
            let at = metric("address_verified_timestamp_seconds").await.unwrap();
            let age = Timestamp::now().as_second() as f64 - at;
            assert!((-1.0..5.0).contains(&age), "{age}");
            let shown = shown(&house, published).await;
            assert_eq!(shown["verification"]["seen"], "published", "{shown}");
        }
        let sample = "kintone_egress_echo_answers{answer=\"published\",echo=\"1\"}";
        assert_eq!(house.metric(sample).await, Some(2.0));
        let (status, page) = house.admin_page("/readyz").await;
        assert!(status == 200 && page.contains("\"warnings\":[]"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn nothing_leaves_from_addresses_that_are_seen_as_others_until_they_are_right() {
    let echo = Echo::telling(WRONG).await;
    house(plan(&[&echo]), async |house| {
        for _ in 0..3 {
            let answer = house.caller().get(RECORDS).await;
            let error = "proxy_internal_error";
            check_refusal(&answer, 503, "GW_EGRESS_UNAVAILABLE", error);
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], "address_mismatch");
        }
        let (status, page) = house.admin_page("/readyz").await;
        assert_eq!(status, 503);
        assert!(
            page.contains("no usable address: address_mismatch"),
            "{page}"
        );
        assert!(page.contains(&format!("leaves as {STRANGE}")), "{page}");
        let sample = "kintone_egress_address_verified{address=\"18.177.83.94\"}";
        assert_eq!(house.metric(sample).await, Some(0.0));
        let shown = shown(&house, FIRST.0).await;
        assert_eq!(shown["verification"]["seen_as"], STRANGE, "{shown}");
        assert!(house.sim.ledger().sockets.is_empty(), "not one connection");
        assert_eq!(house.quotas.balance().acquired, 0);
        echo.now(Does::Tells(RIGHT));
        until_ready_is(&house, 200).await;
        assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn without_any_answer_nothing_leaves() {
    let dead = Echo::start(Does::Hangs).await;
    house(plan(&[&dead]), async |house| {
        let answer = house.caller().get(RECORDS).await;
        let error = "proxy_internal_error";
        check_refusal(&answer, 503, "GW_EGRESS_UNAVAILABLE", error);
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["detail"], "address_unverified");
        let shown = shown(&house, FIRST.0).await;
        let said = &shown["verification"]["echoes"][0];
        assert_eq!(said["trouble"], "no answer in time", "{shown}");
        assert!(house.sim.ledger().sockets.is_empty());
        dead.now(Does::Tells(RIGHT));
        until_ready_is(&house, 200).await;
        assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
    })
    .await;
}

/// What the state directory keeps of both addresses, verified so many seconds ago.
fn kept(age_seconds: i64) -> String {
    let at = Timestamp::now() - jiff::SignedDuration::from_secs(age_seconds);
    let proof = |(published, bind): (&str, &str)| {
        format!("{{\"published\":\"{published}\",\"bind\":\"{bind}\",\"proven_at\":\"{at}\"}}")
    };
    let addresses = [FIRST, SECOND].map(proof).join(",");
    format!("{{\"layout\":1,\"addresses\":[{addresses}]}}")
}

#[tokio::test]
async fn a_restart_while_no_echo_answers_takes_nobody_out() {
    let dead = Echo::start(Does::Hangs).await;
    let plan = Plan {
        verified: kept(600),
        tables: plan(&[&dead]).tables.replace("\"3s\"", "\"15m\""),
        ..Plan::default()
    };
    house(plan, async |house| {
        for _ in 0..2 {
            assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
        }
        assert!(!dead.asked().is_empty(), "it was asked first");
        let (status, page) = house.admin_page("/readyz").await;
        assert!(status == 200 && page.contains("no echo has said"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn what_was_known_too_long_ago_or_is_wrong_now_does_not_count() {
    let (dead, echo) = (
        Echo::start(Does::Hangs).await,
        Echo::telling(FIRST_WRONG).await,
    );
    for (echo, age, expected) in [(&dead, 4, 503), (&echo, 0, 200)] {
        let plan = Plan {
            verified: kept(age),
            ..plan(&[echo])
        };
        house(plan, async |house| {
            let answer = house.caller().get(RECORDS).await;
            assert_eq!(answer.status, expected);
            if expected == 200 {
                assert_eq!(answer.header("kintone-egress-address"), SECOND.0);
            } else {
                assert!(house.sim.ledger().sockets.is_empty());
            }
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_no_address_is_no_answer() {
    let elsewhere = Echo::telling(RIGHT).await;
    let moved = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://{}/ip\r\nContent-Length: 13\r\n\r\n{}\n",
        elsewhere.address, FIRST.0
    );
    let long = format!("{}{}", FIRST.0, " ".repeat(300));
    for (bytes, trouble) in [
        (moved, "status 302"),
        (ok(&long), "the answer is not one IPv4 address"),
        (
            ok("18.177.83.94 35.73.236.241"),
            "the answer is not one IPv4 address",
        ),
        (
            ok("::ffff:18.177.83.94"),
            "the answer is not one IPv4 address",
        ),
        (ok(""), "the answer is not one IPv4 address"),
        (String::from("hello\r\n\r\n"), "the connection broke"),
        (String::new(), "the connection broke"),
    ] {
        let echo = Echo::start(Does::Sends(bytes.clone())).await;
        house(plan(&[&echo]), async |house| {
            assert_eq!(house.caller().get(RECORDS).await.status, 503, "{bytes}");
            let shown = shown(&house, FIRST.0).await;
            let said = &shown["verification"]["echoes"][0];
            assert_eq!(said["trouble"], trouble, "{bytes}: {shown}");
        })
        .await;
    }
    assert!(elsewhere.asked().is_empty(), "no redirect is followed");
}

#[tokio::test]
async fn a_name_of_an_echo_is_vetted_as_kintones_are() {
    let echo = Echo::telling(RIGHT).await;
    let port = echo.address.port();
    for (leads, expected) in [("127.0.0.1", 200), ("10.255.255.1", 503)] {
        let plan = Plan {
            resolve: format!("\"echo.cybozu.com\" = \"{leads}:{port}\""),
            tables: plan(&[&echo])
                .tables
                .replace(&format!("127.0.0.1:{port}"), "echo.cybozu.com:1"),
            ..Plan::default()
        };
        house(plan, async |house| {
            assert_eq!(house.caller().get(RECORDS).await.status, expected);
            if expected == 503 {
                let shown = shown(&house, FIRST.0).await;
                let said = &shown["verification"]["echoes"][0];
                assert_eq!(said["trouble"], "address_forbidden", "{shown}");
            }
        })
        .await;
    }
}

#[tokio::test]
async fn addresses_of_other_hosts_and_those_that_have_gone_are_not_asked_for() {
    let echo = Echo::telling(RIGHT).await;
    let addresses = format!(
        "[[egress.address]]\npublished = \"{}\"\nbind = \"{}\"\n[[egress.address]]\npublished = \
         \"{}\"\nbind = \"{}\"\nstate = \"retiring\"\n",
        FIRST.0, FIRST.1, SECOND.0, SECOND.1
    );
    let plan = Plan {
        addresses,
        ..plan(&[&echo])
    };
    house(plan, async |house| {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
        let asked = echo.asked();
        assert!(asked.len() >= 2, "{asked:?}");
        assert!(asked.iter().all(|(ip, _)| ip.to_string() == FIRST.1));
    })
    .await;
}
