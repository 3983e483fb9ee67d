//! Within the account's quota, seen from kintone.

use std::time::Duration;

use http::{Method, StatusCode};
use kintone_sim::{Accounting, Keep, Latency};
use tokio::time::{Instant, sleep};

use crate::support::caller::Answer;
use crate::support::crowd::{Lag, Tally, burst, flood};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, TOKEN, house, house_alone};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A plan whose account takes so long for each call.
fn serving(base_ms: u64) -> Plan {
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
async fn call(house: &House, user: &str, name: &'static str, value: &str, url: &str) -> Answer {
    let caller = house.caller_as(user, TOKEN);
    let mut request = caller.request(Method::GET, url, "");
    request
        .headers_mut()
        .insert(name, value.parse().expect("a value"));
    caller.send(request).await.expect("an answer")
}

/// When kintone first had `level` calls of ours.
fn reached(accounting: &Accounting, level: u32) -> Instant {
    let step = accounting.steps.iter().find(|step| step.own >= level);
    step.unwrap_or_else(|| panic!("never {level} at once, {} at most", accounting.peak))
        .at
}

/// Waits until that many calls of the account wait.
async fn until_waiting(house: &House, calls: u32) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_callers_use_the_quota_and_never_exceed_it() {
    // Long enough that a processor shared with other programs does not decide the figure: what is
    // lost is the time between an answer and the next request on its permit.
    house_alone(serving(400), async |house| {
        let end = Instant::now() + Duration::from_secs(5);
        let tally = flood(&house.caller(), 300, RECORDS, end).await;
        assert!(
            tally.is_all_well(),
            "{:?}, {} broken",
            tally.statuses,
            tally.broken
        );
        let accounting = house.sim.accounting(ACME);
        assert_eq!((accounting.peak, accounting.refused), (80, 0));
        let used = accounting.mean_between(reached(&accounting, 80), end) / 80.0;
        println!("use of the 80: {:.2} %", used * 100.0);
        assert!(used >= 0.97, "{used:.3} of the 80 permits were used");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_is_kept_and_used() {
    let plan = Plan {
        quota: "rate = 100\nburst = 100".into(),
        ..Plan::default()
    };
    house_alone(plan, async |house| {
        let begun = Instant::now();
        let tally = burst(&house.caller(), 300, RECORDS).await;
        assert!(tally.is_all_well() && tally.of(200) == 300, "{tally:?}");
        let ledger = house.sim.ledger();
        let mut arrivals: Vec<_> = ledger
            .executions
            .iter()
            .map(|execution| execution.start.at - begun)
            .collect();
        arrivals.sort_unstable();
        for (before, arrival) in arrivals.iter().enumerate() {
            let allowed = 100.0 + 100.0 * arrival.as_secs_f64();
            assert!(
                (before as f64) < allowed + 1.0,
                "{before} calls before {arrival:?}"
            );
        }
        let first = arrivals[0];
        let last = arrivals[299];
        println!("first after {first:?}, last after {last:?}");
        assert!(last >= Duration::from_secs(2), "{last:?}");
        // Counted from the first arrival, so that the time it takes to open 300 connections to the
        // gateway is no part of it.
        assert!(
            last - first <= Duration::from_millis(2300),
            "{:?}",
            last - first
        );
    })
    .await;
}

/// One tenant floods with `size` callers while another sends five calls a second.
async fn a_light_tenant_beside(size: usize, mut plan: Plan) {
    plan.tenant.latency = Latency {
        base_ms: 180,
        jitter_ms: 40,
        ..Latency::default()
    };
    house_alone(plan, async move |house| {
        let heavy = house.caller_as("events+heavy", TOKEN);
        let end = Instant::now() + Duration::from_secs(7);
        let flooding = tokio::spawn(async move { flood(&heavy, size, RECORDS, end).await });
        until_waiting(&house, u32::try_from(size).expect("small") - 80).await;
        // The first 80 calls end no sooner for anybody.
        sleep(Duration::from_secs(1)).await;
        let lag = Lag::start();
        let mut light = Tally::default();
        while Instant::now() < end - Duration::from_millis(200) {
            let asked = Instant::now();
            let answer = call(&house, "events", "kintone-egress-tenant", "light", RECORDS).await;
            light.count(&Ok(answer));
            tokio::time::sleep_until(asked + Duration::from_millis(200)).await;
        }
        let lag = lag.worst().await;
        let heavy = flooding.await.expect("no panic");
        let p99 = light.wait_ms(0.99);
        println!(
            "{size}: light p99 {p99} ms of {} (lag {lag:?}), heavy {:?}",
            light.of(200),
            heavy.statuses
        );
        assert!(light.is_all_well() && light.of(200) >= 10, "{light:?}");
        // A permit that is free cannot be given before its giver has a processor.
        let p99_max = Duration::from_millis(25) + lag;
        let told = Duration::from_millis(p99);
        assert!(
            told <= p99_max,
            "{p99} ms, lag {lag:?}: {:?}",
            light.queued_ms
        );
        assert!(heavy.is_all_well(), "{:?}", heavy.statuses);
        assert!(heavy.wait_ms(0.5) > 500, "the flood did wait");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_tenant_does_not_reach_another() {
    a_light_tenant_beside(
        500,
        Plan {
            keep: Keep::Counts,
            ..Plan::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_waiting_calls_do_not_reach_another_tenant() {
    let quota = "queue = 3000\nmax_wait = \"60s\"".to_owned();
    a_light_tenant_beside(
        2080,
        Plan {
            keep: Keep::Counts,
            quota,
            ..Plan::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_batch_calls_leave_room_for_interactive_ones() {
    let mut plan = Plan {
        keep: Keep::Counts,
        ..serving(200)
    };
    plan.tenant.latency.paths = vec![("/k/v1/app.json".into(), 6_000)];
    house_alone(plan, async |house| {
        let batch = house.batch_caller();
        let url = "https://acme.cybozu.com/k/v1/app.json?id=1";
        let batch = tokio::spawn(async move { burst(&batch, 500, url).await });
        until_waiting(&house, 500 - 72).await;
        house
            .until("72 run", |house| {
                house.sim.accounting(ACME).in_process == 72
            })
            .await;
        let lag = Lag::start();
        let mut tally = Tally::default();
        for _ in 0..20 {
            let asked = Instant::now();
            tally.count(&Ok(house.caller().get(RECORDS).await));
            tokio::time::sleep_until(asked + Duration::from_millis(200)).await;
        }
        println!("interactive p99 {} ms", tally.wait_ms(0.99));
        assert!(tally.is_all_well());
        let p99_max = Duration::from_millis(50) + lag.worst().await;
        assert!(
            Duration::from_millis(tally.wait_ms(0.99)) <= p99_max,
            "{:?}",
            tally.queued_ms
        );
        batch.abort();
        assert!(batch.await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_load_comes_and_goes() {
    // Refusals come from calls that are on their way when the first one is told, so that their
    // number is that of calls which end within one round trip: spread, as different calls are.
    let mut plan = serving(200);
    plan.tenant.latency.jitter_ms = 400;
    house_alone(plan, async |house| {
        let end = Instant::now() + Duration::from_secs(16);
        let caller = house.caller();
        let flooding = tokio::spawn(async move { flood(&caller, 160, RECORDS, end).await });
        sleep(Duration::from_millis(1500)).await;
        let lag = Lag::start();
        let came = Instant::now();
        house.sim.update(ACME, |tenant| tenant.foreign = 60);
        sleep(Duration::from_secs(1)).await;
        let lag = lag.worst().await;
        sleep(Duration::from_secs(2)).await;
        let gone = Instant::now();
        house.sim.update(ACME, |tenant| tenant.foreign = 0);
        let tally = flooding.await.expect("no panic");
        let accounting = house.sim.accounting(ACME);
        let refused = |from, until| {
            let between = |at: &Instant| (came + from..came + until).contains(at);
            accounting
                .refused_at
                .iter()
                .filter(|stamp| between(&stamp.at))
                .count()
        };
        let second = Duration::from_secs(1);
        let early = refused(Duration::ZERO, second);
        let late = refused(2 * second, 60 * second);
        let used = accounting.mean_between(gone + 10 * second, end) / 80.0;
        println!(
            "refused {early} in the first second (lag {lag:?}), {late} after two, {} in all; \
             {:.1} % of 80 after ten seconds",
            accounting.refused,
            used * 100.0
        );
        assert!(
            tally.is_all_well(),
            "{:?}, {} broken",
            tally.statuses,
            tally.broken
        );
        // Twice as many where the gateway itself had to wait for a processor before it could hear
        // the first refusal.
        let early_max = if lag < Duration::from_millis(10) {
            5
        } else {
            10
        };
        assert!(
            early <= early_max && late == 0,
            "{early} at first, {late} late, lag {lag:?}"
        );
        assert!(used >= 0.95, "{used:.3}");
        // What is not ours is 60 places: the rest, less the margin of two, is still used.
        let beside = accounting.mean_between(came + 2 * second, gone);
        assert!(beside >= 30.0, "{beside:.1} in use beside 60");
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
