//! Which accounts take an address: of a thousand in traffic, and of a planned one by probes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use kintone_sim::{Keep, TenantSettings};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::schema;
use crate::support::caller::{Answer, Caller};
use crate::support::program::{ask_house, said};
use crate::support::{ACME, House, Plan, house};

const FIRST: &str = "18.177.83.94";
const SECOND: &str = "35.73.236.241";

fn domain(number: usize) -> String {
    format!("c{number:04}.cybozu.com")
}

fn tenant(allow: &[&str]) -> TenantSettings {
    TenantSettings {
        allow: Some(allow.iter().map(|bind| bind.parse().unwrap()).collect()),
        ..TenantSettings::default()
    }
}

async fn report(house: &House, address: &str) -> Value {
    let path = format!("/api/v1/readiness?address={address}");
    let (status, page) = house.admin_page(&path).await;
    assert_eq!(status, 200, "{page}");
    let report: Value = serde_json::from_str(&page).unwrap();
    schema::check(&report, "readiness");
    report
}

/// Accounts and their states.
fn states(report: &Value) -> BTreeMap<String, String> {
    let accounts = report["accounts"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    accounts
        .map(|account| (text(&account["account"]), text(&account["state"])))
        .collect()
}

async fn call(caller: &Caller, domain: &str, wrong: bool) -> Answer {
    let url = format!("https://{domain}/k/v1/records.json?app=1");
    let mut request = caller.request(Method::GET, &url, "");
    if wrong {
        request.headers_mut().remove("x-cybozu-api-token");
        let password = HeaderValue::from_static("d3Jvbmc6d3Jvbmc=");
        request
            .headers_mut()
            .insert("x-cybozu-authorization", password);
    }
    caller.send(request).await.unwrap()
}

/// Calls each of the accounts `rounds` times, a few at once; the answers by account.
async fn call_all(house: &House, count: usize, rounds: usize) -> Vec<(usize, Answer)> {
    let mut calling = JoinSet::new();
    for worker in 0..8 {
        let caller = house.caller();
        calling.spawn(async move {
            let mut answers = Vec::new();
            for number in (worker..count).step_by(8) {
                for _ in 0..rounds {
                    let wrong = has_wrong_credentials(number);
                    answers.push((number, call(&caller, &domain(number), wrong).await));
                }
            }
            answers
        });
    }
    calling.join_all().await.into_iter().flatten().collect()
}

/// Half allow the first address only.
fn takes_only_the_first(number: usize) -> bool {
    number.is_multiple_of(2)
}

/// Of a tenth the credentials are wrong.
fn has_wrong_credentials(number: usize) -> bool {
    number % 10 == number / 10 % 2 * 5
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_accounts_each_is_served_or_rightly_named() {
    const ACCOUNTS: usize = 1000;
    let plan = Plan {
        keep: Keep::Counts,
        tables: "[acceptance]\nprobe_interval = \"10m\"\nprobe_open_interval = \"20s\"\n".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        for number in 0..ACCOUNTS {
            let allow: &[&str] = match takes_only_the_first(number) {
                true => &["127.0.1.94"],
                false => &["127.0.1.94", "127.0.1.241"],
            };
            house.sim.tenant(&domain(number), tenant(allow));
        }
        let answers = call_all(&house, ACCOUNTS, 2).await;
        assert_eq!(answers.len(), 2 * ACCOUNTS);
        for (number, answer) in &answers {
            if has_wrong_credentials(*number) {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
                assert_eq!(answer.header("kintone-egress-cause"), "authentication");
            } else {
                assert_eq!(answer.status, StatusCode::OK, "{}", domain(*number));
            }
        }
        // What calls have not told, whose turn was always the same, probes do.
        let truth: BTreeMap<_, _> = (0..ACCOUNTS)
            .map(|number| {
                let state = match takes_only_the_first(number) {
                    true => "refused",
                    false => "accepted",
                };
                (domain(number), state.to_owned())
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let second = states(&report(&house, SECOND).await);
            if second == truth {
                break;
            }
            assert!(Instant::now() < deadline, "{second:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let first = states(&report(&house, FIRST).await);
        assert!(first.values().all(|state| state == "accepted"));
        for (number, answer) in call_all(&house, ACCOUNTS, 1).await {
            let wrong = has_wrong_credentials(number);
            assert_eq!(answer.status == StatusCode::OK, !wrong);
            if takes_only_the_first(number) {
                assert_eq!(answer.header("kintone-egress-address"), FIRST);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_planned_address_the_report_is_the_truth_and_those_switched_off_are_never_asked() {
    const ACCOUNTS: usize = 40;
    let mut tables = "[acceptance]\nprobe_interval = \"1s\"\n".to_owned();
    let is_off = |number: usize| number % 10 == 9;
    for number in 0..ACCOUNTS {
        let _ = writeln!(tables, "[account.\"{}\"]", domain(number));
        if is_off(number) {
            tables.push_str("probe = false\n");
        }
    }
    let plan = Plan {
        addresses: format!(
            "[[egress.address]]\npublished = \"{FIRST}\"\nbind = \"127.0.1.94\"\n\
             [[egress.address]]\npublished = \"{SECOND}\"\nbind = \"127.0.1.241\"\n\
             state = \"planned\"\nvalid_from = 2199-04-01\n"
        ),
        tables,
        ..Plan::default()
    };
    house(plan, async |house| {
        for number in 0..ACCOUNTS {
            let allow: &[&str] = match number % 3 {
                0 => &["127.0.1.94"],
                _ => &["127.0.1.94", "127.0.1.241"],
            };
            house.sim.tenant(&domain(number), tenant(allow));
        }
        let truth: BTreeMap<_, _> = (0..ACCOUNTS)
            .map(|number| {
                let state = match (is_off(number), number % 3) {
                    (true, _) => "unknown",
                    (false, 0) => "refused",
                    (false, _) => "accepted",
                };
                (domain(number), state.to_owned())
            })
            .collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        let found = loop {
            let found = report(&house, SECOND).await;
            if states(&found) == truth {
                break found;
            }
            assert!(Instant::now() < deadline, "{found}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        assert_eq!(found["state"], "planned");
        let count = |state: &str| truth.values().filter(|it| *it == state).count();
        for state in ["accepted", "refused", "unknown"] {
            assert_eq!(found[state], count(state));
        }
        // Calls never leave from it, and nobody but those who may be asked was asked.
        for _ in 0..4 {
            let answer = call(&house.caller(), &domain(9), false).await;
            assert_eq!(answer.header("kintone-egress-address"), FIRST);
        }
        let ledger = house.sim.ledger();
        let planned: IpAddr = "127.0.1.241".parse().unwrap();
        let asked: BTreeSet<_> = ledger
            .executions
            .iter()
            .filter(|call| call.peer.ip() == planned)
            .inspect(|call| assert!(call.auth.is_empty() && !call.executed))
            .map(|call| call.host.clone())
            .collect();
        let may_be_asked: BTreeSet<_> = (0..ACCOUNTS)
            .filter(|number| !is_off(*number))
            .map(domain)
            .collect();
        assert_eq!(asked, may_be_asked);
        let (status, _) = house
            .admin_page("/api/v1/readiness?address=192.0.2.9")
            .await;
        assert_eq!(status, 404);
        let (status, _) = house.admin_page("/api/v1/readiness?address=x").await;
        assert_eq!(status, 400);
    })
    .await;
}

#[tokio::test]
async fn the_exit_status_says_whether_every_account_takes_the_address() {
    let plan = Plan {
        tenant: tenant(&["127.0.1.94"]),
        ..Plan::default()
    };
    house(plan, async |house| {
        let readiness = async |more: &[&str]| said(&ask_house(&house, &["readiness"], more).await);
        let known = async |address: &str| states(&report(&house, address).await);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !(known(FIRST).await.values().any(|state| state == "accepted")
            && known(SECOND).await.values().any(|state| state == "refused"))
        {
            assert!(Instant::now() < deadline, "it is never known");
            call(&house.caller(), ACME, false).await;
        }
        let (code, text) = readiness(&[FIRST]).await;
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = readiness(&[SECOND]).await;
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains("1 refuse it") && text.contains(ACME),
            "{text}"
        );
        let (code, text) = readiness(&["192.0.2.9"]).await;
        assert_eq!(code, Some(1), "{text}");
        let (code, text) = readiness(&[FIRST, "--format", "json"]).await;
        assert_eq!(code, Some(0), "{text}");
        schema::check(&serde_json::from_str(&text).unwrap(), "readiness");
    })
    .await;
}
