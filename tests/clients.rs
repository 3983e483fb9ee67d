//! Real clients through the real gateway: each gets its data by the way in that it uses, and shows
//! the code of a refusal. What they are is in `tests/clients/README.md`; `make setup` installs them.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kintone_sim::AppSettings;
use serde_json::Value;
use support::{ACME, API_TOKEN, House, Plan, TOKEN, house};

/// Longest life of a client's process.
const CLIENT_MAX: Duration = Duration::from_secs(120);

/// Each client and the mode that it makes of a call.
const CLIENTS: &[(&str, &str)] = &[
    ("curl-forward", "forward"),
    ("curl-forward-http", "forward"),
    ("curl-tunnel", "tunnel"),
    ("sdk-6.1.4", "forward"),
    ("sdk-6.2.1", "tunnel"),
    ("requests", "tunnel"),
];

/// A call that a client is to make.
#[derive(Clone, Copy)]
struct Errand<'a> {
    user: &'a str,
    token: &'a str,
    host: &'a str,
}

/// The right token, a known account.
const USUAL: Errand<'_> = Errand {
    user: "events",
    token: TOKEN,
    host: ACME,
};

#[tokio::test]
async fn each_client_gets_its_records() {
    house(Plan::default(), |house| async move {
        for (number, (client, mode)) in CLIENTS.iter().enumerate() {
            let said = run(client, &house, USUAL).await;
            assert_eq!(said["ok"], true, "{client}: {said}");
            assert_eq!(shown(&said["records"]), demo_records(), "{client}");
            let line = line(&house, number).await;
            assert_eq!(line["mode"], *mode, "{client}: {line}");
            assert_eq!(line["caller"], "events", "{client}: {line}");
            assert_eq!(line["outcome"], "ok", "{client}: {line}");
        }
    })
    .await;
}

#[tokio::test]
async fn each_client_can_say_in_its_user_name_what_a_call_is() {
    house(Plan::default(), |house| async move {
        let user = "events+company-1;priority=batch;wait=2000;purpose=incoming";
        for (number, (client, _)) in CLIENTS.iter().enumerate() {
            let said = run(client, &house, Errand { user, ..USUAL }).await;
            assert_eq!(said["ok"], true, "{client}: {said}");
            let line = line(&house, number).await;
            let options = [&line["tenant"], &line["priority"], &line["purpose"]];
            assert_eq!(
                options,
                ["company-1", "batch", "incoming"],
                "{client}: {line}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn each_client_shows_that_credentials_are_wrong() {
    let errand = Errand {
        token: "mistyped",
        ..USUAL
    };
    each_is_refused(errand, 407, "GW_AUTHENTICATION_REQUIRED").await;
}

#[tokio::test]
async fn each_client_shows_that_the_destination_is_none() {
    let errand = Errand {
        host: "kintone.example.com",
        ..USUAL
    };
    each_is_refused(errand, 403, "GW_DESTINATION_FORBIDDEN").await;
}

#[tokio::test]
async fn each_client_shows_that_its_wait_was_too_long() {
    each_is_refused_when_busy("max_wait = \"100ms\"", "GW_WAIT_EXCEEDED").await;
}

#[tokio::test]
async fn each_client_shows_that_too_many_wait() {
    each_is_refused_when_busy("queue = 0", "GW_QUEUE_FULL").await;
}

/// The account's only permit is taken by a tunnel.
async fn each_is_refused_when_busy(quota: &str, code: &str) {
    let quota = format!("concurrency = 1\nheadroom = 0\n{quota}");
    let plan = Plan {
        quota,
        ceiling: 1,
        ..Plan::default()
    };
    house(plan, |house| async move {
        let busy = house.caller().tunnel(ACME).await.unwrap();
        all_refused(&house, USUAL, 429, code).await;
        drop(busy);
        assert_eq!(
            house.sim.ledger().sockets.len(),
            1,
            "a refused call reached kintone"
        );
    })
    .await;
}

async fn each_is_refused(errand: Errand<'static>, status: u16, code: &'static str) {
    house(Plan::default(), |house| async move {
        all_refused(&house, errand, status, code).await;
        assert!(
            house.sim.ledger().sockets.is_empty(),
            "a refused call reached kintone"
        );
    })
    .await;
}

async fn all_refused(house: &House, errand: Errand<'_>, status: u16, code: &str) {
    for (client, _) in CLIENTS {
        let said = run(client, house, errand).await;
        assert_eq!(said["ok"], false, "{client}: {said}");
        assert_eq!(said["code"], code, "{client}: {said}");
        assert_eq!(said["status"], status, "{client}: {said}");
    }
}

/// Runs a client until its end; what it said.
async fn run(client: &str, house: &House, errand: Errand<'_>) -> Value {
    let program = installed(client);
    let ca_file = house.config_path.with_file_name("ca.pem");
    let process = tokio::process::Command::new(program)
        .arg(client)
        .env(
            "PROXY_URL",
            format!("http://{}:{}@{}", errand.user, errand.token, house.proxy),
        )
        .env("BASE_URL", format!("https://{}", errand.host))
        .env("CA_FILE", ca_file)
        .env("API_TOKEN", API_TOKEN)
        .env("APP", "1")
        // The machine's own proxy settings are not what is tested.
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CLIENT_MAX, process)
        .await
        .expect("ends in time")
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(said.trim()).unwrap_or_else(|error| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        panic!("{client}: {}, {error}: {said}{complaint}", output.status)
    })
}

/// The script that runs a client, if everything it needs is here.
fn installed(client: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |name: &str| std::env::split_paths(&path).any(|at| at.join(name).is_file());
    let is_file = |name: &str| root.join(name).is_file();
    let missing = match client.split_once('-') {
        Some(("curl", _)) => ["curl", "python3"]
            .into_iter()
            .find(|name| !is_program(name)),
        Some(("sdk", _)) if !is_program("node") => Some("node"),
        Some(("sdk", _)) => {
            let package = "node_modules/@kintone/rest-api-client/package.json";
            let found = is_file(&format!("tests/clients/{client}/{package}"));
            (!found).then_some("@kintone/rest-api-client")
        }
        _ => (!is_file(".venv/bin/python")).then_some("Python's requests"),
    };
    if let Some(missing) = missing {
        panic!("{client}: {missing} is not installed; `make setup` does it");
    }
    root.join("tests/clients/run")
}

/// The access log's line of the `number`th call, which may end after its client.
async fn line(house: &House, number: usize) -> Value {
    house
        .until("the call is in the log", |house| {
            house.output.lines().len() > number
        })
        .await;
    house.output.lines().swap_remove(number)
}

/// The values of the demo app's fields that its records begin with, newest record first.
fn demo_records() -> Vec<[String; 3]> {
    let records = AppSettings::demo().records;
    let values = records.iter().map(|record| {
        ["title", "tel", "num"].map(|code| record[code].as_str().unwrap().to_owned())
    });
    values.rev().collect()
}

/// The same values as a client got them.
fn shown(records: &Value) -> Vec<[String; 3]> {
    let values = records.as_array().unwrap().iter().map(|record| {
        ["title", "tel", "num"].map(|code| record[code]["value"].as_str().unwrap().to_owned())
    });
    values.collect()
}
