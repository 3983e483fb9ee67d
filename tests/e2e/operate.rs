//! What operators see and do: metrics, health, the API, the log, drains and reloads.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use kintone_egress::config::token::hash_token;
use kintone_egress::drain::Finished;
use kintone_egress::gateway::Signal;
use kintone_sim::{Fault, FaultKind};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::support::caller::{Answer, Caller, ask_raw, read};
use crate::support::crowd::flood;
use crate::support::invariants::check_refusal;
use crate::support::{ACME, BATCH_TOKEN, House, Plan, TOKEN, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A page of the API.
async fn api(house: &House, path: &str) -> Value {
    let (status, page) = house.admin_page(path).await;
    assert_eq!(status, 200, "{path}: {page}");
    serde_json::from_str(&page).expect("JSON")
}

/// A request to the admin listener that changes something.
pub(crate) async fn order(house: &House, method: &str, path: &str, headers: &str) -> Answer {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n",
        house.admin
    );
    ask_raw(house.admin, head.as_bytes()).await
}

#[tokio::test]
async fn metrics_count_what_happened() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let mut sender = caller.connect().await;
        for _ in 0..3 {
            let request = caller.request(Method::GET, RECORDS, "");
            read(sender.send_request(request).await.unwrap()).await.unwrap();
            sender.ready().await.unwrap();
        }
        house.sim.fault(Fault::once(FaultKind::Json {
            status: 401,
            code: "CB_AU01".into(),
            message: "no".into(),
        }));
        caller.get(RECORDS).await;
        house.sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
        caller.post_record(ACME, "broken").await.unwrap();
        caller.get("https://www.example.com/").await;
        let mut tunnel = caller.tunnel(ACME).await.unwrap();
        let inner = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
        read(tunnel.send_request(inner).await.unwrap()).await.unwrap();
        let open = house.metric("kintone_egress_tunnels_open{caller=\"events\"}").await;
        assert_eq!(open, Some(1.0));
        drop(tunnel);
        house.until("all have ended", |house| house.quotas.balance().held == 0).await;
        house.until("all are logged", |house| house.output.lines().len() == 7).await;
        let account = format!("account=\"{ACME}\"");
        for (sample, value) in [
            ("requests_total{caller=\"events\",mode=\"forward\",outcome=\"ok\"}", 3.0),
            ("requests_total{caller=\"events\",mode=\"forward\",outcome=\"kintone_error\"}", 1.0),
            ("requests_total{caller=\"events\",mode=\"forward\",outcome=\"upstream_reset\"}", 1.0),
            (
                "requests_total{caller=\"events\",mode=\"forward\",outcome=\"destination_forbidden\"}",
                1.0,
            ),
            ("requests_total{caller=\"events\",mode=\"tunnel\",outcome=\"ok\"}", 1.0),
            ("account_requests_total{ACCOUNT,mode=\"forward\"}", 5.0),
            ("account_requests_total{ACCOUNT,mode=\"tunnel\"}", 1.0),
            ("account_failures_total{ACCOUNT,cause=\"authentication\"}", 1.0),
            ("account_inflight{ACCOUNT}", 0.0),
            ("account_queued{ACCOUNT}", 0.0),
            ("account_settling{ACCOUNT}", 0.0),
            ("account_oldest_wait_seconds{ACCOUNT}", 0.0),
            ("account_concurrency_limit{ACCOUNT}", 100.0),
            ("account_permits_allowed{ACCOUNT}", 80.0),
            ("account_outside_load{ACCOUNT}", 0.0),
            ("kintone_limit{ACCOUNT}", 100.0),
            ("queue_wait_seconds_count{priority=\"interactive\"}", 6.0),
            ("request_seconds_count{mode=\"tunnel\"}", 1.0),
            ("upstream_seconds_count{mode=\"forward\"}", 5.0),
            ("overhead_seconds_count{mode=\"forward\"}", 5.0),
            ("permits_acquired_total", 6.0),
            ("permits_released_total", 6.0),
            ("permits_held", 0.0),
            ("tunnels_open{caller=\"events\"}", 0.0),
            ("tunnels_total{caller=\"events\",alpn=\"none\"}", 1.0),
            ("caller_authentications_total{caller=\"events\",credential=\"1\"}", 7.0),
            ("address_up{address=\"18.177.83.94\"}", 1.0),
            ("address_up{address=\"35.73.236.241\"}", 1.0),
            ("access_log_dropped_total", 0.0),
            ("config_last_reload_successful", 1.0),
        ] {
            let sample = sample.replace("ACCOUNT", &account);
            // Labels stand in the exposition in alphabetical order.
            let found = house.metric(&format!("kintone_egress_{}", sorted(&sample))).await;
            assert_eq!(found, Some(value), "{sample}");
        }
        let (_, text) = house.admin_page("/metrics").await;
        for name in ["build_info{version=\"", "config_info{hash=\"", "local_ports_used{", "address_connections{", "tunnel_bytes_total{direction=\"to_kintone\"}", "config_last_reload_timestamp_seconds "] {
            assert!(text.contains(&format!("kintone_egress_{name}")), "{name}");
        }
        assert!(!text.contains("www.example.com"), "a name nobody knows is no label");
    })
    .await;
}

