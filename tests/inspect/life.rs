//! How inspected connections live and end: what CONNECT said, reloads, limits, callers that leave,
//! the drain.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use kintone_egress::config::token::hash_token;
use kintone_egress::drain::Finished;
use kintone_egress::gateway::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::time::{sleep, timeout};

use crate::support::caller::{Answer, Caller, ask_raw, read, record};
use crate::support::inspect::PrivateCa;
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, TOKEN, house};

const PATH: &str = "/k/v1/records.json?app=1";

/// HTTP/1 or HTTP/2 inside a connection of its own.
enum Line {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Line {
    /// One of each.
    async fn both(caller: &Caller) -> [Self; 2] {
        [
            Self::H1(caller.h1(ACME).await.expect("let in")),
            Self::H2(caller.h2(ACME).await.expect("let in")),
        ]
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::H1(_) => "HTTP/1",
            Self::H2(_) => "HTTP/2",
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        match self {
            Self::H1(sender) => {
                sender.ready().await?;
                read(sender.send_request(request).await?).await
            }
            Self::H2(sender) => {
                let (mut head, body) = request.into_parts();
                head.uri = format!("https://{ACME}{}", head.uri)
                    .parse()
                    .expect("a URL");
                let request = Request::from_parts(head, body);
                sender.ready().await?;
                read(sender.send_request(request).await?).await
            }
        }
    }

    async fn get(&mut self) -> Answer {
        self.send(get()).await.expect("an answer")
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_closed(),
            Self::H2(sender) => sender.is_closed(),
        }
    }
}

fn get() -> Request<Full<Bytes>> {
    Caller::inner(Method::GET, ACME, PATH, "")
}

fn header(
    mut request: Request<Full<Bytes>>,
    name: &'static str,
    value: &str,
) -> Request<Full<Bytes>> {
    let value = HeaderValue::from_str(value).expect("a value");
    request.headers_mut().append(name, value);
    request
}

async fn reload(house: &House) {
    let order = format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        house.admin
    );
    let answer = ask_raw(house.admin, order.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn hits(house: &House, limit: &str) -> f64 {
    let sample = format!("kintone_egress_limit_hits_total{{limit=\"{limit}\"}}");
    house
        .metric(&sample)
        .await
        .expect("declared from the start")
}

#[tokio::test]
async fn what_connect_says_holds_inside_and_a_call_s_own_word_wins() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house
            .caller_as("events+t1;priority=batch;purpose=incoming", TOKEN)
            .trusting(&ca.pem);
        for mut line in Line::both(&caller).await {
            let told = line.get().await;
            let logged = house.output.line_of(told.id()).await;
            assert_eq!(
                (&logged["tenant"], &logged["priority"], &logged["purpose"]),
                (&"t1".into(), &"batch".into(), &"incoming".into()),
                "{logged}"
            );
            let other = header(get(), "kintone-egress-tenant", "t2");
            let told = line
                .send(header(other, "kintone-egress-purpose", "outgoing"))
                .await
                .unwrap();
            let logged = house.output.line_of(told.id()).await;
            assert_eq!(
                (&logged["tenant"], &logged["priority"], &logged["purpose"]),
                (&"t2".into(), &"batch".into(), &"outgoing".into()),
                "{logged}"
            );
            // Credentials inside end here unread: the harness sees that none reach kintone.
            let own = header(get(), "proxy-authorization", "Basic bm9ib2R5Om5vdGhpbmc=");
            assert_eq!(line.send(own).await.unwrap().status, StatusCode::OK);
            let own = header(get(), "proxy-authorization", "nonsense");
            assert_eq!(line.send(own).await.unwrap().status, StatusCode::OK);
            let urgent = header(get(), "kintone-egress-priority", "urgent");
            let refused = line.send(urgent).await.unwrap();
            assert_eq!(
                (refused.status.as_u16(), &*refused.code()),
                (400, "GW_BAD_REQUEST")
            );
            assert!(
                refused.json()["message"]
                    .to_string()
                    .contains("Kintone-Egress-Priority")
            );
        }
    })
    .await;
}

