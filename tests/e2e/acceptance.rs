//! An account that takes one of our addresses is served by that one; what it lacks is named.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use kintone_sim::{DeniedAnswer, TenantSettings};
use tokio::time::Instant;

use crate::support::caller::{Answer, Caller, read};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

const FIRST: &str = "18.177.83.94";
const SECOND: &str = "35.73.236.241";

fn bind_of(published: &str) -> IpAddr {
    let bind = match published {
        FIRST => "127.0.1.94",
        _ => "127.0.1.241",
    };
    bind.parse().unwrap()
}

fn only(published: &str) -> Plan {
    let mut plan = Plan::default();
    plan.tenant.allow = Some(vec![bind_of(published)]);
    plan
}

async fn new_record(house: &House) -> Answer {
    static TITLE: AtomicU32 = AtomicU32::new(0);
    let title = TITLE.fetch_add(1, Ordering::Relaxed).to_string();
    house.caller().post_record(ACME, &title).await.unwrap()
}

async fn retries(house: &House) -> f64 {
    let sample = "kintone_egress_retries_total{reason=\"address_refused\"}";
    house.metric(sample).await.unwrap()
}

/// Calls that kintone's edge refused, by the simulator's word.
fn turned_away(house: &House) -> usize {
    let ledger = house.sim.ledger();
    let refused = [401, 403];
    let calls = ledger.executions.iter();
    calls
        .filter(|call| refused.contains(&call.status) && !call.admitted)
        .count()
}

