//! Every limit of `[limits]` is held, and counts when it bites.

use std::time::Duration;

use http::{Method, StatusCode};
use kintone_sim::TenantSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::caller::{exchange_raw, record};
use crate::support::{ACME, API_TOKEN, House, Plan, basic, house};

const READY: &[u8] = b"GET /.kintone-egress/ready HTTP/1.1\r\nHost: gateway\r\n\r\n";

fn with(limits: &str) -> Plan {
    Plan {
        limits: limits.into(),
        ..Plan::default()
    }
}

async fn hits(house: &House, limit: &str) -> f64 {
    let sample = format!("kintone_egress_limit_hits_total{{limit=\"{limit}\"}}");
    house
        .metric(&sample)
        .await
        .expect("declared from the start")
}

/// Waits until the gateway has closed the connection; how long that took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let mut rest = Vec::new();
    // By an end or a reset.
    let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "it is left open");
    begun.elapsed()
}

async fn connect(house: &House, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(house.proxy).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

#[tokio::test]
async fn heads_that_take_too_long_or_are_too_long() {
    house(
        with("head_timeout = \"400ms\"\nhead_size = \"8KiB\""),
        async |house| {
            // Dripping is no progress.
            let mut stream = connect(&house, b"GET / HTTP/1.1\r\nX-Slow: ").await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(5) && stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "it is left to drip"
            );
            assert_eq!(hits(&house, "head_timeout").await, 1.0);
            for (head, status) in [
                (
                    format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(9000)),
                    "431",
                ),
                (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9000)), "414"),
            ] {
                let answer = exchange_raw(house.proxy, head.as_bytes()).await;
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} GW_BAD_REQUEST\r\n")),
                    "{answer}"
                );
            }
            assert_eq!(hits(&house, "head_size").await, 2.0);
        },
    )
    .await;
}

#[tokio::test]
async fn connections_and_tunnels_that_say_nothing() {
    house(
        with("caller_idle = \"300ms\"\nhandshake_timeout = \"300ms\""),
        async |house| {
            let mut idle = connect(&house, READY).await;
            let took = closed(&mut idle).await;
            assert!(took >= Duration::from_millis(250), "{took:?}");
            assert_eq!(hits(&house, "caller_idle").await, 1.0);
            let mut tunnel = house.caller().open_tunnel(ACME).await.unwrap();
            tunnel.write_all(&[22, 3, 1]).await.unwrap();
            let took = closed(&mut tunnel).await;
            assert!(took >= Duration::from_millis(250), "{took:?}");
            assert_eq!(hits(&house, "handshake_timeout").await, 1.0);
        },
    )
    .await;
}

#[tokio::test]
async fn bodies_that_stall_on_the_way_in() {
    house(with("stall_timeout = \"300ms\""), async |house| {
        let head = format!(
            "POST https://{ACME}/k/v1/record.json HTTP/1.1\r\nHost: {ACME}\r\n\
             Proxy-Authorization: {}\r\nX-Cybozu-API-Token: {API_TOKEN}\r\n\
             Content-Type: application/json\r\n",
            basic("events")
        );
        for framed in [
            "Content-Length: 1000\r\n\r\n{\"app\":1",
            "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n",
        ] {
            let answer = exchange_raw(house.proxy, format!("{head}{framed}").as_bytes()).await;
            assert!(
                answer.starts_with("HTTP/1.1 400 GW_BAD_REQUEST\r\n"),
                "{answer}"
            );
        }
        assert_eq!(hits(&house, "stall_timeout").await, 2.0);
        // Slow is not stalled: a byte every now and then is progress.
        let body = record("slow but sure");
        let mut stream = connect(
            &house,
            format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
        )
        .await;
        for piece in body.as_bytes().chunks(8) {
            sleep(Duration::from_millis(100)).await;
            stream.write_all(piece).await.unwrap();
        }
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        assert_eq!(hits(&house, "stall_timeout").await, 2.0);
    })
    .await;
}

#[tokio::test]
async fn places_in_all_and_for_each_network_address() {
    let plan = with("connections = 4\nconnections_per_network_address = 3");
    house(plan, async |house| {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(connect(&house, READY).await);
        }
        let mut status = [0; 12];
        for stream in &mut held {
            stream.read_exact(&mut status).await.unwrap();
        }
        // A fourth of this address is reset; one of another address gets the last place.
        closed(&mut TcpStream::connect(house.proxy).await.unwrap()).await;
        assert_eq!(hits(&house, "connections_per_network_address").await, 1.0);
        let other = tokio::net::TcpSocket::new_v4().unwrap();
        other.bind("127.0.7.1:0".parse().unwrap()).unwrap();
        let mut other = other.connect(house.proxy).await.unwrap();
        other.write_all(READY).await.unwrap();
        other.read_exact(&mut status).await.unwrap();
        // A fifth waits until there is a place.
        let another = tokio::net::TcpSocket::new_v4().unwrap();
        another.bind("127.0.7.2:0".parse().unwrap()).unwrap();
        let mut another = another.connect(house.proxy).await.unwrap();
        another.write_all(READY).await.unwrap();
        let waits = another.read_exact(&mut status);
        assert!(timeout(Duration::from_millis(200), waits).await.is_err());
        assert!(hits(&house, "connections").await >= 1.0);
        drop(held);
        another.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    })
    .await;
}

#[tokio::test]
async fn accounts_without_room_for_series() {
    house(with("account_series = 1"), async |house| {
        house
            .sim
            .tenant("late.cybozu.com", TenantSettings::default());
        for (domain, expected) in [(ACME, 0.0), ("late.cybozu.com", 1.0), (ACME, 1.0)] {
            let url = format!("https://{domain}/k/v1/records.json?app=1");
            let caller = house.caller();
            let answer = caller
                .send(caller.request(Method::GET, &url, ""))
                .await
                .unwrap();
            assert_eq!(answer.status, StatusCode::OK);
            house.output.line_of(answer.id()).await;
            assert_eq!(hits(&house, "account_series").await, expected, "{domain}");
        }
    })
    .await;
}
