//! Hosts publish the same list with the same dates, whenever each of them came to know it.

use std::process::Command;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::pair::{Host, Pair, Wish};
use crate::store::Store;

const SECOND: &str = "35.73.236.241";
const PATIENCE: Duration = Duration::from_secs(30);

/// What a host remembers that has the second address on its list since so many days.
fn memory(days: i64) -> Value {
    let at = (Timestamp::now() - SignedDuration::from_hours(24 * days)).to_string();
    let planned = json!({"at": at, "address": SECOND, "what": "planned", "from": null});
    let address = |address: &str, state: &str, at: Option<&str>| {
        json!({"address": address, "state": state, "since": at, "listed": at, "valid_from": null,
               "retire_after": null})
    };
    json!({
        "layout": 1,
        "changed": at,
        "addresses": [address("18.177.83.94", "active", None), address(SECOND, "planned", Some(&at))],
        "changes": [planned],
    })
}

/// The list as a customer gets it, by the command.
fn list(host: &Host) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_kintone-egress"))
        .args(["addresses", "--format", "json", "--config"])
        .arg(&host.config_path)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn state_of_second(host: &Host) -> String {
    let page = host.json("/api/v1/addresses").await;
    let addresses = page["addresses"].as_array().unwrap().iter();
    let mut second = addresses.filter(|one| one["published"] == SECOND);
    second.next().unwrap()["state"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_used_by_all_hosts_when_its_notice_is_over_on_one() {
    let store = Store::with_acl();
    let wish = Wish {
        fleet: format!(
            "side_every = \"2s\"\n[[egress.address]]\npublished = \"{SECOND}\"\n\
             bind = {{ gw-a = \"127.0.1.194\", gw-b = \"127.0.1.195\" }}\n"
        ),
        ..Wish::new(store.url_of_user())
    };
    let pair = Pair::new(wish).await;
    for (host, days) in [("gw-a", 100), ("gw-b", 1)] {
        let config_path = pair.configure(host, host, &pair.wish);
        let state = config_path.with_file_name("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("published.json"), memory(days).to_string()).unwrap();
    }
    let b = pair.start("gw-b");
    assert_eq!(state_of_second(&b).await, "planned", "held for its notice");
    let a = pair.start("gw-a");
    assert_eq!(state_of_second(&a).await, "active");
    let begun = Instant::now();
    while list(&a) != list(&b) {
        let lists = (list(&a), list(&b));
        assert!(begun.elapsed() < PATIENCE, "they differ: {lists:?}");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(state_of_second(&b).await, "active");
    let said = list(&b);
    assert!(said.to_string().contains(SECOND), "{said}");
    a.leave().await;
    b.leave().await;
    pair.check();
}
