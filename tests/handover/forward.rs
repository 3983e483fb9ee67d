//! Calls in absolute form.

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::hosts::{GIVER, LINE, Site, Wish};
use crate::support::caller::record;
use crate::support::{ACME, API_TOKEN};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_judged_admitted_and_told_by_the_host_that_owns_the_address() {
    let site = Site::new(Wish::default()).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    let url = format!("https://{ACME}/k/v1/record.json");
    let mut request = caller.request(Method::POST, &url, record("handed over"));
    let headers = request.headers_mut();
    headers.insert("kintone-egress-tenant", "company-1".parse().unwrap());
    headers.insert("kintone-egress-purpose", "incoming".parse().unwrap());
    let answer = caller.send(request).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("kintone-egress-address"), LINE);
    assert_eq!(answer.header("via"), "1.1 kintone-egress");
    let read = caller
        .get(&format!("https://{ACME}/k/v1/record.json?app=1&id=1"))
        .await;
    assert_eq!(read.status, StatusCode::OK);
    owner.rest().await;

    let lines = owner.lines_when(2).await;
    let line = lines.iter().find(|line| line["id"] == answer.id()).unwrap();
    assert_eq!(line["handed_by"], GIVER);
    assert_eq!(line["caller"], "events");
    assert_eq!(line["credential"], "1");
    assert_eq!(line["tenant"], "company-1");
    assert_eq!(line["purpose"], "incoming");
    assert_eq!(line["mode"], "forward");
    assert_eq!(line["address"], LINE);
    assert_eq!(giver.lines(), [""; 0], "a call is logged once");

    assert_eq!(giver.handed("answered").await, 2.0);
    assert_eq!(owner.metric("kintone_egress_requests_total").await, 2.0);
    assert_eq!(giver.metric("kintone_egress_requests_total").await, 0.0);
    assert_eq!(
        owner.metric("kintone_egress_permits_acquired_total").await,
        2.0
    );
    assert_eq!(
        giver.metric("kintone_egress_permits_acquired_total").await,
        0.0
    );
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_waits_for_the_100_that_comes_back_over_both_hosts() {
    let site = Site::new(Wish::default()).await;
    let (giver, owner) = site.start_both().await;
    let authorization = giver.caller().authorization().unwrap();
    let authorization = authorization.to_str().unwrap();
    let body = record("after the 100");
    let head = format!(
        "POST https://{ACME}/k/v1/record.json HTTP/1.1\r\nHost: {ACME}\r\n\
         Proxy-Authorization: {authorization}\r\nX-Cybozu-API-Token: {API_TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut raw = TcpStream::connect(giver.proxy).await.unwrap();
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut heard = [0; 256];
    let count = raw.read(&mut heard).await.unwrap();
    let interim = String::from_utf8_lossy(&heard[..count]);
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    raw.write_all(body.as_bytes()).await.unwrap();
    let count = raw.read(&mut heard).await.unwrap();
    let answer = String::from_utf8_lossy(&heard[..count]);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    owner.rest().await;
    assert_eq!(giver.handed("answered").await, 1.0);
    drop(raw);
    giver.leave().await;
    owner.leave().await;
    site.check();
}
