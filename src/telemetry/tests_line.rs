//! The access log's lines, byte for byte, and their schema.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{
    Account, AppId, Bind, CallerName, Cause, Client, Credential, Detail, Mode, Outcome, Priority,
    Published, Purpose, RequestId, Tenant,
};
use crate::telemetry::Record;
use crate::telemetry::line::{json_string, write};

fn line_of(record: &Record) -> String {
    let mut line = Vec::new();
    let now: Timestamp = "2026-05-06T07:08:09.012Z".parse().unwrap();
    write(&mut line, record, &json_string("gw-a"), now);
    String::from_utf8(line).unwrap()
}

fn full() -> Record {
    Record {
        caller: CallerName::parse("call-events"),
        credential: Some(Credential::Token(2)),
        tenant: Tenant::parse("company-1").ok(),
        priority: Some(Priority::Batch),
        purpose: Purpose::parse("voicemail"),
        account: Some(Account::from_normal("acme.cybozu.com")),
        app: Some(AppId(7)),
        mode: Some(Mode::Forward),
        method: Some(http::Method::GET),
        path: Some("/k/v1/records.json"),
        status: Some(429),
        cause: Some(Cause::AccountConcurrency),
        kintone_code: Some("GAIA_TO04".into()),
        kintone_id: Some("abc".into()),
        outcome: Outcome::KintoneError,
        detail: Some(Detail::ResponseCut),
        address: Some(Published([18, 177, 83, 94].into())),
        bind: Some(Bind([10, 0, 12, 34].into())),
        upstream: Some(([192, 0, 2, 7].into(), 443))
            .map(|(ip, port)| std::net::SocketAddrV4::new(ip, port)),
        bytes_in: 0,
        bytes_out: 18_446_744_073_709_551_615,
        queued: Some(Duration::ZERO),
        dns: Some(Duration::from_micros(1)),
        connect: Some(Duration::from_micros(1_500)),
        tls: Some(Duration::from_nanos(2_000_999)),
        upstream_time: Some(Duration::from_millis(45)),
        permit: Some(Duration::from_micros(45_120)),
        total: Duration::from_secs(60),
        retries: 1,
        kintone_running: Some(101),
        kintone_limit: Some(100),
        client: Some(Client(([10, 1, 2, 3], 50_000).into())),
        user_agent: Some("curl/8 \"q\" \\ \u{7f}\n企業".into()),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        handed_by: None,
        ..Record::new(RequestId::from_random(1))
    }
}

#[test]
fn a_full_line() {
    let expected = concat!(
        r#"{"ts":"2026-05-06T07:08:09.012Z","id":"10000000000000000000","host":"gw-a","#,
        r#""caller":"call-events","credential":"2","tenant":"company-1","priority":"batch","#,
        r#""purpose":"voicemail","account":"acme.cybozu.com","app":7,"mode":"forward","#,
        r#""method":"GET","path":"/k/v1/records.json","status":429,"#,
        r#""cause":"account-concurrency","kintone_code":"GAIA_TO04","kintone_id":"abc","#,
        r#""outcome":"kintone_error","detail":"response_cut","address":"18.177.83.94","#,
        r#""bind":"10.0.12.34","upstream":"192.0.2.7:443","bytes_in":0,"#,
        r#""bytes_out":18446744073709551615,"queued_ms":0,"dns_ms":0.001,"connect_ms":1.5,"#,
        r#""tls_ms":2,"upstream_ms":45,"permit_ms":45.12,"total_ms":60000,"retries":1,"#,
        r#""kintone_running":101,"kintone_limit":100,"client":"10.1.2.3:50000","#,
        "\"user_agent\":\"curl/8 \\\"q\\\" \\\\ \u{7f}\\n企業\",",
        r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}"#,
        "\n",
    );
    assert_eq!(line_of(&full()), expected);
}

#[test]
fn a_call_that_was_handed_over_says_by_whom() {
    let handed = Record {
        handed_by: Some("gw-b".into()),
        ..full()
    };
    assert!(line_of(&handed).ends_with(",\"handed_by\":\"gw-b\"}\n"));
}

#[test]
fn what_is_unknown_is_null_and_every_field_is_there_in_order() {
    let names = |line: &str| {
        let map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        map
    };
    let empty = line_of(&Record::new(RequestId::from_random(0)));
    let (empty_map, full_map) = (names(&empty), names(&line_of(&full())));
    assert_eq!(empty_map.len(), fields().len());
    assert!(empty_map.keys().eq(full_map.keys()));
    for name in ["caller", "status", "queued_ms", "client", "trace_id"] {
        assert!(empty_map[name].is_null(), "{name}");
    }
    let mut from = 0;
    for name in fields() {
        let at = empty[from..].find(&format!("\"{name}\":"));
        from += at.unwrap_or_else(|| panic!("{name} is missing or out of order"));
    }
}

#[test]
fn the_schema_knows_every_field_and_word() {
    let schema = schema();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(properties.len(), fields().len() + 1);
    assert!(properties.contains_key("handed_by"), "of some lines");
    assert!(fields().iter().all(|name| properties.contains_key(*name)));
    let words = |name: &str| -> Vec<String> {
        let words = properties[name]["enum"].as_array().unwrap();
        let texts = words.iter().filter_map(|word| word.as_str());
        texts.map(str::to_owned).collect()
    };
    let labels: Vec<_> = Detail::ALL.iter().map(|it| it.label()).collect();
    assert_eq!(words("detail"), labels);
    let labels: Vec<_> = Cause::ALL.iter().map(|it| it.label()).collect();
    assert_eq!(words("cause"), labels);
    let labels: Vec<_> = Outcome::all().map(Outcome::label).collect();
    assert_eq!(words("outcome"), labels);
}

fn schema() -> serde_json::Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/infra/schemas/access-log.schema.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The fields in the contract's order.
fn fields() -> Vec<&'static str> {
    "ts id host caller credential tenant priority purpose account app mode method path status \
     cause kintone_code kintone_id outcome detail address bind upstream bytes_in bytes_out \
     queued_ms dns_ms connect_ms tls_ms upstream_ms permit_ms total_ms retries \
     kintone_running kintone_limit client user_agent trace_id"
        .split(' ')
        .collect()
}
