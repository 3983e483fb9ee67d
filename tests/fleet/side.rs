//! What hosts tell each other beside permits, over a real redis-server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kintone_egress::config::Config;
use kintone_egress::config::file::{Environment, parse};
use kintone_egress::fleet::exchange::Exchange;
use kintone_egress::fleet::ledger::Left;
use kintone_egress::fleet::side::Topic;
use kintone_egress::fleet::{Driver, Fleet};
use kintone_egress::quota::Quotas;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::store::Store;

const PATIENCE: Duration = Duration::from_secs(20);
const KEY_OF_B: &str = "kintone-egress:side:gw-b";

/// A host that runs until it is dropped.
struct Host {
    fleet: Fleet,
    _tasks: JoinSet<()>,
}

fn config(host: &str, url: &str) -> Config {
    let text = format!(
        "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n[fleet]\n\
         host = \"{host}\"\nhosts = [\"gw-a\", \"gw-b\"]\nredis = \"{url}\"\n\
         side_every = \"2s\"\nside_rows = \"4KiB\"\n"
    );
    let loaded = parse(&text, Path::new("test.toml"), &Environment::default());
    loaded.unwrap_or_else(|faults| panic!("{faults}")).config
}

/// Starts a host that tells `days` from the beginning.
async fn start(name: &str, url: &str, days: &'static [u8]) -> Host {
    let config = config(name, url);
    let board = Exchange::new(&config).unwrap().unwrap();
    let quotas = Quotas::new(&config);
    let keep = Arc::new(|_: &[u8]| Ok(()));
    let begun = Driver::begin(&config, board, quotas, Left::NOTHING, keep, 1);
    let (fleet, driver, side) = begun.await;
    fleet.post(Topic::Days, Bytes::from_static(days));
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run());
    tasks.spawn(side.run());
    Host {
        fleet,
        _tasks: tasks,
    }
}

impl Host {
    /// What the others have told of the topic.
    fn heard(&self, topic: Topic) -> Vec<(String, Bytes)> {
        let rows = self.fleet.heard(topic).into_iter();
        rows.map(|row| (row.host, row.content)).collect()
    }

    /// Waits for rounds until `condition` holds.
    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let mut rounds = self.fleet.rounds();
        let waiting = async {
            while !condition(self) {
                rounds.changed().await.unwrap();
            }
        };
        let in_time = timeout(PATIENCE, waiting).await;
        assert!(in_time.is_ok(), "never happened: {what}");
    }

    /// Waits until so many more rounds are over.
    async fn rounds(&self, count: u64) {
        let mut rounds = self.fleet.rounds();
        let end = *rounds.borrow() + count;
        timeout(PATIENCE, rounds.wait_for(|rounds| *rounds >= end))
            .await
            .expect("rounds go on")
            .unwrap();
    }
}

fn told(host: &str, content: &'static [u8]) -> Vec<(String, Bytes)> {
    vec![(host.to_owned(), Bytes::from_static(content))]
}

#[tokio::test]
async fn hosts_hear_each_other_and_what_one_that_is_gone_told_last() {
    let store = Store::with_acl();
    let url = store.url_of_user();
    let a = start("gw-a", &url, b"a1").await;
    a.rounds(1).await;
    let b = start("gw-b", &url, b"b1").await;
    b.until("b hears a at once", |b| {
        b.heard(Topic::Days) == told("gw-a", b"a1")
    })
    .await;
    a.until("a hears b", |a| a.heard(Topic::Days) == told("gw-b", b"b1"))
        .await;
    assert_eq!(a.heard(Topic::Evidence), []);
    b.fleet.post(Topic::Days, Bytes::from_static(b"b2"));
    a.until("a hears what b tells now", |a| {
        a.heard(Topic::Days) == told("gw-b", b"b2")
    })
    .await;
    drop(b);
    a.rounds(2).await;
    let row = &a.fleet.heard(Topic::Days)[0];
    assert_eq!(&row.content[..], b"b2");
    assert!(row.age >= Duration::from_secs(2), "{:?}", row.age);
    // One that starts while b is gone hears it from the store, and how old it is.
    drop(a);
    let a = start("gw-a", &url, b"a2").await;
    a.until("a hears b again", |a| {
        a.heard(Topic::Days) == told("gw-b", b"b2")
    })
    .await;
    let age = a.fleet.heard(Topic::Days)[0].age;
    assert!(age >= Duration::from_secs(2), "{age:?}");
    assert_eq!(a.fleet.view().side.bad_reads, 0);
}

