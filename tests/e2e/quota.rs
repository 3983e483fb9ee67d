//! Within the account's quota, seen from kintone.

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::support::caller::Answer;
use crate::support::crowd::burst;
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, TOKEN, house};

pub(crate) const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A plan whose account takes so long for each call.
pub(crate) fn serving(base_ms: u64) -> Plan {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = base_ms;
    plan
}

/// A plan with one permit.
fn one_permit(base_ms: u64, quota: &str) -> Plan {
    let quota = format!("concurrency = 21\ninteractive_reserve = 0\n{quota}");
    Plan {
        quota,
        ceiling: 1,
        ..serving(base_ms)
    }
}

/// A call of the caller `user`, with one header more.
pub(crate) async fn call(
    house: &House,
    user: &str,
    name: &'static str,
    value: &str,
    url: &str,
) -> Answer {
    let caller = house.caller_as(user, TOKEN);
    let mut request = caller.request(Method::GET, url, "");
    request
        .headers_mut()
        .insert(name, value.parse().expect("a value"));
    caller.send(request).await.expect("an answer")
}

/// Waits until that many calls of the account wait.
pub(crate) async fn until_waiting(house: &House, calls: u32) {
    let account = kintone_egress::model::Account::from_normal(ACME);
    house
        .until("they wait", |house| {
            house
                .quotas
                .snapshot_of(&account)
                .is_some_and(|account| account.queued >= calls)
        })
        .await;
}

#[tokio::test]
async fn a_call_that_does_not_want_to_wait_is_told_at_once() {
    house(one_permit(600, ""), async |house| {
        // From its first answer on the account has metrics of its own.
        house.caller().get(RECORDS).await;
        let caller = house.caller();
        let running = tokio::spawn(async move { caller.get(RECORDS).await });
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let answer = call(
            &house,
            "events+t1",
            "kintone-egress-max-wait-ms",
            "0",
            RECORDS,
        )
        .await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        let body = answer.json();
        assert_eq!(body["code"], "GW_WAIT_EXCEEDED");
        assert_eq!(
            body["message"],
            "acme.cybozu.com: 1 of 1 permits in use, 0 wait, waited 0 ms; caller must slow down"
        );
        for (member, figure) in [
            ("waited_ms", 0),
            ("running", 1),
            ("limit", 1),
            ("queued", 0),
        ] {
            assert_eq!(body[member], figure, "{member}");
        }
        assert_eq!(body["tenant"], "t1");
        assert_eq!(body["account"], ACME);
        assert_eq!(body["id"], answer.id());
        assert_eq!(answer.header("retry-after"), "1");
        assert_eq!(answer.header("kintone-egress-cause"), "wait-exceeded");
        assert_eq!(answer.header("kintone-egress-actor"), "caller");
        assert_eq!(
            answer.header("proxy-status"),
            "kintone-egress; error=http_request_denied"
        );
        let wait_as_user = house.caller_as("events;wait=0", TOKEN).get(RECORDS).await;
        assert_eq!(wait_as_user.code(), "GW_WAIT_EXCEEDED");
        assert_eq!(running.await.unwrap().status, StatusCode::OK);
        let labels = format!("{{account=\"{ACME}\",reason=\"wait_exceeded\"}}");
        let refused = house
            .metric(&format!("kintone_egress_account_refused_total{labels}"))
            .await;
        assert_eq!(refused, Some(2.0));
        assert_eq!(
            house.sim.ledger().executions.len(),
            2,
            "a 429 of ours was not sent"
        );
    })
    .await;
}

