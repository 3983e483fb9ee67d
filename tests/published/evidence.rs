//! Evidence: what a customer is told of connections equals what kintone saw.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kintone_egress::config::Evidence;
use kintone_egress::published::calendar::day;
use kintone_egress::published::evidence::Recorder;
use kintone_sim::TenantSettings;
use serde_json::Value;

use crate::support::{ACME, House, Plan, house};
use crate::{FIRST, SECOND, root};

const OTHER: &str = "other.kintone.com";

async fn statement(house: &House, account: &str) -> Value {
    let today = day(Timestamp::now());
    let path = format!("/api/v1/evidence?account={account}&day={today}");
    let (status, text) = house.admin_page(&path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_statement_equals_what_kintone_saw() {
    house(Plan::default(), async |house| {
        house.sim.tenant(OTHER, TenantSettings::default());
        let caller = house.caller();
        for _ in 0..3 {
            let url = format!("https://{ACME}/k/v1/records.json?app=1");
            assert_eq!(caller.get(&url).await.status, 200);
            drop(caller.tunnel(ACME).await.unwrap());
        }
        drop(caller.tunnel(OTHER).await.unwrap());
        let ledger = house.sim.ledger();
        for account in [ACME, OTHER] {
            let seen = ledger.sockets.iter();
            let seen = seen.filter(|socket| socket.sni.as_deref() == Some(account));
            let mut expected: BTreeMap<String, u64> = BTreeMap::new();
            for socket in seen {
                *expected.entry(socket.peer.ip().to_string()).or_default() += 1;
            }
            let said = statement(&house, account).await;
            let lines = said["addresses"].as_array().unwrap().iter();
            let told: BTreeMap<_, _> = lines
                .map(|line| {
                    let published = match line["local"].as_str().unwrap() {
                        "127.0.1.94" => FIRST,
                        "127.0.1.241" => SECOND,
                        stray => panic!("{stray}"),
                    };
                    assert_eq!(line["published"], published);
                    let local = line["local"].as_str().unwrap().to_owned();
                    (local, line["connections"].as_u64().unwrap())
                })
                .collect();
            assert_eq!(told, expected, "{account}: {said}");
            assert_eq!(said["outside"], 0);
            assert_eq!(said["connections"], expected.values().sum::<u64>());
            // Nothing is claimed of the time before this gateway.
            let gaps = said["gaps"].as_array().unwrap();
            assert_eq!(
                (gaps.len(), &gaps[0]["why"]),
                (1, &Value::from("no_record"))
            );
            assert_eq!(said["complete"], false);
            validate(&said);
        }
        assert!(statement(&house, ACME).await["connections"].as_u64() > Some(3));
        let nobody = statement(&house, "nobody.cybozu.com").await;
        assert_eq!(nobody["connections"], 0);
        for query in ["", "?account=a&day=today", "?account=a&day=2026-11-25&x=1"] {
            let (status, _) = house.admin_page(&format!("/api/v1/evidence{query}")).await;
            assert_eq!(status, 400, "{query}");
        }
    })
    .await;
}

/// Against the schema, by a validator of others.
fn validate(statement: &Value) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("statement.json");
    std::fs::write(&file, statement.to_string()).unwrap();
    let script = "import json, sys, jsonschema; schema, one = map(lambda n: json.load(open(n)), sys.argv[1:]); \
                  jsonschema.Draft202012Validator(schema).validate(one)";
    let validated = Command::new(root().join(".venv/bin/python"))
        .args(["-c", script])
        .arg(root().join("infra/schemas/evidence.schema.json"))
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&validated.stderr).into_owned();
    assert!(validated.status.success(), "{said}");
}

#[test]
fn the_command_states_what_the_files_have() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gateway.toml");
    let text = format!(
        "[[egress.address]]\npublished = \"{FIRST}\"\n[callers]\nanonymous = true\n\
         [fleet]\nhost = \"gw-a\"\nhosts = [\"gw-a\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let state = dir.path().join("state");
    let recorder = Recorder::open(&state, &Evidence::default(), at("2026-10-01T15:00:00Z"));
    let published: Ipv4Addr = FIRST.parse().unwrap();
    let now = at("2026-10-02T03:00:00Z");
    recorder.record(ACME, published, Some(published), now);
    recorder.close(at("2026-10-02T15:00:00Z"));
    let evidence = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kintone-egress"))
            .args(["evidence", "--config"])
            .arg(&config)
            .args(more)
            .env_remove("KINTONE_EGRESS_HOST")
            .env_remove("STATE_DIRECTORY")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (status, text, _) = evidence(&["ACME.s.cybozu.com", "--day", "2026-10-02"]);
    assert_eq!(status, Some(0));
    assert_eq!(
        text,
        "acme.cybozu.com: connections on 2026-10-02 (2026-10-02T00:00:00+09:00 to \
         2026-10-03T00:00:00+09:00), host gw-a\n  \
         18.177.83.94 (socket 18.177.83.94): 1, first 2026-10-02T12:00:00+09:00, last \
         2026-10-02T12:00:00+09:00\n  all: 1\n  outside the published list: 0\n  complete: yes\n"
    );
    let (status, json, _) = evidence(&[ACME, "--day", "2026-10-02", "--json"]);
    assert_eq!(status, Some(0));
    validate(&serde_json::from_str(&json).unwrap());
    let (status, text, _) = evidence(&[ACME, "--day", "2026-10-04"]);
    assert_eq!(status, Some(0));
    assert!(
        text.contains("no gateway ran here, or its record is gone"),
        "{text}"
    );
    let (status, _, said) = evidence(&["www.example.com", "--day", "2026-10-02"]);
    assert_eq!(status, Some(1));
    assert!(said.contains("is no account"), "{said}");
    assert_eq!(evidence(&[ACME, "--day", "today"]).0, Some(2));
}

#[test]
fn what_a_killed_gateway_did_not_write_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gateway.toml");
    let text = format!(
        "[listen]\nproxy = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [[egress.address]]\npublished = \"{FIRST}\"\nbind = \"127.0.1.94\"\n\
         [callers]\nanonymous = true\n"
    );
    std::fs::write(&config, text).unwrap();
    let program = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
        command.args([verb, "--config"]).arg(&config);
        command
            .env_remove("KINTONE_EGRESS_HOST")
            .env_remove("STATE_DIRECTORY");
        command
    };
    let today = day(Timestamp::now());
    let file = dir.path().join(format!("state/evidence/{today}.json"));
    let quiet = || Stdio::from(File::create(dir.path().join("said")).unwrap());
    let mut serving = program("serve").stderr(quiet()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !file.exists() {
        assert!(Instant::now() < deadline, "it writes before it serves");
        std::thread::sleep(Duration::from_millis(10));
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
    let today = today.to_string();
    let mut ask = program("evidence");
    let said = ask
        .args([ACME, "--day", &today, "--json"])
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let gaps = said["gaps"].as_array().unwrap();
    assert_eq!(gaps.last().unwrap()["why"], "not_written", "{said}");
    assert_eq!(gaps.last().unwrap()["to"], said["to"], "until this moment");
    assert_eq!(said["complete"], false);
}
