//! Calls leave from what is published as in use, and operators hear where the list is not what the
//! configuration says.

use http::StatusCode;
use serde_json::Value;

use crate::support::caller::{ask_raw, fetch_plain};
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, house};
use crate::{FIRST, FORMER, PUBLIC, SECOND, memory};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

fn plan(published: String) -> Plan {
    Plan {
        listen: PUBLIC.into(),
        published,
        ..Plan::default()
    }
}

/// The addresses that four calls leave from, each once.
async fn used(house: &House) -> Vec<String> {
    let mut used = Vec::new();
    for _ in 0..4 {
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(answer.status, 200);
        let address = answer.headers["kintone-egress-address"].to_str().unwrap();
        used.push(address.to_owned());
    }
    used.sort();
    used.dedup();
    used
}

async fn ready(house: &House) -> (u16, Value) {
    let (status, text) = house.admin_page("/readyz").await;
    (status, serde_json::from_str(&text).unwrap())
}

/// Every address on the list and its state.
async fn published(house: &House) -> Vec<[String; 2]> {
    let (status, text) = fetch_plain(house.public.unwrap(), "/egress-ips.json").await;
    assert_eq!(status, 200, "{text}");
    let json: Value = serde_json::from_str(&text).unwrap();
    let prefixes = json["prefixes"].as_array().unwrap();
    let word = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let words = prefixes.iter();
    words
        .map(|one| [word(one, "ip_prefix"), word(one, "state")])
        .collect()
}

/// Reads the configuration again, and has done so when this returns.
async fn reload(house: &House) {
    let head = format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        house.admin
    );
    assert_eq!(ask_raw(house.admin, head.as_bytes()).await.status, 200);
}

/// What `/readyz` warns of, but for addresses that nobody verifies here.
fn alarms(ready: &Value) -> Vec<&str> {
    let warnings = ready["warnings"].as_array().unwrap().iter();
    let warnings = warnings.map(|warning| warning.as_str().unwrap());
    warnings.filter(|it| !it.contains("[verify]")).collect()
}

fn entry(address: &str, state: &str) -> [String; 2] {
    [format!("{address}/32"), state.to_owned()]
}

