//! What it costs to know what a call means, by its head and by its body, and why an answer failed.

#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use kintone_egress::kintone::answer::{BodyEnd, Coding, ErrorReader, cause};
use kintone_egress::kintone::call::Meaning;

/// What a client sends besides.
fn headers() -> HeaderMap {
    let pairs = [
        ("host", "acme.cybozu.com"),
        ("user-agent", "kintone-rest-api-client/6.1.4"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("x-cybozu-api-token", "token"),
        ("via", "1.1 kintone-egress"),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn heads(criterion: &mut Criterion) {
    let headers = headers();
    let long = format!("query={}&app=7", "a%20%3D%20%22b%22".repeat(200));
    for (name, method, path, query) in [
        (
            "head: GET with the app",
            Method::GET,
            "/k/v1/records.json",
            Some("app=7&id=12"),
        ),
        (
            "head: GET with a query of 3 KiB",
            Method::GET,
            "/k/v1/records.json",
            Some(long.as_str()),
        ),
        ("head: POST", Method::POST, "/k/v1/record.json", None),
        (
            "head: guest space",
            Method::GET,
            "/k/guest/12/v1/app/form/fields.json",
            Some("app=7"),
        ),
        ("head: no API of kintone's", Method::GET, "/k/7/", None),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (path, query) = (black_box(path), black_box(query));
                let meaning = Meaning::read(&method, &headers, path, query);
                black_box(meaning.subject(None))
            });
        });
    }
}

fn bodies(criterion: &mut Criterion) {
    let field = |code: &str, value: &str| format!(r#""{code}":{{"value":"{value}"}}"#);
    let fields: Vec<_> = (0..20)
        .map(|n| field(&format!("field_{n}"), "03-1234-5678 通話 \\\"memo\\\""))
        .collect();
    let record = format!("{{{}}}", fields.join(","));
    let first = format!(r#"{{"app":7,"record":{record}}}"#);
    let last = format!(r#"{{"record":{record},"app":7}}"#);
    let request = format!(
        r#"{{"method":"POST","api":"/k/v1/record.json","payload":{{"app":7,"record":{record}}}}}"#
    );
    let bulk = format!(r#"{{"requests":[{}]}}"#, vec![request; 20].join(","));
    let mut group = criterion.benchmark_group("body");
    for (name, path, body) in [
        ("app first", "/k/v1/record.json", &first),
        ("app last", "/k/v1/record.json", &last),
        ("bulk request of 20", "/k/v1/bulkRequest.json", &bulk),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        let meaning = Meaning::read(&Method::POST, &HeaderMap::new(), path, None);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut reader = meaning.body_reader().expect("it reads bodies");
                for piece in body.as_bytes().chunks(16 << 10) {
                    reader.feed(black_box(piece));
                }
                black_box(meaning.subject(Some(&reader)))
            });
        });
    }
}

fn answers(criterion: &mut Criterion) {
    let error = br#"{"code":"GAIA_RE01","id":"jxcbVKLdjmcOc1wQ2nMT","message":"not found"}"#;
    criterion.bench_function("answer: plain", |bencher| {
        bencher.iter(|| {
            let mut reader = ErrorReader::new(Coding::Identity);
            reader.feed(black_box(error));
            black_box(cause(
                StatusCode::NOT_FOUND,
                None,
                reader.said(BodyEnd::Whole),
            ))
        });
    });
}

criterion_group!(benches, heads, bodies, answers);
criterion_main!(benches);
