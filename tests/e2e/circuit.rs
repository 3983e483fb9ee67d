//! Maintenance and unknown domains, as callers and operators see them.

use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use kintone_sim::Maintenance;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::operate::order;
use crate::schema;
use crate::support::caller::Answer;
use crate::support::crowd::{burst, flood};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";
const GONE: &str = "https://gone.cybozu.com/k/v1/records.json?app=1";

/// How long a change of kintone's may take to be noticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls until an answer is as wanted.
async fn until_answered(house: &House, url: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = house.caller().get(url).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{}", answer.status);
        sleep(Duration::from_millis(20)).await;
    }
}

async fn account(house: &House, domain: &str) -> Value {
    let (status, page) = house
        .admin_page(&format!("/api/v1/accounts/{domain}"))
        .await;
    assert_eq!(status, 200, "{page}");
    let page = serde_json::from_str(&page).unwrap();
    schema::check(&page, "account");
    page
}

fn maintain(house: &House, maintenance: Maintenance) {
    house
        .sim
        .update(ACME, move |tenant| tenant.maintenance = maintenance);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_maintenance_is_told_and_its_end_is_found() {
    for maintenance in [Maintenance::Text503, Maintenance::Html502] {
        house(Plan::default(), async |house| {
            assert_eq!(house.caller().get(RECORDS).await.status, 200);
            maintain(&house, maintenance);
            let kintones = house.caller().get(RECORDS).await;
            assert_eq!(kintones.header("kintone-egress-cause"), "maintenance");
            let is_ours = |answer: &Answer| answer.reason == "GW_ACCOUNT_MAINTENANCE";
            let told = until_answered(&house, RECORDS, is_ours).await;
            check_refusal(
                &told,
                503,
                "GW_ACCOUNT_MAINTENANCE",
                "destination_unavailable",
            );
            let Err(told) = house.caller().open_tunnel(ACME).await else {
                panic!("the same call, the same verdict");
            };
            check_refusal(
                &told,
                503,
                "GW_ACCOUNT_MAINTENANCE",
                "destination_unavailable",
            );
            let before = house.sim.ledger().executions.len();
            for _ in 0..50 {
                house.caller().get(RECORDS).await;
            }
            let sent = house.sim.ledger().executions.len() - before;
            assert!(sent <= 5, "{sent} calls of 50 went to see");
            let page = account(&house, ACME).await;
            assert!(matches!(page["circuit"].as_str(), Some("open" | "probing")));
            let sample =
                "kintone_egress_account_closed{account=\"acme.cybozu.com\",reason=\"maintenance\"}";
            assert_eq!(house.metric(sample).await, Some(1.0));
            let line = house.output.line_of(told.id()).await;
            assert_eq!(line["outcome"], "account_maintenance");
            assert_eq!(line["detail"], "maintenance_seen");
            maintain(&house, Maintenance::Off);
            until_answered(&house, RECORDS, |answer| answer.status == 200).await;
            house
                .until("nothing is left of it", |house| {
                    house.quotas.snapshot()[0].circuit.label() == "closed"
                })
                .await;
            assert_eq!(house.metric(sample).await, None);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_callers_wait_when_it_begins_and_when_it_ends() {
    let plan = Plan {
        quota: "max_wait = \"30s\"\n".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        house
            .sim
            .update(ACME, |tenant| tenant.latency.base_ms = 100);
        let caller = house.caller();
        let end = Instant::now() + Duration::from_secs(9);
        let crowd = flood(&caller, 500, RECORDS, end);
        let maintenance = async {
            sleep(Duration::from_secs(1)).await;
            maintain(&house, Maintenance::Text503);
            // Until it is certain, and those of before are answered.
            sleep(Duration::from_secs(2)).await;
            let before = house.sim.ledger().executions.len();
            sleep(Duration::from_secs(2)).await;
            let probes = house.sim.ledger().executions.len() - before;
            assert!(probes <= 3, "{probes} calls went to see in 2 s");
            maintain(&house, Maintenance::Off);
            before + probes
        };
        let (tally, seen) = tokio::join!(crowd, maintenance);
        assert_eq!(tally.broken, 0, "every call is answered");
        let others: Vec<_> = tally
            .statuses
            .keys()
            .filter(|it| !matches!(it, 200 | 503))
            .collect();
        assert!(others.is_empty(), "{tally:?}");
        assert!(tally.of(200) > 500, "{tally:?}");
        // Calls at once from the end on: never more than twice those answered before and one.
        let ledger = house.sim.ledger();
        let mut events: Vec<(u64, i64)> = Vec::new();
        for execution in ledger.executions[seen..].iter().filter(|it| it.admitted) {
            events.push((execution.start.sequence, 1));
            events.extend(execution.end.map(|end| (end.sequence, -1)));
        }
        events.sort_unstable();
        let (mut running, mut ended) = (0, 0);
        for (_, change) in events.iter().take(60) {
            running += change;
            ended += i64::from(*change < 0);
            // Doubling by the second as well: in the first hundreds of milliseconds that is nothing.
            assert!(
                running <= 2 * (ended + 2),
                "{running} at once after {ended} answers"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announced_maintenance_is_kept_to_and_can_be_taken_back() {
    house(Plan::default(), async |house| {
        assert_eq!(house.caller().get(RECORDS).await.status, 200);
        let to = Timestamp::now() + SignedDuration::from_secs(3600);
        let to = Timestamp::from_second(to.as_second()).unwrap();
        let window = format!(
            "[[maintenance]]\nfrom = 2026-01-01T00:00:00Z\nto = {to}\nzones = [\"cybozu.com\"]\n"
        );
        house.reconfigure(|text| format!("{text}{window}"));
        assert_eq!(
            order(&house, "POST", "/api/v1/reload", "").await.status,
            200
        );
        let before = house.sim.ledger().executions.len();
        let told = house.caller().get(RECORDS).await;
        assert_eq!(
            (told.status.as_u16(), &*told.reason),
            (503, "GW_ACCOUNT_MAINTENANCE")
        );
        assert_eq!(
            told.header("retry-after"),
            "",
            "longer than a client may sleep"
        );
        let said: Timestamp = told.json()["retry_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(said, to);
        let header: Timestamp = told.header("kintone-egress-retry-at").parse().unwrap();
        assert_eq!(header, to);
        assert!(house.caller().open_tunnel(ACME).await.is_err());
        assert_eq!(
            house.sim.ledger().executions.len(),
            before,
            "nothing is sent"
        );
        assert_eq!(account(&house, ACME).await["circuit"], "planned");
        house
            .sim
            .tenant("acme.kintone.com", kintone_sim::TenantSettings::default());
        let other = RECORDS.replace("cybozu.com", "kintone.com");
        assert_eq!(house.caller().get(&other).await.status, 200, "another zone");
        house.reconfigure(|text| text.replace(&window, ""));
        assert_eq!(
            order(&house, "POST", "/api/v1/reload", "").await.status,
            200
        );
        assert_eq!(house.caller().get(RECORDS).await.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_wait_when_an_announced_maintenance_begins_are_told_then() {
    let from = Timestamp::now() + SignedDuration::from_secs(4);
    let to = from + SignedDuration::from_secs(3600);
    let plan = Plan {
        quota: "concurrency = 2\nheadroom = 1\nmax_wait = \"30s\"\n".into(),
        tables: format!("[[maintenance]]\nfrom = {from}\nto = {to}\n"),
        ..Plan::default()
    };
    house(plan, async |house| {
        house
            .sim
            .update(ACME, |tenant| tenant.latency.base_ms = 7000);
        let tally = burst(&house.caller(), 20, RECORDS).await;
        assert_eq!(
            tally.of(200),
            1,
            "the one that is there already ends: {tally:?}"
        );
        assert_eq!(tally.of(503), 19, "{tally:?}");
        assert!(Timestamp::now() < to);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_that_kintone_knows_no_more_is_closed_until_it_is_confirmed() {
    let plan = Plan {
        tables: "[circuit]\nunknown_after = 5\nunknown_over = \"100ms\"\n".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        // A wrong path says nothing about the domain.
        for _ in 0..20 {
            let wrong = "https://gone.cybozu.com/k/v1/recrods.json";
            assert_eq!(house.caller().get(wrong).await.status, 404);
            sleep(Duration::from_millis(10)).await;
        }
        let is_ours = |answer: &Answer| answer.reason == "GW_ACCOUNT_UNKNOWN";
        let told = until_answered(&house, GONE, is_ours).await;
        check_refusal(&told, 403, "GW_ACCOUNT_UNKNOWN", "http_request_denied");
        assert!(house.caller().open_tunnel("gone.cybozu.com").await.is_err());
        let before = house.sim.ledger().executions.len();
        assert_eq!(house.caller().get(GONE).await.status, 403);
        assert_eq!(
            house.sim.ledger().executions.len(),
            before,
            "nothing is sent"
        );
        let page = account(&house, "gone.cybozu.com").await;
        assert_eq!(page["circuit"], "unknown");
        assert!(page["unknown_since"].is_string());
        let sample = "kintone_egress_account_closed{account=\"other\",reason=\"unknown\"}";
        assert_eq!(house.metric(sample).await, Some(1.0));
        assert_eq!(
            house.caller().get(RECORDS).await.status,
            200,
            "others go on"
        );
        let written = house
            .config_path
            .with_file_name("state")
            .join("unknown-accounts.json");
        house
            .until("it is written down", |_| {
                let text = std::fs::read_to_string(&written).unwrap_or_default();
                text.contains("\"gone.cybozu.com\"")
            })
            .await;
        // Somebody has looked: the customer is back under that name.
        house
            .sim
            .tenant("gone.cybozu.com", kintone_sim::TenantSettings::default());
        assert_eq!(house.caller().get(GONE).await.status, 403);
        let confirm = "/api/v1/accounts/Gone.cybozu.com/confirm";
        let confirmed = order(&house, "POST", confirm, "").await;
        assert_eq!(confirmed.status, 200);
        schema::check(&confirmed.json(), "order");
        assert_eq!(
            order(&house, "POST", confirm, "").await.status,
            422,
            "it is open"
        );
        assert_eq!(house.caller().get(GONE).await.status, 200);
        assert_eq!(
            account(&house, "gone.cybozu.com").await["circuit"],
            "closed"
        );
        house
            .until("it is written down", |_| {
                let text = std::fs::read_to_string(&written).unwrap();
                !text.contains("gone.cybozu.com")
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_new_table_in_the_configuration_confirms_an_unknown_domain() {
    let plan = Plan {
        tables: "[circuit]\nunknown_after = 2\nunknown_over = \"0s\"\n".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        for _ in 0..2 {
            assert_eq!(house.caller().get(GONE).await.status, 404);
        }
        assert_eq!(house.caller().get(GONE).await.status, 403);
        let request = house.caller().request(Method::GET, GONE, "");
        assert_eq!(house.caller().send(request).await.unwrap().status, 403);
        house.reconfigure(|text| format!("{text}\n[account.\"gone.cybozu.com\"]\nqueue = 5\n"));
        assert_eq!(
            order(&house, "POST", "/api/v1/reload", "").await.status,
            200
        );
        assert_eq!(
            house.caller().get(GONE).await.status,
            404,
            "it is asked again"
        );
    })
    .await;
}
