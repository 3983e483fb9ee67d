//! What goes wrong at kintone, on the way there, and with callers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use kintone_sim::{Fault, FaultKind, Keep};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::caller::{Caller, read, record};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, API_TOKEN, House, Plan, basic, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";
const RECORD: &str = "https://acme.cybozu.com/k/v1/record.json";

/// A fault that hits the next `count` requests.
fn some(count: u64, kind: FaultKind) -> Fault {
    Fault {
        count: Some(count),
        ..Fault::once(kind)
    }
}

/// How many requests kintone worked on.
fn executed(house: &House) -> usize {
    house
        .sim
        .ledger()
        .executions
        .iter()
        .filter(|execution| execution.executed)
        .count()
}

#[tokio::test]
async fn refusals_at_admission_are_waited_out_body_and_all() {
    house(Plan::default(), async |house| {
        house.sim.fault(some(2, FaultKind::TooManyRequests));
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(answer.status, StatusCode::OK);
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(
            (&line["retries"], &line["outcome"]),
            (&2.into(), &"ok".into())
        );
        assert!(
            line["kintone_code"].is_null() && line["cause"].is_null(),
            "{line}"
        );
        let queued_ms: u64 = answer.header("kintone-egress-queued-ms").parse().unwrap();
        assert!(
            queued_ms >= 500,
            "each refusal is waited out for 250 ms at least: {queued_ms}"
        );

        house.sim.fault(Fault::once(FaultKind::TooManyRequests));
        // 60 KiB: what `replay` still keeps.
        let title = "x".repeat(60 << 10);
        let answer = house.caller().post_record(ACME, &title).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let ledger = house.sim.ledger();
        let posts: Vec<_> = ledger
            .executions
            .iter()
            .filter(|e| e.method == "POST")
            .collect();
        assert_eq!(
            posts.iter().map(|post| post.executed).collect::<Vec<_>>(),
            [false, true]
        );
        assert_eq!(posts[0].body_length, posts[1].body_length);

        house.sim.fault(Fault::once(FaultKind::TooManyRequests));
        let chunked = format!(
            "POST {RECORD} HTTP/1.1\r\nHost: {ACME}\r\nProxy-Authorization: {}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            basic("events"),
            record("chunked").len(),
            record("chunked")
        );
        let text = crate::support::caller::exchange_raw(house.proxy, chunked.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let retries = house
            .metric("kintone_egress_retries_total{reason=\"account_concurrency\"}")
            .await;
        assert_eq!(retries, Some(4.0));
    })
    .await;
}

#[tokio::test]
async fn a_body_that_was_not_kept_is_not_sent_again() {
    let plan = Plan {
        upstream: "replay = \"1KiB\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        house.sim.fault(Fault::once(FaultKind::TooManyRequests));
        let answer = house
            .caller()
            .post_record(ACME, &"x".repeat(2000))
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            answer.json()["code"],
            "GAIA_TO04",
            "kintone's own refusal, unchanged"
        );
        assert_eq!(answer.header("x-cybozu-error"), "GAIA_TO04");
        assert_eq!(answer.header("kintone-egress-cause"), "account-concurrency");
        assert_eq!(house.sim.ledger().executions.len(), 1);
        let answer = house.caller().post_record(ACME, "small").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn when_the_wait_ends_kintones_last_refusal_passes() {
    house(Plan::default(), async |house| {
        house.sim.fault(Fault::always(FaultKind::TooManyRequests));
        let caller = house.caller();
        let mut request = caller.request(Method::POST, RECORD, record("never"));
        request
            .headers_mut()
            .insert("kintone-egress-max-wait-ms", "700".parse().unwrap());
        let answer = caller.send(request).await.unwrap();
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.json()["code"], "GAIA_TO04");
        assert_eq!(answer.header("kintone-egress-cause"), "account-concurrency");
        assert_eq!(answer.header("kintone-egress-actor"), "caller");
        assert!(!answer.header("kintone-egress-hint-ja").is_empty());
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["outcome"], "kintone_error");
        assert_eq!(line["kintone_code"], "GAIA_TO04");
        assert_eq!(line["kintone_id"], answer.json()["id"]);
        let tries = house.sim.ledger().executions.len();
        assert!((2..=3).contains(&tries), "{tries} tries in 700 ms");
        assert_eq!(executed(&house), 0);
    })
    .await;
}

