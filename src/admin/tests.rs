//! The admin listener over a real socket.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::admin::{AfterDrain, Carried, Order, Refusal};
use crate::model::{Account, CallerName, Client, Code, Mode, Outcome, RequestId};
use crate::telemetry::{Phase, Record, Who};

use crate::admin::test_listener::{Kind, Running};

const TOKEN: &str = "token-that-nobody-may-see";

fn failed() -> Record {
    Record {
        account: Some(Account::from_normal("acme.cybozu.com")),
        mode: Some(Mode::Forward),
        status: Some(502),
        outcome: Outcome::Refused(Code::UpstreamTls),
        ..Record::new(RequestId::from_random(5))
    }
}

/// Every property of `value` is in the schema, and every required one is in `value`.
fn assert_described(value: &Value, schema: &Value, place: &str) {
    match value {
        Value::Object(map) => {
            let properties = schema["properties"].as_object().expect(place);
            for (name, value) in map {
                let schema = properties.get(name);
                let schema = schema.unwrap_or_else(|| panic!("{place}.{name} is not described"));
                assert_described(value, schema, &format!("{place}.{name}"));
            }
            for name in schema["required"].as_array().expect(place) {
                let name = name.as_str().unwrap();
                assert!(map.contains_key(name), "{place}.{name} is missing");
            }
        }
        Value::Array(items) => {
            for item in items {
                assert_described(item, &schema["items"], place);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) | Value::Array(_) | Value::Object(_) => "string",
            };
            let allowed = match (&schema["enum"], &schema["type"]) {
                (Value::Array(words), _) => words.contains(value),
                (_, Value::Array(kinds)) => kinds.contains(&json!(kind)),
                (_, one) => one == kind || (one == "number" && kind == "integer"),
            };
            assert!(allowed, "{place} is {value}, described as {schema}");
        }
    }
}

