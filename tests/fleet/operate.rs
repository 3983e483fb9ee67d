//! What operators see of a fleet and do with it.

use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::pair::{Host, Pair, Wish, until};
use crate::schema;
use crate::sharing::{PATIENCE, RECORDS, slow};
use crate::store::Store;
use crate::support::ACME;
use crate::support::caller::{ask_raw, fetch_plain};
use crate::support::crowd::flood;
use crate::support::program::without_environment;

fn wish(store: &Store) -> Wish {
    Wish {
        tenant: slow(50),
        ..Wish::new(store.url())
    }
}

/// Waits until what the API says of the fleet satisfies `condition`.
pub(crate) async fn until_fleet(
    host: &Host,
    what: &str,
    condition: impl Fn(&serde_json::Value) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let fleet = host.json("/api/v1/fleet").await;
        schema::check(&fleet, "fleet");
        if condition(&fleet) {
            return;
        }
        assert!(Instant::now() < deadline, "never happened: {what}: {fleet}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn order(host: &Host, path: &str) -> (u16, String) {
    let admin = host.admin;
    let request = format!("POST {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    let answer = ask_raw(admin, request.as_bytes()).await;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status.as_u16(), body)
}

/// What `kintone-egress fleet` ends with and says on this host.
pub(crate) async fn command(host: &Host, words: &[&str]) -> (Option<i32>, String) {
    let text = std::fs::read_to_string(&host.config_path).unwrap();
    let admin = format!("admin = \"{}\"", host.admin);
    let text = text.replace("admin = \"127.0.0.1:0\"", &admin);
    std::fs::write(&host.config_path, text).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
    let mut command = without_environment(program);
    command.arg("fleet").args(words).arg("--config");
    command.arg(&host.config_path);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_store_and_permits_are_shown_and_a_seen_host_is_not_evicted() {
    let mut store = Store::start(&[]);
    let pair = Pair::new(wish(&store)).await;
    let (a, b) = (pair.start("gw-a"), pair.start("gw-b"));
    let caller = a.caller();
    let end = Instant::now() + Duration::from_secs(3);
    let busy = tokio::spawn(async move { flood(&caller, 120, RECORDS, end).await });
    until_fleet(&a, "46 borrowed", |fleet| {
        fleet["permits"]["borrowed"] == 46 && fleet["permits"]["own"] == 49
    })
    .await;
    until_fleet(&b, "46 lent", |fleet| fleet["permits"]["lent"] == 46).await;
    let fleet = a.json("/api/v1/fleet").await;
    assert_eq!(fleet["hosts"], serde_json::json!(["gw-a", "gw-b"]));
    assert_eq!(
        (&fleet["shares"], &fleet["access"]),
        (&true.into(), &"open".into())
    );
    assert_eq!(fleet["peers"][0]["host"], "gw-b");
    assert_eq!(fleet["peers"][0]["up"], true);
    assert_eq!(fleet["accounts"][0]["account"], ACME);
    assert_eq!(fleet["accounts"][0]["total"], 98);
    for (sample, value) in [
        ("kintone_egress_fleet_store_up", 1.0),
        ("kintone_egress_fleet_peer_up{peer=\"gw-b\"}", 1.0),
        ("kintone_egress_fleet_peer_differs{peer=\"gw-b\"}", 0.0),
        ("kintone_egress_fleet_permits{state=\"borrowed\"}", 46.0),
        ("kintone_egress_fleet_permits{state=\"stranded\"}", 0.0),
    ] {
        assert_eq!(a.metric(sample).await, Some(value), "{sample}");
    }
    let age = a
        .metric("kintone_egress_fleet_peer_age_seconds{peer=\"gw-b\"}")
        .await;
    assert!(age.is_some_and(|age| age < 2.0), "{age:?}");
    let (status, said) = order(&a, "/api/v1/fleet/evict?host=gw-b").await;
    assert!(
        status == 400 && said.contains("stopped=true"),
        "{status} {said}"
    );
    for (host, why) in [
        ("gw-b", "was seen"),
        ("gw-a", "this host"),
        ("gw-z", "[fleet] hosts"),
    ] {
        let path = format!("/api/v1/fleet/evict?stopped=true&host={host}");
        let (status, said) = order(&a, &path).await;
        assert!(status == 422 && said.contains(why), "{status} {said}");
    }
    let (status, said) = order(&a, "/api/v1/fleet/admit?host=gw-b").await;
    assert!(
        status == 422 && said.contains("not evicted"),
        "{status} {said}"
    );
    assert!(busy.await.unwrap().is_all_well());
    store.kill();
    until_fleet(&a, "the store is away", |fleet| {
        fleet["store"]["up"] == false && fleet["store"]["error"].is_string()
    })
    .await;
    assert_eq!(a.metric("kintone_egress_fleet_store_up").await, Some(0.0));
    let (status, _) = fetch_plain(a.admin, "/readyz").await;
    assert_eq!(status, 200, "without the store it serves on");
    a.leave().await;
    b.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn differing_limits_are_told_and_the_smaller_counts() {
    let store = Store::start(&[]);
    let pair = Pair::new(Wish {
        ceiling: 48,
        ..wish(&store)
    })
    .await;
    let smaller = Wish {
        quota: "concurrency = 50\nheadroom = 2\ninteractive_reserve = 0\n".to_owned(),
        ..pair.wish.clone()
    };
    // The change of a limit, host by host: the new one counts as soon as one host has it.
    let (a, b) = (
        pair.start("gw-a"),
        pair.start_with("gw-b", "gw-b", &smaller),
    );
    let (one, two) = (a.caller(), b.caller());
    let end = Instant::now() + Duration::from_secs(4);
    // A call of the second host makes both speak of the account before there is any rush.
    assert!(
        flood(
            &two,
            24,
            RECORDS,
            Instant::now() + Duration::from_millis(900)
        )
        .await
        .is_all_well()
    );
    let other = tokio::spawn(async move { flood(&two, 60, RECORDS, end).await });
    until("the smaller limit is known", PATIENCE, || {
        a.allowed() <= 24 && a.allowed() > 0 || b.allowed() >= 40
    })
    .await;
    let first = tokio::spawn(async move { flood(&one, 60, RECORDS, end).await });
    until_fleet(&a, "the difference is told", |fleet| {
        fleet["peers"][0]["differs"]
            .to_string()
            .contains("limit for acme")
    })
    .await;
    assert_eq!(
        a.metric("kintone_egress_fleet_peer_differs{peer=\"gw-b\"}")
            .await,
        Some(1.0)
    );
    assert!(first.await.unwrap().is_all_well() && other.await.unwrap().is_all_well());
    a.leave().await;
    b.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_host_joins_one_by_one_and_all_share() {
    let store = Store::start(&[]);
    let pair = Pair::new(wish(&store)).await;
    let (a, b) = (pair.start("gw-a"), pair.start("gw-b"));
    sleep(Duration::from_millis(500)).await;
    let three = Wish {
        hosts: &["gw-a", "gw-b", "gw-c"],
        ..pair.wish.clone()
    };
    let c = pair.start_with("gw-c", "gw-c", &three);
    until_fleet(&c, "the others have other hosts", |fleet| {
        fleet["peers"][0]["differs"]
            .to_string()
            .contains("[fleet] hosts")
    })
    .await;
    // Each of the old hosts is started again with the new file, one after the other.
    a.leave().await;
    sleep(Duration::from_millis(500)).await;
    let a = pair.start_with("gw-a", "gw-a", &three);
    b.leave().await;
    sleep(Duration::from_millis(500)).await;
    let b = pair.start_with("gw-b", "gw-b", &three);
    for host in [&a, &b, &c] {
        until_fleet(host, "all agree", |fleet| {
            let peers = fleet["peers"].as_array().unwrap();
            peers.len() == 2
                && peers
                    .iter()
                    .all(|peer| peer["up"] == true && peer["differs"] == serde_json::json!([]))
        })
        .await;
    }
    let end = Instant::now() + Duration::from_secs(4);
    let caller = c.caller();
    let busy = tokio::spawn(async move { flood(&caller, 150, RECORDS, end).await });
    until("one of three has nearly all", PATIENCE, || {
        c.allowed() >= 95
    })
    .await;
    let tally = busy.await.unwrap();
    assert!(tally.is_all_well(), "{:?}", tally.statuses);
    for host in [a, b, c] {
        host.leave().await;
    }
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_one_name_supersedes_the_first_which_says_so() {
    let store = Store::start(&[]);
    let pair = Pair::new(wish(&store)).await;
    let first = pair.start("gw-a");
    until_fleet(&first, "it beats", |fleet| fleet["store"]["up"] == true).await;
    let second = pair.start_with("gw-a", "elsewhere", &pair.wish);
    until_fleet(&first, "it is superseded", |fleet| {
        fleet["access"] == "superseded"
    })
    .await;
    let (status, said) = fetch_plain(first.admin, "/readyz").await;
    assert!(
        status == 503 && said.contains("name of its own"),
        "{status} {said}"
    );
    until_fleet(&second, "the second is open", |fleet| {
        fleet["access"] == "open"
    })
    .await;
    first.leave().await;
    second.leave().await;
    pair.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_asks_the_gateway_of_this_host() {
    let store = Store::start(&[]);
    let pair = Pair::new(wish(&store)).await;
    let host = pair.start("gw-a");
    let run = |words: &'static [&'static str]| command(&host, words);
    let (status, said) = run(&["status"]).await;
    // Warnings about the file stand behind it.
    let mut values = serde_json::Deserializer::from_str(&said).into_iter();
    let shown: serde_json::Value = values.next().unwrap().unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((status, &shown["host"]), (Some(0), &"gw-a".into()));
    let (status, said) = run(&["evict", "gw-b", "--stopped"]).await;
    assert!(
        status == Some(3) && said.contains("was seen"),
        "{status:?} {said}"
    );
    let (status, said) = run(&["admit", "gw-b"]).await;
    assert!(
        status == Some(3) && said.contains("not evicted"),
        "{status:?} {said}"
    );
    let (status, said) = run(&["evict", "gw-b"]).await;
    assert!(
        status == Some(2) && said.contains("--stopped"),
        "{status:?} {said}"
    );
    host.leave().await;
    pair.check();
}
