//! The control port.

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kintone_sim::{Authority, Options, Sim};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{self, HOST, RECORDS};

async fn call(sim: &Sim, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let tcp = TcpStream::connect(sim.control_addr().unwrap())
        .await
        .unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(target)
        .header("host", "control")
        .body(Full::<bytes::Bytes>::from(body.to_string()))
        .unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn accounts_and_faults_are_controlled_over_http() {
    let options = Options {
        control: Some("127.0.0.1:0".parse().unwrap()),
        ..Options::default()
    };
    let sim = Sim::start(options).await.unwrap();
    let none = json!(null);
    assert_eq!(
        call(&sim, "GET", "/healthz", &none).await,
        (200, json!("ok"))
    );
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 404);

    let target = format!("/tenant/{HOST}");
    let knobs = json!({"concurrency": 7, "maintenance": "text503"});
    assert_eq!(call(&sim, "PUT", &target, &knobs).await.0, 200);
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 503);
    let knobs = json!({"maintenance": "off"});
    assert_eq!(call(&sim, "PUT", &target, &knobs).await.1["concurrency"], 7);
    let (status, why) = call(&sim, "PUT", &target, &json!({"limit": 7})).await;
    assert_eq!(status, 400);
    assert!(why["error"].as_str().unwrap().contains("limit"), "{why}");

    let fault = json!({"kind": {"slow_head": {"wait_ms": 1}}, "path": "/k/v1/*", "count": 1});
    assert_eq!(call(&sim, "POST", "/fault", &fault).await.0, 200);
    let fault = json!({"kind": "overload", "skip": 1});
    assert_eq!(call(&sim, "POST", "/fault", &fault).await.0, 200);
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 200);
    assert_eq!(call(&sim, "DELETE", "/fault", &none).await.0, 200);
    assert_eq!(client::get(&sim, RECORDS).await.unwrap().status, 200);

    let (_, ledger) = call(&sim, "GET", "/ledger?last=2", &none).await;
    assert_eq!(ledger["totals"]["requests"], 4);
    assert_eq!(ledger["executions"].as_array().unwrap().len(), 2);
    assert_eq!(ledger["executions"][0]["fault"], "slow_head");
    assert_eq!(ledger["sources"]["127.0.0.1"], 4);
    let (_, accounting) = call(&sim, "GET", &format!("/accounting?domain={HOST}"), &none).await;
    assert_eq!(
        (accounting["peak"].clone(), accounting["limit"].clone()),
        (json!(1), json!(7))
    );
    assert_eq!(accounting["requests_today"]["1"], 2);
    assert_eq!(
        call(&sim, "GET", "/accounting?domain=no.cybozu.com", &none)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn an_authority_is_made_once_and_its_key_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let made = Authority::load_or_create(folder.path()).unwrap();
    let loaded = Authority::load_or_create(folder.path()).unwrap();
    assert_eq!(made.pem(), loaded.pem());
    let key = std::fs::metadata(folder.path().join("ca.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let options = Options {
        ca: Some(loaded),
        ..Options::default()
    };
    let sim = Sim::start(options).await.unwrap();
    assert_eq!(sim.ca_pem(), made.pem());
    for name in [
        "acme.cybozu.com",
        "acme.s.cybozu.com",
        "a-b.kintone.com",
        "x1y.cybozu.cn",
    ] {
        client::connect(&sim, name).await.unwrap();
    }
}
