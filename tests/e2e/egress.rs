//! Calls leave from the published addresses, and from nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::{Method, StatusCode};
use kintone_sim::TenantSettings;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::caller::{Caller, read};
use crate::support::crowd::flood;
use crate::support::invariants::check_refusal;
use crate::support::{ACME, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A table of `[[egress.address]]`; 203.0.113.9 is on no host (RFC 5737).
fn address(published: &str, bind: &str, lines: &str) -> String {
    format!("[[egress.address]]\npublished = \"{published}\"\nbind = \"{bind}\"\n{lines}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_socket_leaves_from_a_bind_address_and_both_are_used_alike() {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 20;
    house(plan, async |house| {
        let end = tokio::time::Instant::now() + Duration::from_secs(1);
        let forward = flood(&house.caller(), 30, RECORDS, end).await;
        assert!(forward.is_all_well());
        let mut tunnels = JoinSet::new();
        for _ in 0..20 {
            let caller = house.caller();
            tunnels.spawn(async move {
                let mut sender = caller.tunnel(ACME).await.expect("a tunnel");
                let inner = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
                read(sender.send_request(inner).await.unwrap())
                    .await
                    .unwrap()
                    .status
            });
        }
        assert!(
            tunnels
                .join_all()
                .await
                .iter()
                .all(|status| *status == StatusCode::OK)
        );
        let ledger = house.sim.ledger();
        let sources = ledger.sources();
        assert_eq!(sources.len(), 2, "{sources:?}");
        let mut calls = BTreeMap::<_, usize>::new();
        for execution in &ledger.executions {
            *calls.entry(execution.peer.ip()).or_default() += 1;
        }
        let (most, least) = (calls.values().max().unwrap(), calls.values().min().unwrap());
        assert!(*least * 10 > *most * 9, "they take turns: {calls:?}");
        // What the log and the headers say is where it came from.
        let answer = house.caller().get(RECORDS).await;
        let line = house.output.line_of(answer.id()).await;
        let last = house
            .sim
            .ledger()
            .executions
            .last()
            .unwrap()
            .peer
            .ip()
            .to_string();
        assert_eq!(line["bind"], last);
        assert_eq!(line["address"], answer.header("kintone-egress-address"));
    })
    .await;
}

#[tokio::test]
async fn without_a_usable_address_nothing_leaves() {
    let addresses = address("18.177.83.94", "203.0.113.9", "");
    house(
        Plan {
            addresses,
            ..Plan::default()
        },
        async |house| {
            for _ in 0..3 {
                let answer = house.caller().get(RECORDS).await;
                check_refusal(
                    &answer,
                    503,
                    "GW_EGRESS_UNAVAILABLE",
                    "proxy_internal_error",
                );
                let line = house.output.line_of(answer.id()).await;
                assert_eq!(line["detail"], "address_absent");
                assert!(
                    line["dns_ms"].is_null() && line["upstream"].is_null(),
                    "{line}"
                );
                let tunnel = house.caller().open_tunnel(ACME).await.unwrap_err();
                check_refusal(
                    &tunnel,
                    503,
                    "GW_EGRESS_UNAVAILABLE",
                    "proxy_internal_error",
                );
            }
            assert!(house.sim.ledger().sockets.is_empty(), "not one connection");
            assert_eq!(
                house.quotas.balance().acquired,
                0,
                "refused before the quota"
            );
            let (status, page) = house.admin_page("/readyz").await;
            assert_eq!(status, 503);
            assert!(page.contains("no usable address: address_absent"), "{page}");
            let up = house
                .metric("kintone_egress_address_up{address=\"18.177.83.94\"}")
                .await;
            assert_eq!(up, Some(0.0));
            let (status, page) = house.admin_page("/api/v1/addresses").await;
            assert!(status == 200 && page.contains("absent"), "{page}");
        },
    )
    .await;
}

#[tokio::test]
async fn an_address_that_is_not_here_is_passed_over() {
    let addresses =
        address("18.177.83.94", "203.0.113.9", "") + &address("35.73.236.241", "127.0.1.241", "");
    house(
        Plan {
            addresses,
            ..Plan::default()
        },
        async |house| {
            for _ in 0..10 {
                let answer = house.caller().get(RECORDS).await;
                assert_eq!(answer.status, StatusCode::OK);
                assert_eq!(answer.header("kintone-egress-address"), "35.73.236.241");
            }
            let sources: BTreeSet<_> = house.sim.ledger().sources().into_keys().collect();
            assert_eq!(sources, BTreeSet::from(["127.0.1.241".parse().unwrap()]));
            assert_eq!(house.admin_page("/readyz").await.0, 200);
        },
    )
    .await;
}

#[tokio::test]
async fn only_active_addresses_are_used() {
    let addresses = address("18.177.83.94", "127.0.1.94", "")
        + &address(
            "35.73.236.241",
            "127.0.1.241",
            "state = \"planned\"\nvalid_from = 2030-04-01",
        )
        + &address(
            "35.73.236.242",
            "127.0.1.242",
            "state = \"retiring\"\nretire_after = 2030-04-01",
        )
        + "[[egress.address]]\npublished = \"35.73.236.243\"\nbind = { elsewhere = \"127.0.1.243\" }\n";
    house(
        Plan {
            addresses,
            ..Plan::default()
        },
        async |house| {
            for _ in 0..6 {
                let answer = house.caller().get(RECORDS).await;
                assert_eq!(answer.header("kintone-egress-address"), "18.177.83.94");
                house.caller().tunnel(ACME).await.unwrap();
            }
            let sources: BTreeSet<_> = house.sim.ledger().sources().into_keys().collect();
            assert_eq!(sources, BTreeSet::from(["127.0.1.94".parse().unwrap()]));
            let (_, page) = house.admin_page("/api/v1/addresses").await;
            assert!(
                !page.contains("35.73.236.243"),
                "not bound on this host: {page}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn a_refused_name_is_neither_resolved_nor_dialled() {
    // Where the static answer of the name leads, nobody calls, and no packet of another kind comes.
    let (listener, udp) = traps().await;
    let trap = listener.local_addr().unwrap();
    let resolve = format!("\"trap.cybozu.com\" = \"{trap}\"");
    let tables = "[account.\"trap.cybozu.com\"]\nenabled = false\n".into();
    house(
        Plan {
            resolve,
            tables,
            ..Plan::default()
        },
        async move |house| {
            for url in [
                "https://trap.cybozu.com/",
                "https://trap.cybozu.com.evil.example/",
            ] {
                let answer = house.caller().get(url).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN);
                let line = house.output.line_of(answer.id()).await;
                assert!(
                    line["dns_ms"].is_null() && line["upstream"].is_null(),
                    "{line}"
                );
            }
            assert_eq!(
                house
                    .caller()
                    .open_tunnel("trap.cybozu.com")
                    .await
                    .unwrap_err()
                    .status,
                403
            );
            let came = timeout(Duration::from_millis(100), listener.accept()).await;
            assert!(came.is_err(), "{came:?}");
            let came = udp.try_recv(&mut [0; 1]).map_err(|error| error.kind());
            assert_eq!(came, Err(std::io::ErrorKind::WouldBlock));
            assert!(house.sim.ledger().sockets.is_empty());
        },
    )
    .await;
}

/// One port of both kinds. One that is free for datagrams may be taken for connections; then another.
async fn traps() -> (tokio::net::TcpListener, UdpSocket) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return (listener, udp),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
        }
    }
}

#[tokio::test]
async fn connections_are_never_shared_by_two_host_names() {
    house(Plan::default(), async |house| {
        for domain in ["a.cybozu.com", "b.cybozu.com", "a.kintone.com"] {
            house.sim.tenant(domain, TenantSettings::default());
        }
        let caller = house.caller();
        let mut sender = caller.connect().await;
        for round in 0..60 {
            let host = [
                "a.cybozu.com",
                "b.cybozu.com",
                ACME,
                "A.cybozu.com",
                "a.kintone.com",
            ][round % 5];
            let url = format!("https://{host}/k/v1/records.json?app=1");
            let request = caller.request(Method::GET, &url, "");
            let answer = read(sender.send_request(request).await.unwrap())
                .await
                .unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{host}");
            sender.ready().await.unwrap();
        }
        let host = "acme.s.cybozu.com";
        let mut tunnel = caller.tunnel(host).await.unwrap();
        let inner = Caller::inner(Method::GET, host, "/k/v1/records.json?app=1", "");
        let answer = read(tunnel.send_request(inner).await.unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let ledger = house.sim.ledger();
        let mut names = BTreeMap::<usize, BTreeSet<String>>::new();
        for execution in &ledger.executions {
            names
                .entry(execution.socket)
                .or_default()
                .insert(execution.host.to_ascii_lowercase());
            let sni = ledger.sockets[execution.socket].sni.clone();
            assert_eq!(sni, Some(execution.host.to_ascii_lowercase()));
        }
        assert!(names.values().all(|names| names.len() == 1), "{names:?}");
        // Two addresses, four names, one tunnel.
        assert_eq!(ledger.sockets.len(), 9, "reused all the same");
        // One account, two doors: one quota.
        let permits = house.quotas.snapshot();
        assert_eq!(
            permits
                .iter()
                .filter(|account| account.account.as_str() == ACME)
                .count(),
            1
        );
    })
    .await;
}