fn schema(name: &str) -> Value {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/infra/schemas");
    let text = std::fs::read_to_string(format!("{folder}/{name}.schema.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_answer_is_as_its_schema_says() {
    let admin = Running::start(Kind::Admin, None);
    admin.telemetry.end(failed());
    let client = Client(([127, 0, 0, 1], 4000).into());
    let id = RequestId::from_random(1);
    let call = admin.telemetry.live().enter(id, client, Instant::now());
    call.set_who(Who {
        caller: CallerName::parse("call-events"),
        account: Some(Account::from_normal("acme.cybozu.com")),
        mode: Some(Mode::Tunnel),
        tenant: None,
    });
    call.set_phase(Phase::Idle);
    for (path, name) in [
        ("/api/v1/accounts", "accounts"),
        ("/api/v1/accounts/ACME.cybozu.com", "account"),
        ("/api/v1/addresses", "addresses"),
        ("/api/v1/requests", "requests"),
        ("/readyz", "readyz"),
    ] {
        assert_described(&admin.get_json(path), &schema(name), name);
    }
    let detail = admin.get_json("/api/v1/accounts/acme.cybozu.com");
    assert_eq!(detail["failures"][0]["outcome"], "upstream_tls");
    assert_eq!(detail["oldest_wait_ms"], 1500);
    assert_eq!(detail["acceptance"][0]["state"], "refused");
    let calls = admin.get_json("/api/v1/requests?caller=call-events&older_than=0s");
    assert_eq!(calls["requests"][0]["phase"], "idle");
    let none = admin.get_json("/api/v1/requests?older_than=1h");
    assert_eq!((&none["total"], &none["requests"]), (&json!(0), &json!([])));
}

#[test]
fn accounts_are_found_sorted_and_cut() {
    let admin = Running::start(Kind::Admin, None);
    let names = |path: &str| -> Vec<String> {
        let list = admin.get_json(path);
        let items = list["accounts"].as_array().unwrap();
        let name = |item: &Value| item["account"].as_str().unwrap().to_owned();
        items.iter().map(name).collect()
    };
    let (acme, busy) = ("acme.cybozu.com", "busy.cybozu.com");
    assert_eq!(names("/api/v1/accounts"), [busy, acme]);
    assert_eq!(names("/api/v1/accounts?sort=oldest_wait"), [acme, busy]);
    assert_eq!(names("/api/v1/accounts?sort=account&limit=1"), [acme]);
    assert_eq!(names("/api/v1/accounts?q=USY"), [busy]);
    for bad in ["sort=nothing", "limit=-1", "unknown=1"] {
        let (status, body) = admin.get(&format!("/api/v1/accounts?{bad}"));
        assert_eq!(status, 400, "{bad}");
        let failure: Value = serde_json::from_str(&body).unwrap();
        assert_described(&failure, &schema("failure"), "failure");
    }
    assert_eq!(admin.get("/api/v1/requests?older_than=soon").0, 400);
    assert_eq!(admin.get("/api/v1/accounts/other.cybozu.com").0, 404);
    assert_eq!(admin.get("/nothing").0, 404);
    assert_eq!(admin.ask("PUT /api/v1/drain", "").0, 405);
}

#[test]
fn web_pages_foreign_names_and_bodies_are_refused() {
    let admin = Running::start(Kind::Admin, None);
    for (headers, expected) in [
        ("", 200),
        ("Host: localhost\r\n", 200),
        ("Host: gw-a:9180\r\n", 200),
        ("Host: rebound.evil.example\r\n", 403),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Content-Length: 3\r\n", 413),
        ("Transfer-Encoding: chunked\r\n", 413),
    ] {
        let (status, body) = admin.ask("GET /healthz", headers);
        assert_eq!(status, expected, "{headers}");
        if expected != 200 {
            let failure: Value = serde_json::from_str(&body).unwrap();
            assert_described(&failure, &schema("failure"), "failure");
        }
    }
    let foreign = "GET http://evil.example/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                   Connection: close\r\n\r\n";
    assert_eq!(admin.raw(foreign).0, 403);
}

#[test]
fn orders_need_the_token_when_there_is_one() {
    let mut admin = Running::start(Kind::Admin, Some(TOKEN));
    assert_eq!(admin.ask("POST /api/v1/reload", "").0, 401);
    let wrong = "Authorization: Bearer wrong\r\n";
    assert_eq!(admin.ask("DELETE /api/v1/drain", wrong).0, 401);
    assert!(admin.commands.try_recv().is_err(), "nothing was ordered");

    let carried = Carried {
        warnings: vec!["w".into()],
        needs_restart: vec!["[listen] proxy".into()],
    };
    let order = admin.answer_next(Ok(carried));
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, body) = admin.ask("POST /api/v1/reload", &right);
    assert_eq!(status, 200, "{body}");
    let body = serde_json::from_str(&body).unwrap();
    assert_described(&body, &schema("order"), "order");
    assert_eq!(order.join().unwrap(), Order::Reload);
}

#[test]
fn orders_are_carried_out_or_refused_with_the_faults() {
    for (line, expected) in [
        ("POST /api/v1/drain", Order::Drain(AfterDrain::Exit)),
        (
            "POST /api/v1/drain?exit=false",
            Order::Drain(AfterDrain::Stay),
        ),
        ("DELETE /api/v1/drain", Order::Undrain),
    ] {
        let mut admin = Running::start(Kind::Admin, None);
        let order = admin.answer_next(Ok(Carried::default()));
        assert_eq!(admin.ask(line, "Content-Length: 0\r\n").0, 200, "{line}");
        assert_eq!(order.join().unwrap(), expected);
    }
    let mut admin = Running::start(Kind::Admin, None);
    let faults = vec!["f.toml:1:1: x: unknown key".to_owned()];
    let order = admin.answer_next(Err(Refusal {
        faults: faults.clone(),
    }));
    let (status, body) = admin.ask("POST /api/v1/reload", "");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["faults"]), (422, &json!(faults)));
    assert_eq!(order.join().unwrap(), Order::Reload);
    // Whoever carried orders out is gone.
    assert_eq!(admin.ask("POST /api/v1/reload", "").0, 503);
}