#[tokio::test]
async fn each_call_inside_is_judged_by_the_rules_of_its_moment() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut lines = Line::both(&caller).await;
        for line in &mut lines {
            assert_eq!(line.get().await.status, StatusCode::OK);
        }
        let events = "name = \"events\"\n";
        house.reconfigure(|text| text.replace(events, &format!("{events}enabled = false\n")));
        reload(&house).await;
        for line in &mut lines {
            let refused = line.get().await;
            assert_eq!(
                (refused.status.as_u16(), &*refused.code()),
                (403, "GW_CALLER_FORBIDDEN"),
                "{}",
                line.name()
            );
        }
        let token = hash_token(TOKEN.as_bytes()).to_hex();
        let other = hash_token(b"another token").to_hex();
        house.reconfigure(|text| {
            text.replace("enabled = false\n", "")
                .replace(&token, &other)
        });
        reload(&house).await;
        for line in &mut lines {
            let refused = line.get().await;
            assert_eq!(
                (refused.status.as_u16(), &*refused.code()),
                (407, "GW_AUTHENTICATION_REQUIRED"),
                "{}",
                line.name()
            );
        }
        house.reconfigure(|text| text.replace(&other, &token));
        reload(&house).await;
        for line in &mut lines {
            assert_eq!(line.get().await.status, StatusCode::OK, "{}", line.name());
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_to_be_inspected_any_more_is_let_go() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut lines = Line::both(&caller).await;
        for line in &mut lines {
            assert_eq!(line.get().await.status, StatusCode::OK);
        }
        house.reconfigure(|text| text.replace("callers = [\"*\"]", "callers = [\"nightly\"]"));
        reload(&house).await;
        for line in &mut lines {
            assert_eq!(line.get().await.status, StatusCode::OK, "no call is lost");
            house.until(line.name(), |_| line.is_closed()).await;
        }
        let mut tunnel = house.caller().tunnel(ACME).await.unwrap();
        let answer = read(tunnel.send_request(get()).await.unwrap())
            .await
            .unwrap();
        assert_eq!(answer.header("via"), "", "nobody reads inside a tunnel");
    })
    .await;
}