/// The same sample with its labels in alphabetical order.
fn sorted(sample: &str) -> String {
    let Some((name, labels)) = sample.trim_end_matches('}').split_once('{') else {
        return sample.to_owned();
    };
    let mut labels: Vec<_> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

#[tokio::test]
async fn a_host_can_be_taken_out_of_rotation_and_back() {
    house(Plan::default(), async |house| {
        assert_eq!(house.admin_page("/healthz").await.0, 200);
        assert_eq!(api(&house, "/readyz").await["ready"], true);
        let own = "GET /.kintone-egress/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert_eq!(ask_raw(house.proxy, own.as_bytes()).await.status, 200);
        assert_eq!(
            order(&house, "POST", "/api/v1/drain?exit=false", "")
                .await
                .status,
            200
        );
        let (status, page) = house.admin_page("/readyz").await;
        assert_eq!(status, 503);
        assert_eq!(
            serde_json::from_str::<Value>(&page).unwrap()["reasons"][0],
            "draining"
        );
        assert_eq!(house.admin_page("/healthz").await.0, 200);
        let refused = ask_raw(house.proxy, own.as_bytes()).await;
        check_refusal(&refused, 503, "GW_DRAINING", "proxy_internal_error");
        // Calls are still taken, and told to go elsewhere.
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("connection")),
            (200, "close")
        );
        assert_eq!(
            order(&house, "DELETE", "/api/v1/drain", "").await.status,
            200
        );
        assert_eq!(api(&house, "/readyz").await["ready"], true);
        assert_eq!(house.caller().get(RECORDS).await.header("connection"), "");
    })
    .await;
}

