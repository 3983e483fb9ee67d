//! CONNECT.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::caller::{Caller, read};
use crate::support::{ACME, Plan, house};

const PATH: &str = "/k/v1/records.json?app=1";

#[tokio::test]
async fn a_tunnel_carries_calls_end_to_end() {
    house(Plan::default(), async |house| {
        let mut sender = house.caller().tunnel(ACME).await.unwrap();
        for _ in 0..3 {
            let request = Caller::inner(Method::GET, ACME, PATH, "");
            let answer = read(sender.send_request(request).await.unwrap())
                .await
                .unwrap();
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("via"), "", "nobody reads inside a tunnel");
            sender.ready().await.unwrap();
        }
        assert_eq!(house.quotas.balance().held, 1);
        drop(sender);
        house
            .until("the tunnel ends", |house| house.output.lines().len() == 1)
            .await;
        let line = &house.output.lines()[0];
        assert_eq!(line["mode"], "tunnel");
        assert_eq!(line["method"], "CONNECT");
        assert_eq!(line["outcome"], "ok");
        assert_eq!(line["status"], 200);
        assert!(line["bytes_in"].as_u64().unwrap() > 500);
        assert!(line["bytes_out"].as_u64().unwrap() > 500);
    })
    .await;
}

#[tokio::test]
async fn connect_is_taken_as_real_clients_send_it() {
    house(Plan::default(), async |house| {
        for head in [
            "CONNECT acme.cybozu.com:443 HTTP/1.0\r\nProxy-Authorization: {auth}\r\n\r\n",
            "CONNECT acme.cybozu.com:443 HTTP/1.1\r\nHost: acme.cybozu.com\r\n\
             Connection: close\r\nProxy-Authorization: {auth}\r\n\r\n",
            "CONNECT acme.cybozu.com:443 HTTP/1.1\r\nhost: acme.cybozu.com\r\n\
             connection: close\r\nproxy-connection: keep-alive\r\n\
             proxy-authorization: {auth}\r\n\r\n",
            "CONNECT ACME.cybozu.com:443 HTTP/1.1\r\nHost: ACME.cybozu.com:443\r\n\
             Proxy-Authorization: {auth}\r\nUser-Agent: curl/7.88\r\n\
             Proxy-Connection: Keep-Alive\r\n\r\n",
        ] {
            let caller = house.caller();
            let tunnel = caller.open_tunnel_by(head).await.expect(head);
            caller.tls(tunnel, ACME).await.expect(head);
        }
    })
    .await;
}

#[tokio::test]
async fn the_client_hello_is_judged_before_a_byte_reaches_kintone() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let tunnel = caller.open_tunnel(ACME).await.unwrap();
        let error = caller.tls(tunnel, "other.cybozu.com").await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        let mut tunnel = caller.open_tunnel(ACME).await.unwrap();
        tunnel.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = tunnel.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        house
            .until("both are logged", |house| house.output.lines().len() == 2)
            .await;
        let lines = house.output.lines();
        let of = |detail: &str| {
            lines
                .iter()
                .find(|line| line["detail"] == detail)
                .expect("logged")["outcome"]
                .clone()
        };
        assert_eq!(of("sni_mismatch"), "destination_forbidden");
        assert_eq!(of("not_tls"), "bad_request");
        assert!(
            house
                .sim
                .ledger()
                .sockets
                .iter()
                .all(|socket| socket.sni.is_none())
        );
    })
    .await;
}

#[tokio::test]
async fn h2_inside_is_refused_where_it_has_no_weight() {
    let plan = Plan {
        quota: "tunnel_h2_weight = 0".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let caller = house.caller().offering(&[b"h2", b"http/1.1"]);
        let tunnel = caller.open_tunnel(ACME).await.unwrap();
        let error = caller.tls(tunnel, ACME).await.unwrap_err();
        assert!(
            error.to_string().contains("NoApplicationProtocol"),
            "{error}"
        );
        house
            .until("it is logged", |house| !house.output.lines().is_empty())
            .await;
        assert_eq!(house.output.lines()[0]["outcome"], "caller_forbidden");
    })
    .await;
}