/// Every call of both kinds, and a tunnel, leaves from `published`.
async fn all_go_by(house: &House, published: &str) {
    for _ in 0..6 {
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("kintone-egress-address"), published);
        let created = new_record(house).await;
        assert_eq!(created.status, StatusCode::OK);
        assert_eq!(created.header("kintone-egress-address"), published);
        let mut sender = house.caller().tunnel(ACME).await.unwrap();
        let inner = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
        let answer = read(sender.send_request(inner).await.unwrap()).await;
        assert_eq!(answer.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_first_refused_call_is_sent_again_and_later_ones_go_right_at_once() {
    for denied in [DeniedAnswer::Html403, DeniedAnswer::Html401] {
        for published in [FIRST, SECOND] {
            let mut plan = only(published);
            plan.tenant.denied = denied;
            house(plan, async |house| {
                // Whether the first call meets the refusal depends on whose turn it is.
                for _ in 0..2 {
                    let created = new_record(&house).await;
                    assert_eq!(created.status, StatusCode::OK);
                }
                all_go_by(&house, published).await;
                assert_eq!(turned_away(&house), 1);
                assert_eq!(retries(&house).await, 1.0);
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_call_whose_body_is_not_at_hand_passes_the_refusal_on_and_the_next_one_goes_right() {
    let mut plan = only(FIRST);
    plan.upstream = "replay = \"0KiB\"\n".to_owned();
    house(plan, async |house| {
        let mut refused = 0;
        for _ in 0..6 {
            let answer = new_record(&house).await;
            if answer.status == StatusCode::FORBIDDEN {
                refused += 1;
                assert_eq!(answer.header("kintone-egress-cause"), "ip-not-allowlisted");
                assert_eq!(answer.header("kintone-egress-address"), SECOND);
                let line = house.output.line_of(answer.id()).await;
                assert_eq!(
                    (&line["status"], &line["retries"]),
                    (&403.into(), &0.into())
                );
            } else {
                assert_eq!(answer.status, StatusCode::OK);
            }
        }
        assert_eq!((refused, turned_away(&house)), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_are_never_taken_for_a_missing_address() {
    house(Plan::default(), async |house| {
        let mut addresses = BTreeSet::new();
        for _ in 0..8 {
            let mut request = house.caller().request(Method::GET, RECORDS, "");
            let wrong = http::HeaderValue::from_static("d3Jvbmc6d3Jvbmc=");
            request.headers_mut().remove("x-cybozu-api-token");
            request
                .headers_mut()
                .insert("x-cybozu-authorization", wrong);
            let answer = house.caller().send(request).await.unwrap();
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.header("kintone-egress-cause"), "authentication");
            addresses.insert(answer.header("kintone-egress-address").to_owned());
        }
        assert_eq!(addresses.len(), 2, "both are used: {addresses:?}");
        assert_eq!(retries(&house).await, 0.0);
    })
    .await;
}

#[tokio::test]
async fn an_account_that_takes_none_gets_kintones_refusal_from_each_in_turn() {
    let mut plan = Plan::default();
    plan.tenant.allow = Some(Vec::new());
    house(plan, async |house| {
        let mut addresses = BTreeSet::new();
        for _ in 0..8 {
            let answer = house.caller().get(RECORDS).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            assert_eq!(answer.header("kintone-egress-cause"), "ip-not-allowlisted");
            addresses.insert(answer.header("kintone-egress-address").to_owned());
        }
        assert_eq!(addresses.len(), 2);
        assert_eq!(
            retries(&house).await,
            1.0,
            "only the first one knew of another"
        );
        house.sim.update(ACME, |tenant| {
            tenant.allow = Some(vec![bind_of(SECOND)]);
        });
        let first = house.caller().get(RECORDS).await.status;
        let second = house.caller().get(RECORDS).await.status;
        assert!(
            first == StatusCode::OK || second == StatusCode::OK,
            "{first} {second}"
        );
        all_go_by(&house, SECOND).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_learned_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let tables = format!("[state]\ndir = \"{}\"\n", dir.path().display());
    for turned_away_then in [1, 0] {
        let plan = Plan {
            tables: tables.clone(),
            ..only(SECOND)
        };
        house(plan, async |house| {
            for _ in 0..4 {
                let created = new_record(&house).await;
                assert_eq!(created.status, StatusCode::OK);
            }
            assert_eq!(turned_away(&house), turned_away_then);
        })
        .await;
    }
    let kept = std::fs::read_to_string(dir.path().join("acceptance.json")).unwrap();
    assert!(kept.contains(ACME) && kept.contains("refused"), "{kept}");
}

/// Probes at the pace of a test.
const BRISK: &str = "[acceptance]\nprobe_interval = \"1s\"\nprobe_open_interval = \"1s\"\n";

/// The probes that kintone saw of a domain.
fn probes(house: &House, domain: &str) -> Vec<IpAddr> {
    let is_probe = |agent: &str| agent.starts_with("kintone-egress-probe/");
    let ledger = house.sim.ledger();
    let calls = ledger.executions.iter();
    calls
        .filter(|call| call.host == domain && call.header("user-agent").any(is_probe))
        .map(|call| call.peer.ip())
        .collect()
}

#[tokio::test]
async fn an_address_that_is_allowed_later_is_noticed_and_used_again() {
    let plan = Plan {
        tables: BRISK.to_owned(),
        ..only(FIRST)
    };
    house(plan, async |house| {
        all_go_by(&house, FIRST).await;
        house.sim.update(ACME, |tenant| tenant.allow = None);
        let sample = |address: &str, state: &str| {
            let labels = format!("address=\"{address}\",state=\"{state}\"");
            format!("kintone_egress_acceptance_accounts{{{labels}}}")
        };
        let both = [sample(FIRST, "accepted"), sample(SECOND, "accepted")];
        let deadline = Instant::now() + Duration::from_secs(20);
        while house.metric(&both[1]).await != Some(1.0) {
            assert!(Instant::now() < deadline, "it was never noticed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(house.metric(&both[0]).await, Some(1.0));
        assert_eq!(house.metric(&sample(SECOND, "refused")).await, Some(0.0));
        let mut addresses = BTreeSet::new();
        for _ in 0..4 {
            let answer = house.caller().get(RECORDS).await;
            addresses.insert(answer.header("kintone-egress-address").to_owned());
        }
        assert_eq!(addresses.len(), 2);
        let ledger = house.sim.ledger();
        let asked = ledger.executions.iter();
        let bare = asked.filter(|call| call.header("user-agent").any(|it| it.contains("probe")));
        assert!(bare.clone().count() > 0);
        assert!(
            bare.clone()
                .all(|call| call.auth.is_empty() && !call.executed)
        );
    })
    .await;
}

#[tokio::test]
async fn accounts_of_tunnels_are_asked_and_those_that_are_switched_off_never() {
    let off = "[account.\"off.cybozu.com\"]\nprobe = false\n";
    let plan = Plan {
        tables: BRISK.to_owned() + off,
        ..only(SECOND)
    };
    house(plan, async |house| {
        let tenant = TenantSettings {
            allow: Some(vec![bind_of(SECOND)]),
            ..TenantSettings::default()
        };
        house.sim.tenant("off.cybozu.com", tenant);
        for domain in [ACME, "off.cybozu.com"] {
            let _tunnel = house.caller().open_tunnel(domain).await.unwrap();
        }
        house
            .until("both addresses were asked", |house| {
                let asked: BTreeSet<_> = probes(house, ACME).into_iter().collect();
                asked.len() == 2
            })
            .await;
        // What the gateway itself has learned: a tunnel leaves from the right one.
        for _ in 0..4 {
            let mut sender = house.caller().tunnel(ACME).await.unwrap();
            let inner = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
            let answer = read(sender.send_request(inner).await.unwrap()).await;
            assert_eq!(answer.unwrap().status, StatusCode::OK);
        }
        assert_eq!(probes(&house, "off.cybozu.com"), [] as [IpAddr; 0]);
        assert!(!probes(&house, ACME).is_empty());
    })
    .await;
}

#[tokio::test]
async fn where_only_an_address_that_is_down_is_accepted_the_missing_one_is_named() {
    let absent = format!("[[egress.address]]\npublished = \"{FIRST}\"\nbind = \"203.0.113.9\"\n");
    let usable = format!("[[egress.address]]\npublished = \"{SECOND}\"\nbind = \"127.0.1.241\"\n");
    let dir = tempfile::tempdir().unwrap();
    let at = "2026-11-26T00:00:00Z";
    let kept = format!(
        r#"{{"version":1,"accounts":[{{"account":"{ACME}","called":"{at}","addresses":[
        {{"address":"{FIRST}","accepted":"{at}","since":"{at}"}}]}}]}}"#
    );
    std::fs::write(dir.path().join("acceptance.json"), kept).unwrap();
    let plan = Plan {
        addresses: absent + &usable,
        tables: format!("[state]\ndir = \"{}\"\n", dir.path().display()),
        ..only(FIRST)
    };
    house(plan, async |house| {
        let first = house.caller().get(RECORDS).await;
        assert_eq!(
            first.status,
            StatusCode::FORBIDDEN,
            "nothing was known of it"
        );
        for language in ["en", "ja"] {
            let mut request = house.caller().request(Method::GET, RECORDS, "");
            let value = language.parse().unwrap();
            request.headers_mut().insert("accept-language", value);
            let answer = house.caller().send(request).await.unwrap();
            check_refusal(
                &answer,
                503,
                "GW_EGRESS_UNAVAILABLE",
                "proxy_internal_error",
            );
            let body = answer.json();
            let message = body["message"].as_str().unwrap();
            assert!(message.contains(FIRST), "{message}");
            assert!(message.contains("35.73.236.241/32"), "{message}");
            assert_eq!(body["actor"], "customer");
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], "address_refused");
        }
        assert_eq!(turned_away(&house), 1);
    })
    .await;
}
