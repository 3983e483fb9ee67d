//! The notice board by itself: rows in, rows out, and what a hostile or dying store does to it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use kintone_egress::config::Config;
use kintone_egress::config::file::{Environment, parse};
use kintone_egress::fleet::exchange::{Exchange, ExchangeError, ROW_BYTES_MAX, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::store::{PASSWORD, Sentinel, Store, until};

fn config(host: &str, url: &str, keys: &str) -> Config {
    let text = format!(
        "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n[fleet]\n\
         host = \"{host}\"\nhosts = [\"gw-a\", \"gw-b\", \"gw-c\"]\nredis = \"{url}\"\n{keys}"
    );
    let loaded = parse(&text, Path::new("test.toml"), &Environment::default());
    loaded.unwrap_or_else(|faults| panic!("{faults}")).config
}

fn board_of(host: &str, url: &str) -> Exchange {
    Exchange::new(&config(host, url, "")).unwrap().unwrap()
}

/// Reads all rows, then hangs this one up.
async fn beat(board: &mut Exchange, row: &[u8]) -> Result<Vec<Option<Bytes>>, ExchangeError> {
    let rows = board.read().await?;
    board.publish(row).await?;
    Ok(rows)
}

fn rows<const N: usize>(rows: [Option<&'static str>; N]) -> Vec<Option<Bytes>> {
    rows.map(|row| row.map(Bytes::from)).into()
}

/// Beats until it succeeds; how long that took.
async fn recovered(board: &mut Exchange) -> Duration {
    let begun = Instant::now();
    while beat(board, b"back").await.is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it never recovers"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn hosts_read_each_others_rows_and_their_own() {
    let store = Store::with_acl();
    let [mut a, mut b] = ["gw-a", "gw-b"].map(|host| board_of(host, &store.url_of_user()));
    assert!(!a.is_connected());
    let error = a.publish(b"early").await.unwrap_err();
    assert!(matches!(error, ExchangeError::NotConnected), "{error}");
    assert_eq!(beat(&mut a, b"a1").await.unwrap(), rows([None, None, None]));
    assert_eq!(
        beat(&mut b, b"b1").await.unwrap(),
        rows([Some("a1"), None, None])
    );
    assert_eq!(
        beat(&mut a, b"a2").await.unwrap(),
        rows([Some("a1"), Some("b1"), None])
    );
    assert_eq!(
        beat(&mut b, b"b2").await.unwrap(),
        rows([Some("a2"), Some("b1"), None])
    );
}

#[tokio::test]
async fn a_beat_is_two_commands_and_a_nudge_one_that_peers_hear_at_once() {
    let store = Store::start(&[]);
    let [mut a, mut b] = ["gw-a", "gw-b"].map(|host| board_of(host, &store.url()));
    for board in [&mut a, &mut b] {
        beat(board, b"row").await.unwrap();
    }
    let before = store.commands();
    for _ in 0..50 {
        beat(&mut a, b"row").await.unwrap();
    }
    // One of them is the counting itself.
    assert_eq!(store.commands() - before, 100 + 1);
    let heard = b.nudged();
    let notified = heard.notified();
    a.nudge("gw-a").await;
    let in_time = tokio::time::timeout(Duration::from_secs(2), notified).await;
    assert!(in_time.is_ok(), "the nudge was not heard");
}

#[tokio::test]
async fn the_documented_rights_are_enough_and_all_that_are_needed() {
    let store = Store::with_acl();
    let url = store.url_of_user();
    let mut board = board_of("gw-a", &url);
    beat(&mut board, b"row").await.unwrap();
    board.nudge("gw-a").await;
    assert!(board.is_connected(), "a nudge is within the rights");
    for command in ["SET", "MGET", "SUBSCRIBE", "PUBLISH"] {
        let rights = format!("-{}", command.to_ascii_lowercase());
        let limited = Store::start(&[]);
        let words = crate::store::ACL.split_whitespace().skip(1);
        let words: Vec<_> = ["ACL", "SETUSER"].into_iter().chain(words).collect();
        limited.tell(&[&words[..], &[&rights]].concat());
        let mut board = board_of("gw-a", &limited.url_of_user());
        let beaten = beat(&mut board, b"row").await;
        if command == "PUBLISH" {
            board.nudge("gw-a").await;
            assert!(!board.is_connected(), "a nudge needs {command}");
        } else {
            let error = beaten.expect_err(command);
            assert!(
                matches!(error, ExchangeError::Store(Reason::Rights)),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn refusals_of_the_store_name_the_remedy_and_no_secret() {
    let store = Store::with_acl();
    let wrong = format!(
        "redis://kintone-egress:wrong-{PASSWORD}@{}",
        store.address()
    );
    for url in [wrong, store.url()] {
        let error = beat(&mut board_of("gw-a", &url), b"row").await.unwrap_err();
        assert!(
            matches!(error, ExchangeError::Store(Reason::Credentials)),
            "{error}"
        );
        let said = format!("{error} {error:?}");
        assert!(
            !said.contains(PASSWORD) && said.contains("[fleet] redis"),
            "{said}"
        );
    }
    let open = Store::start(&[]);
    let replica = Store::start(&["--replicaof", "127.0.0.1", &open.port.to_string()]);
    replica.until_it_follows();
    let error = beat(&mut board_of("gw-a", &replica.url()), b"row")
        .await
        .unwrap_err();
    assert!(
        matches!(error, ExchangeError::Store(Reason::ReadOnly)),
        "{error}"
    );
}

#[tokio::test]
async fn garbage_of_peers_is_passed_on_and_what_is_too_long_is_not() {
    let store = Store::start(&[]);
    let mut board = board_of("gw-a", &store.url());
    store.tell(&["SET", "kintone-egress:row:gw-b", "\u{1}garbage"]);
    store.tell(&["LPUSH", "kintone-egress:row:gw-c", "no row"]);
    let seen = beat(&mut board, b"row").await.unwrap();
    assert_eq!(seen, rows([None, Some("\u{1}garbage"), None]));
    // A byte longer than a row may be: the row is none, the beat is whole.
    store.tell(&[
        "SETRANGE",
        "kintone-egress:row:gw-b",
        &ROW_BYTES_MAX.to_string(),
        "x",
    ]);
    let seen = beat(&mut board, b"row").await.unwrap();
    assert_eq!(seen, rows([Some("row"), None, None]));
    // 64 MiB: it is not read to its end.
    store.tell(&[
        "SETRANGE",
        "kintone-egress:row:gw-b",
        &(64 << 20).to_string(),
        "x",
    ]);
    let error = beat(&mut board, b"row").await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::Store(Reason::Broken(_))),
        "{error}"
    );
    store.tell(&["DEL", "kintone-egress:row:gw-b"]);
    recovered(&mut board).await;
    let long = vec![0; ROW_BYTES_MAX + 1];
    let error = beat(&mut board, &long).await.unwrap_err();
    assert!(matches!(error, ExchangeError::RowTooLong { .. }), "{error}");
}

#[tokio::test]
async fn a_store_that_went_is_found_again_and_one_that_hangs_costs_its_timeout() {
    let mut store = Store::start(&[]);
    let mut board = board_of("gw-a", &store.url());
    beat(&mut board, b"row").await.unwrap();
    store.kill();
    beat(&mut board, b"row").await.unwrap_err();
    let error = beat(&mut board, b"row").await.unwrap_err();
    assert!(matches!(error, ExchangeError::Connect { .. }), "{error}");
    let error = beat(&mut board, b"row").await.unwrap_err();
    assert!(matches!(error, ExchangeError::Pausing { .. }), "{error}");
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        beat(&mut board, b"row").await.unwrap_err();
    }
    store.resume();
    let took = recovered(&mut board).await;
    println!("found again after {took:?}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    store.signal("STOP");
    let begun = Instant::now();
    let error = beat(&mut board, b"row").await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::ResponseTimeout { .. }),
        "{error}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(500));
    store.signal("CONT");
    recovered(&mut board).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_and_one_that_speaks_nonsense_are_left_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let mut board = board_of("gw-a", &url);
    let error = beat(&mut board, b"row").await.unwrap_err();
    assert!(
        matches!(error, ExchangeError::ConnectTimeout { .. }),
        "{error}"
    );
    let rude = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", rude.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = rude.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut board = board_of("gw-a", &url);
    beat(&mut board, b"row").await.unwrap_err();
}

#[tokio::test]
async fn over_tls_a_certificate_of_the_named_authority_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let store = Store::start(&[
        "--tls-port",
        "0",
        "--tls-cert-file",
        &path("cert.pem"),
        "--tls-key-file",
        &path("key.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let port = crate::store::free_port().to_string();
    assert!(
        store
            .tell(&["CONFIG", "SET", "tls-port", &port])
            .contains("OK")
    );
    let url = format!("rediss://127.0.0.1:{port}");
    let trusting = format!("redis_ca_file = \"{}\"\n", path("cert.pem"));
    let config = config("gw-a", &url, &trusting);
    let mut board = Exchange::new(&config).unwrap().unwrap();
    beat(&mut board, b"row").await.unwrap();
    assert!(
        store
            .tell(&["GET", "kintone-egress:row:gw-a"])
            .contains("row")
    );
    let error = beat(&mut board_of("gw-a", &url), b"row").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn sentinel_names_the_master_and_the_new_one_after_a_failover() {
    let mut first = Store::start(&[]);
    let second = Store::start(&["--replicaof", "127.0.0.1", &first.port.to_string()]);
    let sentinel = Sentinel::start("egress", &first);
    until("Sentinel knows the replica", || {
        let replication = first.tell(&["INFO", "replication"]);
        replication.contains("state=online")
            && crate::store::sentinel_replicas(sentinel.port, "egress") == 1
    });
    let nobody = crate::store::free_port();
    let url = format!(
        "redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{}/egress",
        sentinel.port
    );
    let mut board = board_of("gw-a", &url);
    beat(&mut board, b"row").await.unwrap();
    assert!(
        first
            .tell(&["GET", "kintone-egress:row:gw-a"])
            .contains("row")
    );
    first.kill();
    beat(&mut board, b"row").await.unwrap_err();
    until("Sentinel has promoted the replica", || {
        sentinel.master("egress") == second.port
    });
    let took = recovered(&mut board).await;
    println!("after the failover: {took:?}");
    assert!(
        second
            .tell(&["GET", "kintone-egress:row:gw-a"])
            .contains("back")
    );
    let unknown = format!("redis+sentinel://127.0.0.1:{}/nothing", sentinel.port);
    let error = beat(&mut board_of("gw-a", &unknown), b"row")
        .await
        .unwrap_err();
    assert!(matches!(error, ExchangeError::Sentinel { .. }), "{error}");
}