#[tokio::test]
async fn h2_inside_takes_its_weight_and_h1_gives_the_surplus_back() {
    let plan = Plan {
        quota: "tunnel_h2_weight = 10".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let h2 = house.caller().offering(&[b"h2", b"http/1.1"]);
        let tunnel = h2.open_tunnel(ACME).await.unwrap();
        let _h2 = h2.tls(tunnel, ACME).await.unwrap();
        assert_eq!(house.quotas.balance().held, 10);
        let h1 = house.caller();
        let tunnel = h1.open_tunnel(ACME).await.unwrap();
        let _h1 = h1.tls(tunnel, ACME).await.unwrap();
        house
            .until("the surplus is back", |house| {
                house.quotas.balance().held == 11
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_connect_closes_after_its_json() {
    house(Plan::default(), async |house| {
        let answer = house
            .caller()
            .open_tunnel("www.example.com")
            .await
            .unwrap_err();
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.code(), "GW_DESTINATION_FORBIDDEN");
        assert_eq!(answer.header("connection"), "close");
        let nobody = house
            .caller_as("events", "wrong")
            .open_tunnel(ACME)
            .await
            .unwrap_err();
        assert_eq!(nobody.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
        assert_eq!(
            nobody.header("proxy-authenticate"),
            "Basic realm=\"kintone-egress\""
        );
        assert!(house.sim.ledger().sockets.is_empty());
    })
    .await;
}

#[tokio::test]
async fn half_close_is_kept_in_both_orders() {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 200;
    house(plan, async |house| {
        let caller = house.caller();
        let tunnel = caller.open_tunnel(ACME).await.unwrap();
        let mut tls = caller.tls(tunnel, ACME).await.unwrap();
        let request = format!(
            "GET {PATH} HTTP/1.1\r\nHost: {ACME}\r\nX-Cybozu-API-Token: demo-token\r\n\
             Connection: close\r\n\r\n"
        );
        tls.write_all(request.as_bytes()).await.unwrap();
        tls.flush().await.unwrap();
        let (socket, _) = tls.get_mut();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_that_is_owed_nothing_is_closed() {
    let plan = Plan {
        quota: "tunnel_idle = \"300ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let mut sender = house.caller().tunnel(ACME).await.unwrap();
        let request = Caller::inner(Method::GET, ACME, PATH, "");
        read(sender.send_request(request).await.unwrap())
            .await
            .unwrap();
        let begun = tokio::time::Instant::now();
        house
            .until("it is closed", |house| house.output.lines().len() == 1)
            .await;
        assert!(
            begun.elapsed() >= Duration::from_millis(250),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(house.output.lines()[0]["outcome"], "tunnel_idle");
        assert_eq!(house.quotas.balance().held, 0);
    })
    .await;
}

#[tokio::test]
async fn an_idle_tunnel_gives_way_to_waiting_calls() {
    let plan = Plan {
        quota: "concurrency = 21\ninteractive_reserve = 0\ntunnel_yield = \"200ms\"\n\
                tunnel_idle = \"60s\""
            .into(),
        ceiling: 1,
        ..Plan::default()
    };
    house(plan, async |house| {
        let mut sender = house.caller().tunnel(ACME).await.unwrap();
        let request = Caller::inner(Method::GET, ACME, PATH, "");
        read(sender.send_request(request).await.unwrap())
            .await
            .unwrap();
        let begun = tokio::time::Instant::now();
        let answer = house
            .caller()
            .get("https://acme.cybozu.com/k/v1/records.json?app=1")
            .await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(
            begun.elapsed() >= Duration::from_millis(150),
            "{:?}",
            begun.elapsed()
        );
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        house
            .until("it is logged", |house| {
                house
                    .output
                    .lines()
                    .iter()
                    .any(|line| line["detail"] == "yielded")
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_tunnel_has_a_longest_life() {
    let plan = Plan {
        quota: "tunnel_life = \"400ms\"".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let _sender = house.caller().tunnel(ACME).await.unwrap();
        house
            .until("it is closed", |house| house.output.lines().len() == 1)
            .await;
        assert_eq!(house.output.lines()[0]["outcome"], "tunnel_life");
    })
    .await;
}