#[tokio::test]
async fn what_kintone_says_is_not_repeated() {
    house(Plan::default(), async |house| {
        let json = |status, code: &str| FaultKind::Json {
            status,
            code: code.into(),
            message: "no".into(),
        };
        for (fault, status, cause) in [
            (json(429, "GAIA_TM12"), 429, "cursor-capacity"),
            (json(401, "CB_AU01"), 401, "authentication"),
            (json(409, "GAIA_CO02"), 409, "conflict"),
            (json(404, "GAIA_RE01"), 404, "not-found"),
            (json(403, "CB_NO02"), 403, "permission"),
            (json(500, "GAIA_DA02"), 500, "database-lock"),
            (FaultKind::Unavailable, 503, "maintenance"),
            (FaultKind::Overload, 502, "maintenance"),
        ] {
            house.sim.fault(Fault::once(fault.clone()));
            let before = house.sim.ledger().executions.len();
            let answer = house.caller().get(RECORDS).await;
            assert_eq!(answer.status.as_u16(), status, "{fault:?}");
            assert_eq!(answer.header("kintone-egress-cause"), cause, "{fault:?}");
            assert_eq!(house.sim.ledger().executions.len(), before + 1, "{fault:?}");
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["cause"], cause, "{fault:?}");
        }
    })
    .await;
}

