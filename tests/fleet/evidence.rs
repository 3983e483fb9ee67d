//! A statement about a day is of all hosts.

use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use kintone_egress::published::calendar::day;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::pair::{Host, Pair, Wish};
use crate::process::Process;
use crate::schema;
use crate::store::Store;
use crate::support::ACME;

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";
const PATIENCE: Duration = Duration::from_secs(30);

async fn statement(host: &Host) -> Value {
    let today = day(Timestamp::now());
    let path = format!("/api/v1/evidence?account={ACME}&day={today}");
    let said = host.json(&path).await;
    schema::check(&said, "evidence");
    said
}

/// Asks until what is said has it.
async fn until(host: &Host, what: &str, has: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let said = statement(host).await;
        if has(&said) {
            return said;
        }
        assert!(begun.elapsed() < PATIENCE, "never {what}: {said}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn last_gap(of: &Value) -> &Value {
    of["gaps"].as_array().unwrap().last().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_has_what_every_host_recorded_and_names_what_was_not_heard() {
    let store = Store::with_acl();
    let wish = Wish {
        fleet: "side_every = \"2s\"\n".to_owned(),
        ..Wish::new(store.url_of_user())
    };
    let pair = Pair::new(wish).await;
    let a = pair.start("gw-a");
    let never = statement(&a).await;
    let other = &never["others"][0];
    assert_eq!(
        (&other["host"], &never["fleet"]["complete"]),
        (&"gw-b".into(), &false.into())
    );
    assert_eq!(last_gap(other)["why"], "not_heard");
    let b = pair.start("gw-b");
    for (host, connections) in [(&a, 2), (&b, 3)] {
        for _ in 0..connections {
            drop(host.caller().tunnel(ACME).await.unwrap());
        }
        assert_eq!(host.caller().get(RECORDS).await.status, 200);
    }
    let said = until(&a, "b is heard", |said| {
        said["others"][0]["connections"] == 4
    })
    .await;
    assert_eq!(pair.sim.ledger().sockets.len(), 7);
    assert_eq!(
        (&said["connections"], &said["fleet"]["connections"]),
        (&3.into(), &7.into())
    );
    let line = &said["others"][0]["addresses"][0];
    assert_eq!(
        (&line["local"], &line["published"]),
        (&"127.0.1.95".into(), &"18.177.83.94".into())
    );
    // Of b nothing is missing from its start to its last word.
    let gaps = said["others"][0]["gaps"].as_array().unwrap();
    assert_eq!(
        (gaps.len(), &gaps[0]["why"]),
        (1, &"no_record".into()),
        "{said}"
    );
    // One that drains says so with its last word: nothing is missing. One that is killed does not.
    b.leave().await;
    let said = until(&a, "b has taken its leave", |said| {
        last_gap(&said["others"][0])["why"] == "stopped"
    })
    .await;
    assert_eq!(said["fleet"]["connections"], 7);
    let mut b = Process::start(&pair, "gw-b", &pair.wish);
    let is_heard = |said: &Value| {
        let other = &said["others"][0];
        last_gap(other)["to"] != other["to"]
    };
    until(&a, "b is back", is_heard).await;
    b.kill();
    let said = until(&a, "b is missed", |said| {
        last_gap(&said["others"][0])["why"] == "not_heard"
    })
    .await;
    assert_eq!(said["fleet"]["connections"], 7);
    let command = Command::new(env!("CARGO_BIN_EXE_kintone-egress"))
        .args(["evidence", "--config"])
        .arg(&a.config_path)
        .args([ACME, "--day", &day(Timestamp::now()).to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(command.stdout).unwrap();
    assert!(
        text.contains("host gw-b") && text.contains("nothing was heard of this host"),
        "{text}"
    );
    assert!(text.contains("complete: no"), "{text}");
    a.leave().await;
    pair.check();
}
