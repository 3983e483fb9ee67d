//! What the gateway knows of calls and answers, as callers and operators see it.

use std::collections::HashMap;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use kintone_sim::{Fault, FaultKind};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::compress::{Way, compress};
use crate::corpus::{Sample, samples};
use crate::support::caller::{Answer, read};
use crate::support::{ACME, House, Plan, house};

const CURSOR: &str = "9a9716fe-1394-4677-a1c7-2199a5d28215";

fn verbatim(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> FaultKind {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    FaultKind::Verbatim {
        status,
        headers,
        body,
    }
}

/// Arms kintone's next answer: this sample in that way, its code also in a header for every other.
fn arm(house: &House, sample: &Sample, way: Way, turn: usize) -> Vec<u8> {
    let body = compress(way, sample.body.as_bytes());
    let mut headers = vec![("content-type", sample.content_type.as_str())];
    headers.extend(way.name().map(|name| ("content-encoding", name)));
    if let (Some(code), 0) = (&sample.code, turn % 2) {
        headers.push(("x-cybozu-error", code));
    }
    let status = sample.status.as_u16();
    house
        .sim
        .fault(Fault::once(verbatim(status, &headers, body.clone())));
    body
}

fn check_failure(answer: &Answer, sample: &Sample, way: Way, sent: &[u8]) {
    let at = format!("{} {} {way:?}", sample.status, sample.name);
    assert_eq!(answer.status, sample.status, "{at}");
    assert_eq!(answer.body, sent, "{at}: not a byte is touched");
    assert_eq!(
        answer.header("content-encoding"),
        way.name().unwrap_or_default(),
        "{at}"
    );
    assert_eq!(answer.header("content-type"), sample.content_type, "{at}");
    assert_eq!(answer.header("kintone-egress-cause"), sample.cause, "{at}");
    assert!(!answer.header("kintone-egress-actor").is_empty(), "{at}");
    assert!(answer.header("kintone-egress-hint").len() > 20, "{at}");
    let hint = percent_decode_str(answer.header("kintone-egress-hint-ja"));
    let hint = hint.decode_utf8().unwrap();
    assert!(hint.ends_with('。') && !hint.is_ascii(), "{at}: {hint}");
}

fn check_line(line: &Value, sample: &Sample) {
    let at = format!("{} {}", sample.status, sample.name);
    assert_eq!(line["status"], sample.status.as_u16(), "{at}");
    assert_eq!(line["outcome"], "kintone_error", "{at}");
    assert_eq!(line["cause"], sample.cause.as_str(), "{at}");
    assert_eq!(
        line["kintone_code"].as_str(),
        sample.code.as_deref(),
        "{at}"
    );
    assert_eq!(line["kintone_id"].as_str(), sample.id.as_deref(), "{at}");
}

/// A host with one of the two addresses: a call that kintone's edge refuses has no way around.
fn one_address() -> Plan {
    let addresses = "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.1.94\"\n\
                     [[egress.address]]\npublished = \"35.73.236.241\"\nbind = { elsewhere = \"127.0.1.241\" }\n";
    Plan {
        addresses: addresses.to_owned(),
        ..Plan::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_the_corpus_is_explained_and_passes_untouched() {
    house(one_address(), async |house| {
        let caller = house.caller();
        let mut sender = caller.connect().await;
        let mut expected = HashMap::new();
        for (turn, sample) in samples().into_iter().enumerate() {
            for way in Way::ALL {
                let sent = arm(&house, &sample, way, turn);
                // It does not wait, so that a refusal at admission passes too.
                let url = "https://acme.cybozu.com/k/v1/file.json?fileKey=x";
                let mut request = caller.request(Method::GET, url, "");
                let wait = http::HeaderValue::from_static("0");
                request
                    .headers_mut()
                    .insert("kintone-egress-max-wait-ms", wait);
                sender.ready().await.unwrap();
                let answer = read(sender.send_request(request).await.unwrap())
                    .await
                    .unwrap();
                check_failure(&answer, &sample, way, &sent);
                expected.insert(answer.id().to_owned(), sample.clone());
            }
        }
        assert!(expected.len() > 500, "{}", expected.len());
        let last = expected.len();
        house
            .until("all lines are written", |house| {
                house.output.lines().len() >= last
            })
            .await;
        for line in house.output.lines() {
            check_line(&line, &expected[line["id"].as_str().unwrap()]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_customer_whose_allowlist_lacks_us_is_told_what_to_allow_and_where() {
    house(one_address(), async |house| {
        let page = b"<html><body>Access restricted</body></html>";
        let refusal = verbatim(403, &[("content-type", "text/html")], page.to_vec());
        house.sim.fault(Fault::once(refusal));
        let answer = house
            .caller()
            .get("https://acme.cybozu.com/k/v1/records.json?app=1")
            .await;
        assert_eq!(answer.header("kintone-egress-cause"), "ip-not-allowlisted");
        assert_eq!(answer.header("kintone-egress-actor"), "customer");
        let english = answer.header("kintone-egress-hint").to_owned();
        let japanese = percent_decode_str(answer.header("kintone-egress-hint-ja"));
        let japanese = japanese.decode_utf8().unwrap().into_owned();
        for hint in [english, japanese] {
            for told in [
                "18.177.83.94/32",
                "35.73.236.241/32",
                "ip_restrictions.html",
            ] {
                assert!(hint.contains(told), "{hint}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_long_or_slow_error_is_known_by_its_beginning() {
    house(Plan::default(), async |house| {
        let slow = FaultKind::SlowBody {
            bytes: 30,
            tick_ms: 300,
        };
        house.sim.fault(Fault::once(slow));
        let url = "https://acme.cybozu.com/k/v1/record.json?app=1&id=99999";
        let answer = house.caller().get(url).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["cause"], "not-found");
        assert_eq!(line["kintone_code"], "GAIA_RE01");
        assert_eq!(
            line["kintone_id"],
            answer.json()["id"],
            "found before the second was over"
        );

        let filler = "x".repeat(200_000);
        let long = json!({"code": "GAIA_CO02", "id": "aBc8xyRm9kiFutkr90f1", "message": filler});
        let long = long.to_string().into_bytes();
        house
            .sim
            .fault(Fault::once(verbatim(409, &[], long.clone())));
        let answer = house.caller().get(url).await;
        assert_eq!(answer.header("kintone-egress-cause"), "conflict");
        assert_eq!(answer.body, long);
    })
    .await;
}

/// A call, and the app that its log line must name.
struct Case {
    method: Method,
    path: &'static str,
    body: Value,
    headers: &'static [(&'static str, &'static str)],
    app: Option<u64>,
}

impl Case {
    fn new(method: Method, path: &'static str, app: Option<u64>) -> Self {
        Self {
            method,
            path,
            body: Value::Null,
            headers: &[],
            app,
        }
    }

    fn with(mut self, body: Value) -> Self {
        self.body = body;
        self
    }

    fn saying(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }

    fn request(&self, house: &House) -> Request<Full<Bytes>> {
        let url = format!("https://{ACME}{}", self.path);
        let body = if self.body.is_null() {
            String::new()
        } else {
            self.body.to_string()
        };
        let mut request = house.caller().request(self.method.clone(), &url, body);
        for (name, value) in self.headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        request
    }
}

fn bulk(apps: &[u64]) -> Value {
    let requests: Vec<_> = apps
        .iter()
        .map(|app| json!({"api": "/k/v1/record.json", "method": "POST", "payload": {"app": app}}))
        .collect();
    json!({"requests": requests})
}

fn cases() -> Vec<Case> {
    let (get, post, put, delete) = (Method::GET, Method::POST, Method::PUT, Method::DELETE);
    let record = json!({"record": {"title": {"value": "a"}}, "app": "1"});
    // Names stand in the order of the alphabet: the app is behind a megabyte of other things.
    let large = vec![json!({"app": {"value": "x".repeat(10_000)}}); 100];
    let large = json!({"a": large, "app": 1, "records": []});
    vec![
        Case::new(get.clone(), "/k/v1/records.json?query=x&app=1", Some(1)),
        Case::new(get.clone(), "/k/v1/app.json?id=1", Some(1)),
        Case::new(get.clone(), "/k/v1/records.json", Some(1)).with(json!({"app": 1})),
        Case::new(get.clone(), "/k/v1/records.json?app=2", None).with(json!({"app": 1})),
        Case::new(get.clone(), "/k/v1/file.json?fileKey=1", None),
        Case::new(get, "/k/v1/unheard-of.json?app=1", None),
        Case::new(post.clone(), "/k/v1/record.json", Some(1)).with(record),
        Case::new(post.clone(), "/k/v1/records.json", Some(1)).with(large),
        Case::new(post.clone(), "/k/v1/records.json", Some(1))
            .with(json!({"app": 1, "query": ""}))
            .saying(&[("x-http-method-override", "GET")]),
        Case::new(put, "/k/v1/record.json", Some(9)).with(json!({"app": 9, "id": 1})),
        Case::new(delete, "/k/v1/records.json", Some(1)).with(json!({"ids": [77], "app": 1})),
        Case::new(post.clone(), "/k/v1/bulkRequest.json", Some(7)).with(bulk(&[7, 7])),
        Case::new(post.clone(), "/k/guest/3/v1/bulkRequest.json", None).with(bulk(&[7, 8])),
        Case::new(post, "/k/v1/record.json", None).with(json!({"record": {"app": 1}})),
    ]
}

#[tokio::test]
async fn the_log_names_the_app_of_each_call_that_is_about_one() {
    house(Plan::default(), async |house| {
        for case in cases() {
            let answer = house.caller().send(case.request(&house)).await.unwrap();
            let line = house.output.line_of(answer.id()).await;
            let at = format!("{} {} {}", case.method, case.path, answer.status);
            assert_eq!(line["app"].as_u64(), case.app, "{at}");
        }
    })
    .await;
}

#[tokio::test]
async fn calls_that_read_a_cursor_are_about_the_app_it_was_made_for() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let url = format!("https://{ACME}/k/v1/records/cursor.json");
        for (turn, way) in Way::ALL.into_iter().enumerate() {
            let app = turn as u64 + 40;
            let id = format!("{CURSOR}-{turn}");
            let made = json!({"id": id, "totalCount": "8"}).to_string();
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(way.name().map(|name| ("content-encoding", name)));
            let body = compress(way, made.as_bytes());
            house
                .sim
                .fault(Fault::once(verbatim(200, &headers, body.clone())));
            let make = caller.request(Method::POST, &url, json!({"app": app}).to_string());
            let answer = caller.send(make).await.unwrap();
            assert_eq!(answer.body, body);
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(line["app"], app);

            let by_query = caller.request(Method::GET, &format!("{url}?id={id}"), "");
            let by_body = caller.request(Method::DELETE, &url, json!({"id": id}).to_string());
            for request in [by_query, by_body] {
                let answer = caller.send(request).await.unwrap();
                let line = house.output.line_of(answer.id()).await;
                assert_eq!(line["app"], app, "{way:?}");
                assert_eq!(line["path"], "/k/v1/records/cursor.json");
            }
        }
        let strange = caller.get(&format!("{url}?id=of-another-host")).await;
        assert_eq!(house.output.line_of(strange.id()).await["app"], Value::Null);
        assert!(
            !house.output.text().contains(CURSOR),
            "a cursor's name is a key to records"
        );
    })
    .await;
}

#[tokio::test]
async fn a_method_override_that_ends_at_this_hop_makes_no_read_of_a_write() {
    house(Plan::default(), async |house| {
        let override_ = ("x-http-method-override", "GET");
        for (headers, executions) in [
            (&[override_][..], 2),
            (&[override_, ("connection", "X-HTTP-Method-Override")], 1),
        ] {
            let before = house.sim.ledger().executions.len();
            house.sim.fault(Fault::once(FaultKind::ResetBeforeAnswer));
            let url = format!("https://{ACME}/k/v1/records.json");
            let mut request = house.caller().request(Method::POST, &url, r#"{"app":1}"#);
            for (name, value) in headers {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
            let answer = house.caller().send(request).await.unwrap();
            let status = if executions == 2 { 200 } else { 502 };
            assert_eq!(answer.status.as_u16(), status, "{headers:?}");
            assert_eq!(house.sim.ledger().executions.len() - before, executions);
        }
    })
    .await;
}