#[test]
fn readiness_gives_its_reasons() {
    let admin = Running::start(Kind::Admin, None);
    assert_eq!(admin.get("/readyz").0, 200);
    let reasons = vec!["no usable address".to_owned()];
    admin.readiness.lock().unwrap().warnings = vec!["look <here>".to_owned()];
    assert_eq!(admin.get("/readyz").0, 200, "a warning is no reason");
    admin.readiness.lock().unwrap().reasons = reasons;
    let (status, body) = admin.get("/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    let expected = json!({
        "ready": false, "reasons": ["no usable address"], "warnings": ["look <here>"],
    });
    assert_eq!((status, body), (503, expected));
    let (_, page) = admin.get("/");
    assert!(page.contains("look &lt;here&gt;"), "{page}");
    assert_eq!(admin.get("/healthz").0, 200, "it lives all the same");
}

#[test]
fn the_read_only_listener_has_metrics_and_health_under_any_name_and_nothing_else() {
    let metrics = Running::start(Kind::ReadOnly, None);
    for path in ["/metrics", "/healthz", "/readyz"] {
        let named = "Host: gw.internal.example\r\n";
        assert_eq!(metrics.ask(&format!("GET {path}"), named).0, 200, "{path}");
    }
    for line in ["GET /", "GET /api/v1/accounts", "POST /api/v1/reload"] {
        assert_eq!(metrics.ask(line, "").0, 404, "{line}");
    }
    assert_eq!(metrics.ask("POST /metrics", "").0, 405);
    assert_eq!(metrics.ask("GET /metrics", "Origin: null\r\n").0, 403);
}

#[test]
fn metrics_are_well_formed() {
    let admin = Running::start(Kind::Admin, None);
    admin.telemetry.end(failed());
    let (status, text) = admin.get("/metrics");
    assert_eq!(status, 200);
    let mut typed = std::collections::HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(
                typed.insert(rest.split(' ').next().unwrap().to_owned()),
                "{line}"
            );
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let name = series.split('{').next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| typed.contains(*family))
            .unwrap_or(name);
        assert!(typed.contains(family), "{line} has no type");
    }
    for series in [
        r#"kintone_egress_address_up{address="18.177.83.94"} 1"#,
        r#"kintone_egress_address_connections{address="18.177.83.94"} 4"#,
        r#"kintone_egress_account_queued{account="other"} 200"#,
        "kintone_egress_permits_held 2",
    ] {
        assert!(text.lines().any(|line| line == series), "{series}");
    }
    assert!(text.contains(r#"kintone_egress_local_ports_used{address="18.177.83.94"}"#));
}

#[test]
fn no_answer_shows_the_token() {
    let admin = Running::start(Kind::Admin, Some(TOKEN));
    let nearly = format!("Authorization: Bearer {TOKEN}x\r\n");
    for line in [
        "GET /",
        "GET /metrics",
        "GET /api/v1/config",
        "GET /api/v1/accounts",
        "GET /nothing",
        "POST /api/v1/reload",
    ] {
        let (_, body) = admin.ask(line, &nearly);
        assert!(!body.contains(TOKEN), "{line}");
    }
}

#[test]
fn the_status_page_shows_what_matters() {
    let admin = Running::start(Kind::Admin, None);
    let (status, page) = admin.get("/");
    assert_eq!(status, 200);
    for part in ["1.2.3", "18.177.83.94", "busy.cybozu.com", "Ready"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script"));
}

#[test]
fn it_ends_when_told_although_a_connection_is_kept_open() {
    let admin = Running::start(Kind::Admin, None);
    let mut idle = TcpStream::connect(admin.address).unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", admin.address);
    idle.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    drop(admin);
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
}