#[tokio::test]
async fn the_api_shows_calls_where_they_are() {
    let mut plan = Plan {
        quota: "concurrency = 21\ninteractive_reserve = 0".into(),
        ceiling: 1,
        ..Plan::default()
    };
    plan.tenant.latency.base_ms = 1200;
    house(plan, async |house| {
        let spawn = |caller: Caller| tokio::spawn(async move { caller.get(RECORDS).await });
        let running = spawn(house.caller_as("events+company-1", TOKEN));
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let waiting = spawn(house.batch_caller());
        house
            .until("it waits", |house| house.quotas.snapshot()[0].queued == 1)
            .await;

        let requests = api(&house, "/api/v1/requests").await;
        assert_eq!(requests["total"], 2);
        let phase_of = |caller: &str| {
            let list = requests["requests"].as_array().unwrap();
            list.iter()
                .find(|request| request["caller"] == caller)
                .unwrap()
                .clone()
        };
        let first = phase_of("events");
        assert_eq!(first["phase"], "sent");
        assert_eq!(
            (&first["account"], &first["tenant"]),
            (&ACME.into(), &"company-1".into())
        );
        assert_eq!(first["mode"], "forward");
        assert_eq!(phase_of("nightly")["phase"], "waiting");
        for (query, total) in [
            ("caller=events", 1),
            ("account=acme.cybozu.com", 2),
            ("account=other.cybozu.com", 0),
            ("older_than=1h", 0),
        ] {
            let found = api(&house, &format!("/api/v1/requests?{query}")).await;
            assert_eq!(found["total"], total, "{query}");
        }

        let accounts = api(&house, "/api/v1/accounts?q=acme&sort=pressure&limit=10").await;
        let item = &accounts["accounts"][0];
        assert_eq!(item["account"], ACME);
        for (member, value) in [
            ("limit", 21),
            ("allowed", 1),
            ("inflight", 1),
            ("queued", 1),
        ] {
            assert_eq!(item[member], value, "{member} in {item}");
        }
        assert_eq!(accounts["permits"]["held"], 1);

        let account = api(&house, &format!("/api/v1/accounts/{ACME}")).await;
        assert_eq!(account["waiting"][0]["caller"], "nightly");
        assert_eq!(account["waiting"][0]["priority"], "batch");
        assert_eq!(account["limits"]["concurrency"], 21);
        assert_eq!(account["addresses"].as_array().unwrap().len(), 2);
        assert_eq!(running.await.unwrap().status, StatusCode::OK);
        assert_eq!(waiting.await.unwrap().status, StatusCode::OK);

        house.sim.fault(Fault::once(FaultKind::Unavailable));
        let failed = house.caller().get(RECORDS).await;
        house.output.line_of(failed.id()).await;
        let account = api(&house, &format!("/api/v1/accounts/{ACME}")).await;
        assert_eq!(account["failures"][0]["id"], failed.id());
        assert_eq!(account["failures"][0]["cause"], "maintenance");
        assert_eq!(
            house
                .admin_page("/api/v1/accounts/never.cybozu.com")
                .await
                .0,
            404
        );

        let addresses = api(&house, "/api/v1/addresses").await;
        let published: Vec<_> = addresses["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["published"].clone())
            .collect();
        assert_eq!(published, ["18.177.83.94", "35.73.236.241"]);
        assert_eq!(addresses["addresses"][0]["bind"], "127.0.1.94");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_is_listed_with_its_phase() {
    house(Plan::default(), async |house| {
        let mut tunnel = house.caller().tunnel(ACME).await.unwrap();
        let inner = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
        read(tunnel.send_request(inner).await.unwrap())
            .await
            .unwrap();
        let requests = api(&house, "/api/v1/requests").await;
        assert_eq!(requests["requests"][0]["mode"], "tunnel");
        assert_eq!(requests["requests"][0]["phase"], "idle");
    })
    .await;
}

#[tokio::test]
async fn the_configuration_is_shown_without_secrets_and_orders_need_the_token() {
    let tables = "[admin]\ntoken = \"canary-admin-token-0d9e\"\n".into();
    house(
        Plan {
            tables,
            ..Plan::default()
        },
        async |house| {
            let (status, page) = house.admin_page("/api/v1/config").await;
            assert_eq!(status, 200);
            assert!(!page.contains("canary"), "{page}");
            let config: Value = serde_json::from_str(&page).unwrap();
            assert_eq!(config["admin"]["token"], "***");
            assert_eq!(config["quota"]["concurrency"], 100);
            assert_eq!(
                order(&house, "POST", "/api/v1/reload", "").await.status,
                401
            );
            let wrong = "Authorization: Bearer wrong\r\n";
            assert_eq!(
                order(&house, "POST", "/api/v1/reload", wrong).await.status,
                401
            );
            let right = "Authorization: Bearer canary-admin-token-0d9e\r\n";
            assert_eq!(
                order(&house, "POST", "/api/v1/reload", right).await.status,
                200
            );
            let foreign = format!("{right}Origin: https://evil.example\r\n");
            assert_eq!(
                order(&house, "POST", "/api/v1/reload", &foreign)
                    .await
                    .status,
                403
            );
            assert!(!house.output.text().contains("canary-admin"));
        },
    )
    .await;
}

#[tokio::test]
async fn each_call_has_one_line_with_every_field() {
    house(Plan::default(), async |house| {
        let caller = house.caller_as("events+company-1;purpose=voicemail", TOKEN);
        let mut request = caller.request(
            Method::GET,
            "https://acme.cybozu.com/k/v1/record.json?app=1&id=1&secret=canary-query",
            "",
        );
        request
            .headers_mut()
            .insert("user-agent", "a-service/1.0".parse().unwrap());
        request
            .headers_mut()
            .insert("authorization", "Basic canary-basic".parse().unwrap());
        request
            .headers_mut()
            .insert("cookie", "canary-cookie=1".parse().unwrap());
        let answer = caller.send(request).await.unwrap();
        let line = house.output.line_of(answer.id()).await;
        let fields: BTreeSet<&str> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let promised = "ts id host caller credential tenant priority purpose account app mode \
                        method path status cause kintone_code kintone_id outcome detail address \
                        bind upstream bytes_in bytes_out queued_ms dns_ms connect_ms tls_ms \
                        upstream_ms permit_ms total_ms retries kintone_running kintone_limit \
                        client user_agent trace_id";
        assert_eq!(fields, promised.split_whitespace().collect());
        for (field, value) in [
            ("caller", "events"),
            ("credential", "1"),
            ("tenant", "company-1"),
            ("priority", "interactive"),
            ("purpose", "voicemail"),
            ("account", ACME),
            ("mode", "forward"),
            ("method", "GET"),
            ("path", "/k/v1/record.json"),
            ("user_agent", "a-service/1.0"),
            ("address", answer.header("kintone-egress-address")),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
        assert_eq!(line["upstream"], house.sim.addr().to_string());
        assert!(line["connect_ms"].as_f64() > Some(0.0) && line["tls_ms"].as_f64() > Some(0.0));
        assert!(line["total_ms"].as_f64() >= line["permit_ms"].as_f64());
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
        assert!(!house.output.text().contains("canary"), "{line}");
        let odd = house
            .caller()
            .get("https://acme.cybozu.com/k/v1/canary-path.json?x=1")
            .await;
        assert_eq!(house.output.line_of(odd.id()).await["path"], "other");
        let refused = house.nobody().get(RECORDS).await;
        let line = house.output.line_of(refused.id()).await;
        assert_eq!(line["path"], "/k/v1/records.json", "refused or not");
        assert_eq!(house.output.lines().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_drain_answers_what_runs_and_takes_nothing_new() {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 700;
    let finished = house(plan, async |house| {
        let caller = house.caller();
        let running = tokio::spawn(async move { caller.get(RECORDS).await });
        let mut idle = house.caller().connect().await;
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        house.signals.send(Signal::End).await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(600);
        while TcpStream::connect(house.proxy).await.is_ok() {
            assert!(Instant::now() < deadline, "still taken");
            sleep(Duration::from_millis(5)).await;
        }
        let late = idle
            .send_request(house.caller().request(Method::GET, RECORDS, ""))
            .await;
        assert!(late.is_err(), "an idle connection is closed");
        // Operators can look on.
        assert_eq!(house.admin_page("/readyz").await.0, 503);
        assert_eq!(house.admin_page("/healthz").await.0, 200);
        let answer = running.await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("connection")),
            (200, "close")
        );
        house.until("it has ended", House::has_ended).await;
        assert_eq!(house.output.lines().len(), 1, "its line is written");
    })
    .await;
    assert_eq!(finished, Finished::Idle);
}

#[tokio::test]
async fn a_drain_cuts_tunnels_after_the_grace() {
    let finished = house(
        Plan {
            grace: "400ms",
            ..Plan::default()
        },
        async |house| {
            let mut tunnel = house.caller().tunnel(ACME).await.unwrap();
            let inner = || Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
            read(tunnel.send_request(inner()).await.unwrap())
                .await
                .unwrap();
            let told = Instant::now();
            house.signals.send(Signal::End).await.unwrap();
            sleep(Duration::from_millis(100)).await;
            tunnel.ready().await.unwrap();
            let answer = read(tunnel.send_request(inner()).await.unwrap())
                .await
                .unwrap();
            assert_eq!(
                answer.status,
                StatusCode::OK,
                "a tunnel lives on until the grace is over"
            );
            house.until("it has ended", House::has_ended).await;
            assert!(told.elapsed() >= Duration::from_millis(350));
            let line = &house.output.lines()[0];
            assert_eq!(
                (&line["outcome"], &line["detail"]),
                (&"draining".into(), &"drain_cut".into())
            );
        },
    )
    .await;
    assert!(
        matches!(finished, Finished::Cut { tasks: 1.. }),
        "{finished:?}"
    );
}

#[tokio::test]
async fn a_drain_cuts_calls_with_an_answer() {
    let mut plan = Plan {
        quota: "concurrency = 21\ninteractive_reserve = 0".into(),
        grace: "300ms",
        ceiling: 1,
        ..Plan::default()
    };
    plan.tenant.latency.base_ms = 4000;
    let finished = house(plan, async |house| {
        let get = |caller: Caller| tokio::spawn(async move { caller.get(RECORDS).await });
        let sent = get(house.caller());
        house
            .until("it runs", |house| {
                house.sim.accounting(ACME).in_process == 1
            })
            .await;
        let waiting = get(house.caller());
        let caller = house.caller();
        let connect = tokio::spawn(async move { caller.open_tunnel(ACME).await });
        house
            .until("they wait", |house| house.quotas.snapshot()[0].queued == 2)
            .await;
        house.signals.send(Signal::End).await.unwrap();
        // kintone may have executed the one that was sent; the others are safe to repeat.
        let sent = sent.await.unwrap();
        check_refusal(&sent, 504, "GW_UPSTREAM_TIMEOUT", "http_response_timeout");
        let line = house.output.line_of(sent.id()).await;
        assert_eq!(line["detail"], "drain_cut", "{line}");
        for refused in [
            waiting.await.unwrap(),
            connect.await.unwrap().expect_err("a refusal"),
        ] {
            check_refusal(&refused, 503, "GW_DRAINING", "proxy_internal_error");
        }
        house.until("it has ended", House::has_ended).await;
    })
    .await;
    assert!(matches!(finished, Finished::Cut { .. }), "{finished:?}");
}

#[tokio::test]
async fn a_drain_waits_for_nobody_whose_caller_has_left() {
    let mut plan = Plan {
        grace: "300ms",
        ..Plan::default()
    };
    plan.tenant.latency.paths = vec![("/k/v1/app.json".into(), 60_000)];
    house(plan, async |house| {
        house.sim.fault(Fault::once(FaultKind::EndlessBody));
        let mut endless = house.caller().connect().await;
        let request = house.caller().request(Method::GET, RECORDS, "");
        let answer = endless.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);

        let tunnel = house.caller().open_tunnel(ACME).await.unwrap();
        let mut tunnel = house.caller().tls(tunnel, ACME).await.unwrap();
        let head = format!("GET /k/v1/app.json?id=1 HTTP/1.1\r\nHost: {ACME}\r\n\r\n");
        tunnel.write_all(head.as_bytes()).await.unwrap();
        house
            .until("both run", |house| {
                house.sim.accounting(ACME).in_process == 2
            })
            .await;
        tunnel.get_ref().0.set_zero_linger().unwrap();
        drop(tunnel);
        // Its ClientHello does not come.
        let silent = house.caller().open_tunnel(ACME).await.unwrap();
        house.signals.send(Signal::End).await.unwrap();
        let told = Instant::now();
        house.until("it has ended", House::has_ended).await;
        assert!(told.elapsed() < Duration::from_secs(5));
        let ends: BTreeSet<_> = house
            .output
            .lines()
            .iter()
            .map(|line| (line["mode"].to_string(), line["outcome"].to_string()))
            .collect();
        let end = |mode: &str, outcome: &str| (format!("\"{mode}\""), format!("\"{outcome}\""));
        let expected = [
            end("forward", "draining"),
            end("tunnel", "caller_gone"),
            end("tunnel", "draining"),
        ];
        assert_eq!(ends, BTreeSet::from(expected));
        drop((answer, silent));
    })
    .await;
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let finished = house(
        Plan {
            grace: "60s",
            ..Plan::default()
        },
        async |house| {
            let _tunnel = house.caller().tunnel(ACME).await.unwrap();
            house.signals.send(Signal::End).await.unwrap();
            sleep(Duration::from_millis(50)).await;
            assert!(!house.has_ended());
            house.signals.send(Signal::End).await.unwrap();
            house.until("it has ended", House::has_ended).await;
        },
    )
    .await;
    assert!(
        matches!(finished, Finished::Cut { tasks: 1.. }),
        "{finished:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_tokens_and_quotas_while_calls_run() {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 30;
    house(plan, async |house| {
        let end = Instant::now() + Duration::from_secs(2);
        let caller = house.caller();
        let flooding = tokio::spawn(async move { flood(&caller, 40, RECORDS, end).await });
        sleep(Duration::from_millis(300)).await;
        assert_eq!(house.sim.accounting(ACME).peak, 40);
        house.reconfigure(|text| {
            let old = hash_token(BATCH_TOKEN.as_bytes()).to_hex();
            let new = hash_token(b"canary-rotated").to_hex();
            text.replace(&old, &new)
                .replace("[quota]", "[quota]\nconcurrency = 30")
        });
        house.signals.send(Signal::Reload).await.unwrap();
        house
            .until("it is in use", |house| {
                house.quotas.snapshot()[0].allowed == 10
            })
            .await;
        let below = |house: &House| house.sim.accounting(ACME).in_process <= 10;
        house.until("the surplus has gone", below).await;
        house.sim.restart_accounting(ACME);
        assert_eq!(house.batch_caller().get(RECORDS).await.status, 407);
        let rotated = house
            .caller_as("nightly", "canary-rotated")
            .get(RECORDS)
            .await;
        assert_eq!(rotated.status, StatusCode::OK);
        let tally = flooding.await.unwrap();
        assert!(
            tally.is_all_well(),
            "{:?}, {} broken",
            tally.statuses,
            tally.broken
        );
        assert_eq!(house.sim.accounting(ACME).peak, 10);
        let taken = house
            .metric("kintone_egress_config_last_reload_successful")
            .await;
        assert_eq!(taken, Some(1.0));
        let lines = tally.of(200) as usize + 2;
        house
            .until("each has its line", |house| {
                house.output.lines().len() >= lines
            })
            .await;
        assert_eq!(house.output.lines().len(), lines);
    })
    .await;
}

#[tokio::test]
async fn a_wrong_file_is_refused_whole() {
    house(Plan::default(), async |house| {
        let good = std::fs::read_to_string(&house.config_path).unwrap();
        house.reconfigure(|text| {
            let hash = hash_token(TOKEN.as_bytes()).to_hex();
            text.replace(&hash, &"0".repeat(64))
                .replace("[quota]", "[quota]\nconcurency = 7")
        });
        house.signals.send(Signal::Reload).await.unwrap();
        let refused = "kintone_egress_config_last_reload_successful";
        while house.metric(refused).await != Some(0.0) {
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(
            house.caller().get(RECORDS).await.status,
            StatusCode::OK,
            "nothing changed"
        );
        let answer = order(&house, "POST", "/api/v1/reload", "").await;
        assert!(answer.status.is_client_error(), "{answer:?}");
        let fault = answer.json()["faults"][0].as_str().unwrap().to_owned();
        assert!(
            fault.contains("gateway.toml:") && fault.contains("quota.concurency"),
            "{fault}"
        );

        let moved = good.replace("admin = \"127.0.0.1:0\"", "admin = \"127.0.0.1:9\"");
        std::fs::write(&house.config_path, moved).unwrap();
        let answer = order(&house, "POST", "/api/v1/reload", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.json()["needs_restart"][0], "listen");
        assert_eq!(house.metric(refused).await, Some(1.0));
    })
    .await;
}