#[tokio::test]
async fn what_inspect_does_not_name_is_a_tunnel() {
    let ca = PrivateCa::new();
    let other = hash_token(b"canary-other").to_hex();
    let plan = Plan {
        tables: format!(
            "{}[[caller]]\nname = \"blind\"\ntoken_sha256 = \"{other}\"\nmodes = [\"inspect\"]\n",
            ca.table_for(r#"["acme.cybozu.com"]"#, r#"["events", "blind"]"#)
        ),
        ..Plan::default()
    };
    house(plan, async |house| {
        // Another caller, another account, and the host that asks for the caller's own certificate.
        for (caller, host) in [
            (house.batch_caller(), ACME),
            (house.caller(), "beta.cybozu.com"),
        ] {
            let mut sender = caller.tunnel(host).await.unwrap();
            let request = Caller::inner(Method::GET, host, PATH, "");
            let answer = read(sender.send_request(request).await.unwrap())
                .await
                .unwrap();
            assert_eq!(answer.header("via"), "", "nobody reads inside a tunnel");
        }
        let secure = house.caller().trusting(&ca.pem);
        let tunnel = secure.open_tunnel("acme.s.cybozu.com").await.unwrap();
        secure.tls(tunnel, "acme.s.cybozu.com").await.unwrap_err();
        house
            .until("all are logged", |house| house.output.lines().len() == 3)
            .await;
        assert!(
            house
                .output
                .lines()
                .iter()
                .all(|line| line["mode"] == "tunnel")
        );
        let blind = house.caller_as("blind", "canary-other");
        for host in ["beta.cybozu.com", "acme.s.cybozu.com"] {
            let refused = blind.open_tunnel(host).await.unwrap_err();
            check_refusal(&refused, 403, "GW_CALLER_FORBIDDEN", "http_request_denied");
        }
        blind.open_tunnel(ACME).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_call_is_closed_politely() {
    let ca = PrivateCa::new();
    let plan = Plan {
        limits: "caller_idle = \"300ms\"".into(),
        ..Plan::default()
    };
    house(ca.plan(plan), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut silent = caller.secured(ACME).await.unwrap();
        let lines = Line::both(&caller).await;
        // TLS itself says that it ends: without that word this would be an error.
        let mut rest = Vec::new();
        let closed = timeout(Duration::from_secs(5), silent.read_to_end(&mut rest)).await;
        assert_eq!(closed.expect("it is closed").expect("by close_notify"), 0);
        for line in &lines {
            house.until(line.name(), |_| line.is_closed()).await;
        }
        assert_eq!(hits(&house, "caller_idle").await, 3.0);
        house.until("all are over", |_| true).await;
        let open = "kintone_egress_inspected_connections{caller=\"events\"}";
        for _ in 0..100 {
            if house.metric(open).await == Some(0.0) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(house.metric(open).await, Some(0.0));
        assert!(house.output.lines().is_empty(), "no call, no line");
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended() {
    let ca = PrivateCa::new();
    let plan = Plan {
        limits: "handshake_timeout = \"300ms\"".into(),
        ..Plan::default()
    };
    house(ca.plan(plan), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut tunnel = caller.open_tunnel(ACME).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_secs(5), tunnel.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(rest.is_empty());
        house
            .until("it is logged", |house| !house.output.lines().is_empty())
            .await;
        let line = &house.output.lines()[0];
        assert_eq!(
            (&line["outcome"], &line["detail"]),
            (&"bad_request".into(), &"hello_timeout".into())
        );
        assert_eq!(hits(&house, "handshake_timeout").await, 1.0);
    })
    .await;
}

#[tokio::test]
async fn a_call_of_a_caller_that_has_left_is_read_to_its_end() {
    let ca = PrivateCa::new();
    let mut plan = Plan {
        settle: "20s",
        ..ca.plan(Plan::default())
    };
    plan.tenant.latency.base_ms = 400;
    house(plan, async |house| {
        let caller = house.caller().trusting(&ca.pem);
        for (turn, mut line) in Line::both(&caller).await.into_iter().enumerate() {
            let name = line.name();
            let leaving = tokio::spawn(async move {
                // It resets the stream of HTTP/2, and the connection of HTTP/1.
                let _ = timeout(Duration::from_millis(150), line.send(get())).await;
                line
            });
            house
                .until("it is at kintone", |house| {
                    house.sim.accounting(ACME).in_process == 1
                })
                .await;
            let line = leaving.await.unwrap();
            if let Line::H1(sender) = line {
                drop(sender);
            } else {
                let mut line = line;
                assert_eq!(line.get().await.status, StatusCode::OK, "others go on");
            }
            house
                .until(name, |house| house.output.lines().len() == 2 * turn + 1)
                .await;
            let gone = house
                .output
                .lines()
                .into_iter()
                .find(|line| line["outcome"] == "caller_gone");
            let gone = gone.expect("logged");
            assert_eq!(
                (&gone["status"], &gone["mode"]),
                (&499.into(), &"inspect".into()),
                "{gone}"
            );
            // kintone's end was seen: nothing settles for the twenty seconds.
            house
                .until("permits are back", |house| house.quotas.balance().held == 0)
                .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_waiting_call_of_a_caller_that_has_left_is_dropped_unsent() {
    let ca = PrivateCa::new();
    let mut plan = Plan {
        quota: "concurrency = 21".into(),
        ceiling: 1,
        ..ca.plan(Plan::default())
    };
    plan.tenant.latency.base_ms = 800;
    house(plan, async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let [mut first, mut waiting] = Line::both(&caller).await;
        let running = tokio::spawn(async move { first.get().await });
        house
            .until("it is at kintone", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let left = timeout(Duration::from_millis(200), waiting.send(get())).await;
        assert!(left.is_err(), "it waits");
        house
            .until("it is logged", |house| house.output.lines().len() == 1)
            .await;
        let line = &house.output.lines()[0];
        assert_eq!(
            (&line["status"], &line["outcome"]),
            (&499.into(), &"caller_gone".into()),
            "{line}"
        );
        assert_eq!(running.await.unwrap().status, StatusCode::OK);
        assert_eq!(house.sim.ledger().executions.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_announced_drain_still_takes_calls_and_sends_callers_elsewhere() {
    let ca = PrivateCa::new();
    let plan = ca.plan(Plan::default());
    house(plan, async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let [mut h1, mut h2] = Line::both(&caller).await;
        assert_eq!((h1.get().await.status, h2.get().await.status), (StatusCode::OK, StatusCode::OK));
        let order = format!(
            "POST /api/v1/drain?exit=false HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            house.admin
        );
        assert_eq!(ask_raw(house.admin, order.as_bytes()).await.status, 200);
        let answer = h1.get().await;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, "close"));
        house.until("HTTP/2 is told to go", |_| h2.is_closed()).await;
        // New connections are taken, and their calls, too.
        let mut late = Line::H1(caller.h1(ACME).await.unwrap());
        assert_eq!(late.get().await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn a_drain_answers_what_runs_inside() {
    let ca = PrivateCa::new();
    let mut plan = ca.plan(Plan::default());
    plan.tenant.latency.base_ms = 700;
    let finished = house(plan, async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut running = Vec::new();
        for mut line in Line::both(&caller).await {
            running.push(tokio::spawn(async move { line.get().await }));
        }
        let idle = Line::both(&caller).await;
        house
            .until("both run", |house| {
                house.sim.accounting(ACME).in_process == 2
            })
            .await;
        house.signals.send(Signal::End).await.unwrap();
        for line in &idle {
            house.until(line.name(), |_| line.is_closed()).await;
        }
        for running in running {
            assert_eq!(running.await.unwrap().status, StatusCode::OK);
        }
        house.until("it has ended", House::has_ended).await;
    })
    .await;
    assert_eq!(finished, Finished::Idle);
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_ended_alone() {
    const LARGE: u64 = 8 << 20;
    let ca = PrivateCa::new();
    let plan = Plan {
        limits: "stall_timeout = \"500ms\"".into(),
        ..ca.plan(Plan::default())
    };
    house(plan, async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut sender = caller.h2(ACME).await.unwrap();
        let url = format!("https://{ACME}/k/v1/file.json?fileKey=synthetic-{LARGE}");
        let request = Caller::inner(Method::GET, ACME, &url, "");
        let mut unread = sender.send_request(request).await.unwrap();
        assert_eq!(unread.status(), StatusCode::OK);
        let mut line = Line::H2(sender);
        // Others are answered all the while.
        for _ in 0..10 {
            assert_eq!(line.get().await.status, StatusCode::OK);
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(hits(&house, "stall_timeout").await, 1.0);
        let mut cut = false;
        while let Some(frame) = unread.body_mut().frame().await {
            cut = frame.is_err();
            if cut {
                break;
            }
        }
        assert!(cut, "a shorter answer must not look whole");
        house
            .until("it is logged", |house| house.output.lines().len() == 11)
            .await;
        let gone = house
            .output
            .lines()
            .into_iter()
            .find(|line| line["outcome"] == "caller_gone");
        assert_eq!(gone.expect("logged")["status"], 200);
        assert_eq!(line.get().await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn streams_wait_each_for_its_own_permit() {
    const CALLS: usize = 60;
    let ca = PrivateCa::new();
    let mut plan = Plan {
        quota: "concurrency = 25".into(),
        ceiling: 5,
        ..ca.plan(Plan::default())
    };
    plan.tenant.latency.base_ms = 100;
    house(plan, async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let sender = caller.h2(ACME).await.unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..CALLS {
            let mut line = Line::H2(sender.clone());
            calls.spawn(async move {
                let path = "/k/v1/record.json";
                let body = record(&format!("stream {number}"));
                line.send(Caller::inner(Method::POST, ACME, path, body))
                    .await
                    .unwrap()
            });
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        }
        assert_eq!(house.quotas.balance().acquired, CALLS as u64);
        house
            .until("all are logged", |house| {
                house.output.lines().len() == CALLS
            })
            .await;
        assert!(
            house.sim.accounting(ACME).peak >= 4,
            "they run side by side"
        );
        let waited = |line: &serde_json::Value| line["queued_ms"].as_f64() > Some(1.0);
        assert!(
            house
                .output
                .lines()
                .iter()
                .filter(|line| waited(line))
                .count()
                > CALLS / 2
        );
    })
    .await;
}

#[tokio::test]
async fn tls_1_2_is_spoken_too() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house.caller().trusting(&ca.pem).speaking_tls_1_2();
        for mut line in Line::both(&caller).await {
            assert_eq!(line.get().await.status, StatusCode::OK);
        }
        // Without ALPN it is HTTP/1.
        let tls = caller.secured(ACME).await.unwrap();
        let mut line = Line::H1(Caller::h1_over(tls).await);
        assert_eq!(line.get().await.status, StatusCode::OK);
    })
    .await;
}