/// The next of a fixed row of numbers that look random (SplitMix64).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Faults at about every third of the next `calls` requests, in a fixed order that looks random.
fn arm_at_random(house: &House, calls: u64, state: &mut u64) {
    let kinds = [
        FaultKind::ResetBeforeAnswer,
        FaultKind::ResetAfterExecuting,
        FaultKind::HalfBodyThenReset,
        FaultKind::ResetAfterBytes { bytes: 40 },
        FaultKind::Garbage,
        FaultKind::CloseAfterAnswer,
        FaultKind::CloseIdle { after_ms: 2 },
        FaultKind::SlowHead { wait_ms: 30 },
        FaultKind::SlowBody {
            bytes: 7,
            tick_ms: 1,
        },
        FaultKind::Unavailable,
        FaultKind::Overload,
        FaultKind::EarlyAnswer { status: 500 },
        FaultKind::StallAfterBytes { bytes: 60 },
    ];
    house.sim.clear_faults();
    for _ in 0..calls / 3 {
        let kind = kinds[draw(state) as usize % kinds.len()].clone();
        house.sim.fault(Fault {
            skip: draw(state) % calls,
            ..Fault::once(kind)
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_posts_under_faults_are_executed_at_most_once() {
    const CALLS: usize = 10_000;
    let upstream = "response_timeout = \"500ms\"".into();
    let mut plan = Plan {
        upstream,
        settle: "300ms",
        ..Plan::default()
    };
    // The simulator would compare each title with all before it.
    plan.tenant.apps[0].fields[0].unique = false;
    house(plan, async |house| {
        let turn = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..64 {
            let (caller, turn) = (house.caller(), Arc::clone(&turn));
            callers.spawn(async move { post_in_turn(&caller, &turn, CALLS).await });
        }
        // Little by little: each request looks through all that are armed.
        let (mut armed, mut state) = (0, 7);
        while armed < CALLS {
            if turn.load(Ordering::Relaxed) >= armed {
                arm_at_random(&house, 200, &mut state);
                if armed % 4000 == 2000 {
                    // Rare, since it is answered by sending less for seconds.
                    house.sim.fault(some(2, FaultKind::TooManyRequests));
                }
                armed += 200;
            }
            sleep(Duration::from_millis(2)).await;
        }
        let mut answers = HashMap::<String, usize>::new();
        while let Some(of_one) = callers.join_next().await {
            for (what, times) in of_one.expect("every call ends") {
                *answers.entry(what).or_default() += times;
            }
        }
        house.sim.clear_faults();
        let ledger = house.sim.ledger();
        let mut posts = HashMap::<&str, usize>::new();
        for execution in ledger
            .executions
            .iter()
            .filter(|execution| execution.executed)
        {
            *posts.entry(&execution.body_sha256).or_default() += 1;
        }
        let faults = ledger.totals.faults;
        println!(
            "{faults} faults, {} executed, answers {answers:?}",
            posts.len()
        );
        assert!(faults > CALLS as u64 / 5, "{faults}");
        assert_eq!(
            posts.values().filter(|times| **times > 1).count(),
            0,
            "executed twice"
        );
        assert_eq!(answers.values().sum::<usize>(), CALLS);
        // A 200 was executed, and nothing that was told as unsent was.
        assert!(posts.len() >= answers["200"]);
        let unsent = ["429", "503"]
            .iter()
            .filter_map(|status| answers.get(*status))
            .sum::<usize>();
        assert!(posts.len() + unsent <= CALLS);
    })
    .await;
}

/// Posts of one caller, each with a title of its own: how they ended.
async fn post_in_turn(caller: &Caller, turn: &AtomicUsize, calls: usize) -> HashMap<String, usize> {
    let mut ends = HashMap::new();
    let mut sender = caller.connect().await;
    loop {
        let number = turn.fetch_add(1, Ordering::Relaxed);
        if number >= calls {
            return ends;
        }
        let request = caller.request(Method::POST, RECORD, record(&format!("post {number}")));
        let exchange = async { read(sender.send_request(request).await?).await };
        let answer = timeout(Duration::from_secs(30), exchange)
            .await
            .expect("never silent");
        let end = match answer {
            Ok(answer) => answer.status.as_str().to_owned(),
            Err(_) => "cut".to_owned(),
        };
        *ends.entry(end).or_default() += 1;
        if sender.ready().await.is_err() {
            sender = caller.connect().await;
        }
    }
}

#[tokio::test]
async fn connections_that_kintone_closes_between_calls_fail_no_call() {
    house(
        Plan {
            keep: Keep::Counts,
            ..Plan::default()
        },
        async |house| {
            let caller = house.caller();
            let mut sender = caller.connect().await;
            let mut closed = 0;
            for round in 0..250_u64 {
                let closes = [
                    FaultKind::CloseAfterAnswer,
                    FaultKind::CloseIdle {
                        after_ms: round % 3,
                    },
                ];
                // Reads go at any moment, also into the closing of the connection.
                for number in 0..3 {
                    if let Some(kind) = closes.get(number) {
                        house.sim.fault(Fault::once(kind.clone()));
                        closed += 1;
                    }
                    let request = caller.request(Method::GET, RECORDS, "");
                    let answer = read(sender.send_request(request).await.unwrap())
                        .await
                        .unwrap();
                    assert_eq!(
                        answer.status,
                        StatusCode::OK,
                        "{round}, {number}: {answer:?}"
                    );
                    sender.ready().await.unwrap();
                }
                // A write finds connections that have been closed before it.
                house
                    .until("they are closed", |house| {
                        let sockets = house.sim.ledger().sockets;
                        sockets
                            .iter()
                            .filter(|socket| socket.closed.is_some())
                            .count()
                            >= closed
                    })
                    .await;
                let request = caller.request(Method::POST, RECORD, record(&format!("{round}")));
                let answer = read(sender.send_request(request).await.unwrap())
                    .await
                    .unwrap();
                assert_eq!(answer.status, StatusCode::OK, "{round}: {answer:?}");
                sender.ready().await.unwrap();
            }
            let accounting = house.sim.accounting(ACME);
            assert_eq!(house.sim.ledger().totals.faults, 500);
            assert!(accounting.admitted >= 1000);
            let repeated = house
                .metric("kintone_egress_retries_total{reason=\"reset\"}")
                .await;
            let stale = house
                .metric("kintone_egress_retries_total{reason=\"stale_connection\"}")
                .await;
            println!("sent again: {repeated:?} after a reset, {stale:?} unsent");
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_do_not_make_room_that_kintone_does_not_have() {
    const LEFT: u64 = 1000;
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 150;
    plan.tenant.latency.jitter_ms = 150;
    house(plan, async |house| {
        let answered = Arc::new(AtomicU64::new(0));
        let mut callers = JoinSet::new();
        for number in 0..150_u64 {
            let (caller, answered) = (house.caller(), Arc::clone(&answered));
            callers.spawn(async move { leave_again_and_again(&caller, number, &answered).await });
        }
        let left = |house: &House| {
            house
                .sim
                .accounting(ACME)
                .admitted
                .saturating_sub(answered.load(Ordering::Relaxed))
        };
        while left(&house) < LEFT {
            sleep(Duration::from_millis(10)).await;
        }
        callers.shutdown().await;
        house
            .until("all is over", |house| house.quotas.balance().held == 0)
            .await;
        let accounting = house.sim.accounting(ACME);
        println!(
            "{} of {} calls left half way, peak {}",
            left(&house),
            accounting.admitted,
            accounting.peak
        );
        assert_eq!((accounting.refused, accounting.in_process), (0, 0));
        let ledger = house.sim.ledger();
        let mut unread = ledger.executions.iter().filter(|call| call.client_left);
        if let Some(call) = unread.next() {
            let source = &ledger.sockets[call.socket];
            panic!("not read to its end without its caller: {call:?} on {source:?}");
        }
    })
    .await;
}

/// Calls, and most of the time leaves before the answer, at any moment.
async fn leave_again_and_again(caller: &Caller, seed: u64, answered: &AtomicU64) {
    let mut state = seed;
    loop {
        let mut sender = caller.connect().await;
        let request = caller.request(Method::GET, RECORDS, "");
        let patience = Duration::from_millis(draw(&mut state) % 800);
        if timeout(patience, sender.send_request(request))
            .await
            .is_ok()
        {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_that_leave_keep_their_permits_while_kintone_works() {
    let mut plan = Plan {
        quota: "concurrency = 30".into(),
        ceiling: 10,
        ..Plan::default()
    };
    plan.tenant.latency.base_ms = 300;
    house(plan, async |house| {
        let mut callers = JoinSet::new();
        for number in 0..60_u64 {
            let caller = house.caller();
            callers.spawn(async move {
                let mut sender = caller.tunnel(ACME).await.expect("a tunnel");
                let request = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
                let patience = Duration::from_millis(20 + number * 7 % 200);
                let _ = timeout(patience, sender.send_request(request)).await;
            });
        }
        callers.join_all().await;
        let accounting = house.sim.accounting(ACME);
        assert!(accounting.admitted >= 40, "{}", accounting.admitted);
        assert!(accounting.peak <= 10, "{}", accounting.peak);
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_is_not_completed() {
    house(Plan::default(), async |house| {
        let head = format!(
            "POST {RECORD} HTTP/1.1\r\nHost: {ACME}\r\nProxy-Authorization: {}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\nContent-Type: application/json\r\n",
            basic("events")
        );
        for framed in [
            "Content-Length: 1000\r\n\r\n{\"app\":1,",
            "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"app\":1,\r\n",
        ] {
            let mut stream = TcpStream::connect(house.proxy).await.unwrap();
            stream
                .write_all(format!("{head}{framed}").as_bytes())
                .await
                .unwrap();
            let before = house.sim.accounting(ACME).admitted;
            house
                .until("it has begun", |house| {
                    house.sim.accounting(ACME).in_process == 1
                })
                .await;
            assert!(before <= house.sim.accounting(ACME).admitted);
            drop(stream);
            house
                .until("it is over", |house| {
                    house.sim.accounting(ACME).in_process == 0
                })
                .await;
        }
        // One that has not said its app has not even begun there.
        let before = house.sim.accounting(ACME).admitted;
        let mut stream = TcpStream::connect(house.proxy).await.unwrap();
        let silent = format!("{head}Content-Length: 1000\r\n\r\n{{\"app\":1");
        stream.write_all(silent.as_bytes()).await.unwrap();
        house
            .until("it waits for its body", |house| {
                house.quotas.balance().held == 1
            })
            .await;
        drop(stream);
        house
            .until("it is over", |house| house.quotas.balance().held == 0)
            .await;
        assert_eq!(house.sim.accounting(ACME).admitted, before);
        // Broken chunks are told.
        let text = crate::support::caller::exchange_raw(
            house.proxy,
            format!("{head}Transfer-Encoding: chunked\r\n\r\nnonsense\r\n").as_bytes(),
        )
        .await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
        house
            .until("four lines", |house| house.output.lines().len() == 4)
            .await;
        let lines = house.output.lines();
        let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].clone()).collect();
        assert_eq!(
            outcomes,
            ["caller_gone", "caller_gone", "caller_gone", "bad_request"]
        );
        assert_eq!(lines[3]["detail"], "request_body_cut");
        assert_eq!(executed(&house), 0);
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_stops_sending_loses_its_permit() {
    let plan = Plan {
        limits: "stall_timeout = \"300ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let head = format!(
            "POST {RECORD} HTTP/1.1\r\nHost: {ACME}\r\nProxy-Authorization: {}\r\n\
             Content-Length: 1000\r\n\r\n{{\"app\":1",
            basic("events")
        );
        let text = crate::support::caller::exchange_raw(house.proxy, head.as_bytes()).await;
        assert!(
            text.starts_with("HTTP/1.1 400 GW_BAD_REQUEST\r\n"),
            "{text}"
        );
        house
            .until("it is logged", |house| house.output.lines().len() == 1)
            .await;
        assert_eq!(house.output.lines()[0]["detail"], "caller_stalled");
        let hits = house
            .metric("kintone_egress_limit_hits_total{limit=\"stall_timeout\"}")
            .await;
        assert_eq!(hits, Some(1.0));
        assert_eq!(executed(&house), 0);
    })
    .await;
}

#[tokio::test]
async fn silence_is_a_timeout_with_an_unknown_outcome() {
    let plan = Plan {
        upstream: "response_timeout = \"300ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        house
            .sim
            .fault(Fault::once(FaultKind::SlowHead { wait_ms: 900 }));
        let answer = house.caller().post_record(ACME, "slow").await.unwrap();
        check_refusal(&answer, 504, "GW_UPSTREAM_TIMEOUT", "http_response_timeout");
        assert_eq!(answer.header("kintone-egress-actor"), "kintone");
        assert_eq!(
            house.quotas.balance().held,
            1,
            "kintone may still work on it"
        );
        let settling = house.quotas.snapshot();
        assert_eq!(settling[0].settling, 1);
        house
            .until("it has settled", |house| house.quotas.balance().held == 0)
            .await;
        assert_eq!(executed(&house), 1);

        house
            .sim
            .fault(Fault::once(FaultKind::StallAfterBytes { bytes: 300 }));
        let caller = house.caller();
        let cut = caller.send(caller.request(Method::GET, RECORDS, "")).await;
        assert!(cut.is_err(), "{cut:?}");
        house
            .until("it is logged", |house| {
                let lines = house.output.lines();
                lines
                    .iter()
                    .any(|l| l["outcome"] == "upstream_timeout" && l["status"] == 200)
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn unknown_outcomes_are_never_told_as_unsent() {
    house(Plan::default(), async |house| {
        for (fault, detail) in [
            (FaultKind::ResetBeforeAnswer, "response_reset"),
            (FaultKind::ResetAfterExecuting, "response_reset"),
            (FaultKind::ResetAfterBytes { bytes: 20 }, "response_reset"),
            (FaultKind::Garbage, "response_unparsable"),
        ] {
            house.sim.fault(Fault::once(fault.clone()));
            let before = house.sim.ledger().executions.len();
            let answer = house
                .caller()
                .post_record(ACME, &format!("{fault:?}"))
                .await
                .unwrap();
            check_refusal(&answer, 502, "GW_UPSTREAM_RESET", "connection_terminated");
            assert_eq!(
                house.output.line_of(answer.id()).await["detail"],
                detail,
                "{fault:?}"
            );
            assert_eq!(house.sim.ledger().executions.len(), before + 1, "{fault:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_that_may_not_go_again_is_not_told_as_unsent() {
    let plan = Plan {
        quota: "concurrency = 21\ninteractive_reserve = 0".into(),
        ceiling: 1,
        ..Plan::default()
    };
    house(plan, async |house| {
        // The call that broke keeps the only permit, so that the second try is refused.
        house.sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
        let caller = house.caller();
        let mut request = caller.request(Method::GET, RECORDS, "");
        let at_once = http::HeaderValue::from_static("0");
        request
            .headers_mut()
            .insert("kintone-egress-max-wait-ms", at_once);
        let answer = caller.send(request).await.unwrap();
        check_refusal(&answer, 502, "GW_UPSTREAM_RESET", "connection_terminated");
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(
            (&line["outcome"], &line["detail"]),
            (&"upstream_reset".into(), &"response_reset".into())
        );
        assert_eq!(executed(&house), 1);
    })
    .await;
}

#[tokio::test]
async fn failures_of_tls_are_told_apart() {
    let plan = Plan {
        upstream: "connect_timeout = \"800ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        for (fault, detail, error) in [
            (
                FaultKind::TlsExpired,
                "tls_expired",
                "tls_certificate_error",
            ),
            (
                FaultKind::TlsWrongName,
                "tls_name_mismatch",
                "tls_certificate_error",
            ),
            (
                FaultKind::TlsUntrusted,
                "tls_untrusted",
                "tls_certificate_error",
            ),
            (FaultKind::TlsAlert, "tls_protocol", "tls_protocol_error"),
            (FaultKind::TlsStall, "tls_timeout", "tls_protocol_error"),
        ] {
            house.sim.fault(Fault::once(fault.clone()));
            let answer = house.caller().post_record(ACME, "never").await.unwrap();
            check_refusal(&answer, 502, "GW_UPSTREAM_TLS", error);
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["detail"], detail, "{fault:?}");
            assert_eq!(
                house.quotas.balance().held,
                0,
                "nothing was sent: {fault:?}"
            );
        }
        // A reset says nothing about TLS.
        house.sim.fault(Fault::once(FaultKind::TlsReset));
        let answer = house.caller().post_record(ACME, "never").await.unwrap();
        assert_eq!(answer.code(), "GW_UPSTREAM_CONNECT");
        assert_eq!(
            house.output.line_of(answer.id()).await["detail"],
            "connect_reset"
        );
        assert!(house.sim.ledger().executions.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_refused_connection_is_told_in_both_modes() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let resolve = format!("\"closed.cybozu.com\" = \"{free}\"");
    house(
        Plan {
            resolve,
            ..Plan::default()
        },
        async |house| {
            let answer = house
                .caller()
                .get("https://closed.cybozu.com/k/v1/apps.json")
                .await;
            check_refusal(&answer, 502, "GW_UPSTREAM_CONNECT", "connection_refused");
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(
                (&line["detail"], &line["upstream"]),
                (&"connect_refused".into(), &free.to_string().into())
            );
            let tunnel = house
                .caller()
                .open_tunnel("closed.cybozu.com")
                .await
                .unwrap_err();
            check_refusal(&tunnel, 502, "GW_UPSTREAM_CONNECT", "connection_refused");
            assert_eq!(tunnel.header("connection"), "close");
        },
    )
    .await;
}

#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_refused() {
    let resolve = "\"inside.cybozu.com\" = \"10.0.0.1:443\"\n\
                   \"metadata.cybozu.com\" = \"169.254.169.254:80\"";
    house(
        Plan {
            resolve: resolve.into(),
            ..Plan::default()
        },
        async |house| {
            for host in ["inside.cybozu.com", "metadata.cybozu.com"] {
                let begun = Instant::now();
                let answer = house
                    .caller()
                    .get(&format!("https://{host}/k/v1/apps.json"))
                    .await;
                let (code, error) = ("GW_DESTINATION_FORBIDDEN", "destination_ip_prohibited");
                check_refusal(&answer, 403, code, error);
                let line = house.output.line_of(answer.id()).await;
                assert_eq!(line["detail"], "address_forbidden");
                assert!(
                    line["upstream"].is_null() && line["connect_ms"].is_null(),
                    "{line}"
                );
                assert!(
                    begun.elapsed() < Duration::from_secs(2),
                    "nothing was dialled"
                );
                let tunnel = house.caller().open_tunnel(host).await.unwrap_err();
                check_refusal(&tunnel, 403, code, error);
            }
            assert!(house.sim.ledger().sockets.is_empty());
        },
    )
    .await;
}

#[tokio::test]
async fn an_endless_answer_stops_when_its_caller_leaves() {
    house(Plan::default(), async |house| {
        house.sim.fault(Fault::once(FaultKind::EndlessBody));
        let mut stream = TcpStream::connect(house.proxy).await.unwrap();
        let head = format!(
            "GET {RECORDS} HTTP/1.1\r\nHost: {ACME}\r\nProxy-Authorization: {}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\n\r\n",
            basic("events")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut some = vec![0; 1 << 20];
        stream.read_exact(&mut some).await.unwrap();
        drop(stream);
        house
            .until("it is logged", |house| {
                house
                    .output
                    .lines()
                    .iter()
                    .any(|line| line["outcome"] == "caller_gone")
            })
            .await;
        let line = &house.output.lines()[0];
        assert_eq!(
            (&line["detail"], &line["status"]),
            (&"answer_too_long".into(), &200.into())
        );
    })
    .await;
}

#[tokio::test]
async fn a_waiting_call_whose_caller_leaves_is_never_sent() {
    let quota = "concurrency = 21\ninteractive_reserve = 0".into();
    let mut plan = Plan {
        quota,
        ceiling: 1,
        ..Plan::default()
    };
    plan.tenant.latency.base_ms = 400;
    house(plan, async |house| {
        let caller = house.caller();
        let running = tokio::spawn(async move { caller.get(RECORDS).await });
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let caller = house.caller();
        let waiting = tokio::spawn(async move { caller.post_record(ACME, "left").await });
        house
            .until("it waits", |house| house.quotas.snapshot()[0].queued == 1)
            .await;
        waiting.abort();
        house
            .until("it is dropped", |house| {
                house.quotas.snapshot()[0].queued == 0
            })
            .await;
        assert_eq!(house.sim.accounting(ACME).in_process, 1, "at once");
        assert_eq!(running.await.unwrap().status, StatusCode::OK);
        house
            .until("both are logged", |house| house.output.lines().len() == 2)
            .await;
        let line = &house.output.lines()[0];
        assert_eq!(
            (&line["outcome"], &line["status"]),
            (&"caller_gone".into(), &499.into())
        );
        assert_eq!(house.sim.ledger().executions.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_stops_reading_loses_its_permit_in_both_modes() {
    let plan = Plan {
        limits: "stall_timeout = \"300ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        house.sim.fault(some(2, FaultKind::EndlessBody));
        let mut stream = TcpStream::connect(house.proxy).await.unwrap();
        let head = format!(
            "GET {RECORDS} HTTP/1.1\r\nHost: {ACME}\r\nProxy-Authorization: {}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\n\r\n",
            basic("events")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let caller = house.caller();
        let tunnel = caller.open_tunnel(ACME).await.unwrap();
        let mut tls = caller.tls(tunnel, ACME).await.unwrap();
        let inner = format!(
            "GET /k/v1/records.json?app=1 HTTP/1.1\r\nHost: {ACME}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\n\r\n"
        );
        tls.write_all(inner.as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        house
            .until("both have ended", |house| house.output.lines().len() == 2)
            .await;
        for line in house.output.lines() {
            assert_eq!(line["outcome"], "caller_gone", "{line}");
            // What is read on without the caller, to see kintone's end, has its limit too.
            let detail = match line["mode"].as_str() {
                Some("tunnel") => "caller_stalled",
                _ => "answer_too_long",
            };
            assert_eq!(line["detail"], detail, "{line}");
        }
        let hits = "kintone_egress_limit_hits_total{limit=\"stall_timeout\"}";
        assert_eq!(house.metric(hits).await, Some(2.0));
        house
            .until("the permits are back", |house| {
                house.quotas.balance().held == 0
            })
            .await;
        drop((stream, tls));
    })
    .await;
}