#[tokio::test]
async fn garbage_and_rows_of_yesterday_take_nothing_back_and_are_counted() {
    let store = Store::start(&[]);
    let a = start("gw-a", &store.url(), b"a1").await;
    let b = start("gw-b", &store.url(), b"b1").await;
    a.until("a hears b", |a| a.heard(Topic::Days) == told("gw-b", b"b1"))
        .await;
    store.tell(&["COPY", KEY_OF_B, "before"]);
    b.fleet.post(Topic::Days, Bytes::from_static(b"b2"));
    a.until("a hears the new", |a| {
        a.heard(Topic::Days) == told("gw-b", b"b2")
    })
    .await;
    drop(b);
    store.tell(&["COPY", "before", KEY_OF_B, "REPLACE"]);
    a.rounds(1).await;
    assert_eq!(a.heard(Topic::Days), told("gw-b", b"b2"));
    assert_eq!(a.fleet.view().side.bad_reads, 0);
    let tail = "x".repeat(5000);
    for (count, bad) in [(1, "kefs"), (2, "garbage")] {
        store.tell(&["SET", KEY_OF_B, bad]);
        a.until("it is counted", |a| a.fleet.view().side.bad_reads >= count)
            .await;
    }
    let side = a.fleet.view().side;
    assert_eq!(side.bad_rows[0].0, "gw-b");
    // Longer than any: as if it were absent.
    store.tell(&["SET", KEY_OF_B, &tail]);
    a.rounds(2).await;
    assert_eq!(a.heard(Topic::Days), told("gw-b", b"b2"));
    // b comes back.
    let b = start("gw-b", &store.url(), b"b3").await;
    a.until("a hears b again", |a| {
        a.heard(Topic::Days) == told("gw-b", b"b3")
    })
    .await;
    assert!(a.fleet.view().side.bad_rows.is_empty());
    drop(b);
}

#[tokio::test]
async fn what_has_no_room_is_left_out_and_named() {
    let store = Store::start(&[]);
    let a = start("gw-a", &store.url(), b"a1").await;
    let b = start("gw-b", &store.url(), b"b1").await;
    b.fleet.post(Topic::Evidence, Bytes::from(vec![7; 4096]));
    b.until("it is left out", |b| {
        b.fleet.view().side.left_out == [Topic::Evidence]
    })
    .await;
    a.until("a hears the rest", |a| {
        a.heard(Topic::Days) == told("gw-b", b"b1")
    })
    .await;
    assert_eq!(a.heard(Topic::Evidence), []);
    b.fleet.post(Topic::Evidence, Bytes::from(vec![7; 2048]));
    a.until("a hears it whole", |a| {
        a.heard(Topic::Evidence) == [("gw-b".to_owned(), Bytes::from(vec![7; 2048]))]
    })
    .await;
    assert!(b.fleet.view().side.left_out.is_empty());
}

/// A way to the store by which the first connection goes on and all later ones hear nothing.
async fn way_for_one(store: &Store) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let address = store.address();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(address).await.unwrap();
        tokio::spawn(async move {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
        let mut silent = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            silent.push(accepted);
        }
    });
    url
}

#[tokio::test]
async fn side_rows_that_go_nowhere_hold_up_no_beat() {
    let store = Store::start(&[]);
    let a = start("gw-a", &way_for_one(&store).await, b"a1").await;
    a.rounds(2).await;
    let view = a.fleet.view();
    assert_eq!(view.side.failures, 2, "{:?}", view.side.last_error);
    assert!(view.side.last_error.is_some() && view.side.age.is_none());
    assert!(view.store.is_up && view.store.failures == 0, "{view:?}");
    let beats = view.store.beats;
    sleep(Duration::from_secs(3)).await;
    let view = a.fleet.view();
    assert!(view.store.beats >= beats + 2 && view.store.is_up);
}