#[tokio::test]
async fn the_first_list_is_used_and_remembered() {
    house(plan(String::new()), async |house| {
        assert_eq!(used(&house).await, [FIRST, SECOND]);
        let (status, ready) = ready(&house).await;
        assert_eq!((status, alarms(&ready)), (200, Vec::new()));
        let file = house.config_path.with_file_name("state/published.json");
        let memory: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(memory["addresses"].as_array().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_new_address_is_not_used_before_its_notice_is_over() {
    let known = memory(&[(FIRST, "active", 400)]);
    house(plan(known), async |house| {
        assert_eq!(used(&house).await, [FIRST]);
        let list = [entry(FIRST, "active"), entry(SECOND, "planned")];
        assert_eq!(published(&house).await, list);
        let (status, ready) = ready(&house).await;
        assert_eq!(status, 200, "calls go on");
        let warning = ready["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with(&format!("{SECOND} is held as planned until 20")));
        let alarms = "kintone_egress_published_alarms{alarm=\"held\"}";
        assert_eq!(house.metric(alarms).await, Some(1.0));
        let planned = "kintone_egress_published_addresses{state=\"planned\"}";
        assert_eq!(house.metric(planned).await, Some(1.0));
        let (_, text) = house.admin_page("/api/v1/addresses").await;
        let addresses: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(addresses["addresses"][1]["state"], "planned");
        // A reload is no way around it.
        house.reconfigure(|text| format!("{text}\n[log]\nlevel = \"warn\"\n"));
        reload(&house).await;
        assert_eq!(used(&house).await, [FIRST]);
    })
    .await;
}

#[tokio::test]
async fn an_address_that_had_its_notice_is_used() {
    let known = memory(&[(FIRST, "active", 400), (SECOND, "planned", 31)]);
    house(plan(known), async |house| {
        assert_eq!(used(&house).await, [FIRST, SECOND]);
        let (_, ready) = ready(&house).await;
        assert_eq!(alarms(&ready), Vec::<&str>::new());
    })
    .await;
}

#[tokio::test]
async fn an_address_that_was_left_out_stays_on_the_list() {
    let known = memory(&[
        (FIRST, "active", 400),
        (SECOND, "active", 400),
        (FORMER, "active", 400),
    ]);
    house(plan(known), async |house| {
        assert_eq!(used(&house).await, [FIRST, SECOND]);
        assert_eq!(published(&house).await[2], entry(FORMER, "retiring"));
        let (status, ready) = ready(&house).await;
        assert_eq!(status, 200);
        let warning = ready["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with(&format!("{FORMER} stays on the published list")));
        let alarms = "kintone_egress_published_alarms{alarm=\"kept\"}";
        assert_eq!(house.metric(alarms).await, Some(1.0));
    })
    .await;
}

#[tokio::test]
async fn a_damaged_memory_is_told_and_put_aside_and_calls_go_on() {
    house(plan("{\"layout\": 1, \"chan".into()), async |house| {
        assert_eq!(used(&house).await, [FIRST, SECOND]);
        let (status, ready) = ready(&house).await;
        assert_eq!(status, 200);
        let warning = ready["warnings"][0].as_str().unwrap();
        assert!(warning.contains("cannot be read"), "{warning}");
        let state = house.config_path.with_file_name("state");
        let kept = std::fs::read_to_string(state.join("published.json.damaged")).unwrap();
        assert_eq!(kept, "{\"layout\": 1, \"chan");
        assert!(state.join("published.json").exists(), "a good one");
    })
    .await;
}

#[tokio::test]
async fn before_its_first_day_nothing_leaves() {
    let addresses = format!(
        "[[egress.address]]\npublished = \"{FIRST}\"\nbind = \"127.0.1.94\"\n\
         valid_from = 2199-01-01\n"
    );
    let plan = Plan {
        addresses,
        ..plan(String::new())
    };
    house(plan, async |house| {
        let refused = house.caller().get(RECORDS).await;
        check_refusal(
            &refused,
            503,
            "GW_EGRESS_UNAVAILABLE",
            "proxy_internal_error",
        );
        assert_eq!(ready(&house).await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(published(&house).await, [entry(FIRST, "planned")]);
        assert_eq!(house.sim.accounting(ACME).peak, 0);
    })
    .await;
}

#[tokio::test]
async fn a_list_that_changes_is_used_without_a_restart() {
    let addresses = format!(
        "[egress]\nminimum_notice = \"30d\"\n\
         [[egress.address]]\npublished = \"{FIRST}\"\nbind = \"127.0.1.94\"\n\
         [[egress.address]]\npublished = \"{SECOND}\"\nbind = \"127.0.1.241\"\n"
    );
    let known = memory(&[(FIRST, "active", 400), (SECOND, "planned", 3)]);
    let plan = Plan {
        addresses,
        ..plan(known)
    };
    house(plan, async |house| {
        assert_eq!(used(&house).await, [FIRST]);
        let before = fetch_plain(house.public.unwrap(), "/egress-ips.json").await;
        house.reconfigure(|text| text.replace("\"30d\"", "\"2d\""));
        reload(&house).await;
        assert_eq!(used(&house).await, [FIRST, SECOND]);
        let list = [entry(FIRST, "active"), entry(SECOND, "active")];
        assert_eq!(published(&house).await, list);
        let after = fetch_plain(house.public.unwrap(), "/egress-ips.json").await;
        assert_ne!(before, after);
        let (_, ready) = ready(&house).await;
        assert_eq!(alarms(&ready), Vec::<&str>::new());
        // A longer notice comes too late for it.
        house.reconfigure(|text| text.replace("\"2d\"", "\"30d\""));
        reload(&house).await;
        assert_eq!(used(&house).await, [FIRST, SECOND]);
    })
    .await;
}