#[tokio::test]
async fn a_wait_that_ends_is_counted_in_full() {
    house(one_permit(900, ""), async |house| {
        let caller = house.caller();
        let running = tokio::spawn(async move { caller.get(RECORDS).await });
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let answer = call(
            &house,
            "events",
            "kintone-egress-max-wait-ms",
            "300",
            RECORDS,
        )
        .await;
        check_refusal(&answer, 429, "GW_WAIT_EXCEEDED", "http_request_denied");
        let waited_ms = answer.json()["waited_ms"].as_u64().unwrap();
        assert!((300..800).contains(&waited_ms), "{waited_ms}");
        assert_eq!(
            answer.header("kintone-egress-queued-ms"),
            waited_ms.to_string()
        );
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(
            line["queued_ms"].as_f64().map(f64::floor),
            Some(waited_ms as f64)
        );
        assert_eq!(line["status"], 429);
        running.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn retry_after_tells_the_truth() {
    house(one_permit(1000, "max_wait = \"30s\""), async |house| {
        // The first one teaches how long calls take.
        house.caller().get(RECORDS).await;
        let caller = house.caller();
        let crowd = tokio::spawn(async move { burst(&caller, 7, RECORDS).await });
        until_waiting(&house, 6).await;
        let asked = Instant::now();
        let answer = call(
            &house,
            "events",
            "kintone-egress-max-wait-ms",
            "2000",
            RECORDS,
        )
        .await;
        assert_eq!(answer.code(), "GW_WAIT_EXCEEDED");
        assert!(
            answer.json()["waited_ms"].as_u64() < Some(200),
            "told at once: {answer:?}"
        );
        assert!(
            answer.json()["retry_at"]
                .as_str()
                .unwrap()
                .ends_with("+09:00")
        );
        let told: f64 = answer.header("retry-after").parse().unwrap();
        assert!(crowd.await.unwrap().is_all_well());
        let truth = asked.elapsed().as_secs_f64();
        println!("told {told} s, {truth:.2} s in truth");
        // Whole seconds, rounded up.
        assert!(
            told >= truth * 0.8 && told <= truth * 1.2 + 1.0,
            "{told} s, {truth:.2} s"
        );
    })
    .await;
}

#[tokio::test]
async fn a_rate_whose_turn_is_too_far_away_refuses_at_once() {
    let plan = Plan {
        quota: "rate = 1\nburst = 2".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        for _ in 0..2 {
            assert_eq!(house.caller().get(RECORDS).await.status, StatusCode::OK);
        }
        let answer = call(
            &house,
            "events",
            "kintone-egress-max-wait-ms",
            "100",
            RECORDS,
        )
        .await;
        check_refusal(&answer, 429, "GW_RATE_LIMITED", "http_request_denied");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(answer.json()["waited_ms"].as_u64() < Some(50));
        let tunnel = house
            .caller_as("events;wait=0", TOKEN)
            .open_tunnel(ACME)
            .await
            .unwrap_err();
        assert_eq!(
            tunnel.code(),
            "GW_RATE_LIMITED",
            "a tunnel takes a token too"
        );
        assert_eq!(tunnel.header("connection"), "close");
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_makes_room_for_tenants_with_fewer_waiting() {
    house(one_permit(400, "queue = 2"), async |house| {
        let spawn = |tenant: &str| {
            let caller = house.caller_as(&format!("events+{tenant}"), TOKEN);
            tokio::spawn(async move { caller.get(RECORDS).await })
        };
        let running = spawn("heavy");
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let older = spawn("heavy");
        until_waiting(&house, 1).await;
        let younger = spawn("heavy");
        until_waiting(&house, 2).await;
        let refused = house.caller_as("events+heavy", TOKEN).get(RECORDS).await;
        check_refusal(&refused, 429, "GW_QUEUE_FULL", "http_request_denied");
        let light = spawn("light");
        let displaced = younger.await.unwrap();
        assert_eq!(
            displaced.code(),
            "GW_QUEUE_FULL",
            "the youngest of the largest gives way"
        );
        for answered in [running, older, light] {
            assert_eq!(answered.await.unwrap().status, StatusCode::OK);
        }
        assert_eq!(house.sim.ledger().executions.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn interactive_calls_go_before_batch_calls() {
    house(one_permit(150, ""), async |house| {
        let url = |number: u32| format!("{RECORDS}&query=limit%20{number}");
        let mut calls = Vec::new();
        let mut spawn = |caller: crate::support::caller::Caller, number| {
            let url = url(number);
            calls.push(tokio::spawn(async move { caller.get(&url).await }));
        };
        spawn(house.caller(), 1);
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        spawn(house.batch_caller(), 4);
        until_waiting(&house, 1).await;
        spawn(house.caller_as("events;priority=batch", TOKEN), 5);
        until_waiting(&house, 2).await;
        spawn(house.caller(), 2);
        until_waiting(&house, 3).await;
        spawn(house.caller(), 3);
        until_waiting(&house, 4).await;
        for call in calls {
            assert_eq!(call.await.unwrap().status, StatusCode::OK);
        }
        let ledger = house.sim.ledger();
        let order: Vec<_> = ledger
            .executions
            .iter()
            .map(|call| &call.query[12..])
            .collect();
        let batch_last = |query: &&str| query.ends_with('4') || query.ends_with('5');
        assert!(
            order[..3].iter().all(|query| !batch_last(query)),
            "{order:?}"
        );
        assert!(order[3..].iter().all(batch_last), "{order:?}");
    })
    .await;
}

#[tokio::test]
async fn a_call_can_lower_its_priority_and_not_raise_it() {
    house(Plan::default(), async |house| {
        let name = "kintone-egress-priority";
        for (user, token, said, got) in [
            ("events", TOKEN, "batch", "batch"),
            ("events", TOKEN, "interactive", "interactive"),
            (
                "nightly",
                crate::support::BATCH_TOKEN,
                "interactive",
                "batch",
            ),
        ] {
            let caller = house.caller_as(user, token);
            let mut request = caller.request(Method::GET, RECORDS, "");
            request.headers_mut().insert(name, said.parse().unwrap());
            let answer = caller.send(request).await.unwrap();
            assert_eq!(
                house.output.line_of(answer.id()).await["priority"],
                got,
                "{user} {said}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn tenants_are_named_by_header_or_by_user_name() {
    house(Plan::default(), async |house| {
        let by_header = call(
            &house,
            "events",
            "kintone-egress-tenant",
            "company-1",
            RECORDS,
        )
        .await;
        let by_user = house.caller_as("events+company-1;purpose=incoming", TOKEN);
        let by_user = by_user.get(RECORDS).await;
        let both = call(
            &house,
            "events+company-1",
            "kintone-egress-tenant",
            "company-1",
            RECORDS,
        )
        .await;
        for answer in [by_header, by_user, both] {
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(
                house.output.line_of(answer.id()).await["tenant"],
                "company-1"
            );
        }
        let differ = call(
            &house,
            "events+company-1",
            "kintone-egress-tenant",
            "company-2",
            RECORDS,
        )
        .await;
        assert_eq!(
            (differ.status, &*differ.code()),
            (StatusCode::BAD_REQUEST, "GW_BAD_REQUEST")
        );
        assert_eq!(
            house.output.line_of(differ.id()).await["detail"],
            "tenants_differ"
        );
        for (name, value) in [
            ("kintone-egress-tenant", "no spaces"),
            ("kintone-egress-priority", "urgent"),
            ("kintone-egress-max-wait-ms", "600001"),
            ("kintone-egress-purpose", "Voice"),
        ] {
            let answer = call(&house, "events", name, value, RECORDS).await;
            assert_eq!(answer.code(), "GW_BAD_REQUEST", "{name}");
            let message = answer.json()["message"]
                .as_str()
                .unwrap()
                .to_ascii_lowercase();
            assert!(message.contains(name), "{message}");
        }
        let caller = house.caller();
        let mut repeated = caller.request(Method::GET, RECORDS, "");
        repeated
            .headers_mut()
            .append("kintone-egress-tenant", "a".parse().unwrap());
        repeated
            .headers_mut()
            .append("kintone-egress-tenant", "a".parse().unwrap());
        assert_eq!(
            caller.send(repeated).await.unwrap().code(),
            "GW_BAD_REQUEST"
        );
        assert_eq!(house.sim.ledger().executions.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_stays_below_its_ceiling() {
    let tables = format!("[account.\"{ACME}\".tenant.\"small\"]\nconcurrency = 3");
    house(
        Plan {
            tables,
            ceiling: 3,
            ..serving(50)
        },
        async |house| {
            let tally = burst(&house.caller_as("events+small", TOKEN), 30, RECORDS).await;
            assert!(tally.is_all_well(), "{tally:?}");
            assert_eq!(house.sim.accounting(ACME).peak, 3);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_of_two_takes_its_half() {
    let tables = "[fleet]\nhost = \"gw-a\"\nhosts = [\"gw-a\", \"gw-b\"]".to_owned();
    house(
        Plan {
            tables,
            ceiling: 40,
            ..serving(200)
        },
        async |house| {
            let tally = burst(&house.caller(), 120, RECORDS).await;
            assert!(tally.is_all_well(), "{tally:?}");
            assert_eq!(house.sim.accounting(ACME).peak, 40);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_limit_of_kintones_is_kept() {
    let mut plan = Plan {
        ceiling: 30,
        ..serving(50)
    };
    plan.tenant.concurrency = 50;
    house(plan, async |house| {
        // One answer tells it.
        house.caller().get(RECORDS).await;
        let tally = burst(&house.caller(), 150, RECORDS).await;
        assert!(tally.is_all_well(), "{tally:?}");
        let accounting = house.sim.accounting(ACME);
        assert_eq!((accounting.peak, accounting.refused), (30, 0));
    })
    .await;
}
