//! The call that finds out that the account does not take this host's address: kintone's edge has
//! refused it, and it is handed over all the same.

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::hosts::{BIND, GIVER, Host, LINE, REFUSED, REFUSED_BIND, Site, Wish};
use crate::support::caller::{Answer, Caller, fetch_plain, read, record};
use crate::support::inspect::PrivateCa;
use crate::support::{ACME, API_TOKEN};

/// One of whose account nothing is known, and nothing is asked.
fn nothing_known() -> Wish {
    Wish {
        account: "probe = false\n".to_owned(),
        ..Wish::default()
    }
}

fn url() -> String {
    format!("https://{ACME}/k/v1/record.json")
}

/// Requests that kintone has seen: from where, and what came of each.
fn seen(site: &Site) -> Vec<(String, u16, bool)> {
    let ledger = site.sim.ledger();
    let calls = ledger.executions.iter();
    calls
        .map(|call| (call.peer.ip().to_string(), call.status, call.executed))
        .collect()
}

/// Calls that this host has counted for the account's budgets of today.
async fn counted(host: &Host) -> u64 {
    let (_, page) = fetch_plain(host.admin, &format!("/api/v1/accounts/{ACME}")).await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let apps = page["apps_today"].as_array().cloned().unwrap_or_default();
    apps.iter().filter_map(|app| app["requests"].as_u64()).sum()
}

/// It was refused at the giver's address and served by the owner's: once, counted once, told once.
async fn check_found(site: &Site, (giver, owner): (&Host, &Host), answer: &Answer) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("kintone-egress-address"), LINE);
    assert_eq!(answer.header("via"), "1.1 kintone-egress");
    assert_eq!(answer.header("kintone-egress-cause"), "");
    let refused = (REFUSED_BIND.to_owned(), 403, false);
    let served = (BIND.to_owned(), 200, true);
    assert_eq!(seen(site), [refused, served]);
    giver.rest().await;
    owner.rest().await;
    let lines = owner.lines_when(1).await;
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["id"], answer.id());
    assert_eq!(lines[0]["handed_by"], GIVER);
    assert_eq!(giver.lines(), [""; 0], "a call is logged once");
    assert_eq!(giver.metric("kintone_egress_requests_total").await, 0.0);
    assert_eq!(giver.handed("answered").await, 1.0);
    let retried = "kintone_egress_retries_total{reason=\"address_refused\"}";
    assert_eq!(giver.metric(retried).await, 1.0);
    for host in [giver, owner] {
        let acquired = "kintone_egress_permits_acquired_total";
        assert_eq!(host.metric(acquired).await, 1.0);
    }
    assert_eq!((counted(giver).await, counted(owner).await), (0, 1));
}

async fn leave(site: &Site, giver: Host, owner: Host) {
    giver.leave().await;
    owner.leave().await;
    site.check_from(&[BIND, REFUSED_BIND]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_read_is_answered_by_the_owner() {
    let site = Site::new(nothing_known()).await;
    let (giver, owner) = site.start_both().await;
    let records = format!("https://{ACME}/k/v1/records.json?app=1");
    let answer = giver.caller().get(&records).await;
    check_found(&site, (&giver, &owner), &answer).await;
    leave(&site, giver, owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_write_is_executed_once_by_the_owner() {
    let site = Site::new(nothing_known()).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    let mut request = caller.request(Method::POST, &url(), record("found"));
    let headers = request.headers_mut();
    headers.insert("kintone-egress-tenant", "company-1".parse().unwrap());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent", trace.parse().unwrap());
    let answer = caller.send(request).await.unwrap();
    check_found(&site, (&giver, &owner), &answer).await;
    let line = &owner.lines()[0];
    assert_eq!(line["tenant"], "company-1");
    assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    let ledger = site.sim.ledger();
    let [refused, served] = &ledger.executions[..] else {
        panic!("two: {ledger:?}");
    };
    assert_eq!(refused.headers.len(), served.headers.len());
    assert_eq!(served.header("via").count(), 1);
    assert_eq!(served.body_length, record("found").len() as u64);
    leave(&site, giver, owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_call_of_an_inspected_connection_is_answered_by_the_owner() {
    for version in ["h1", "h2"] {
        let ca = PrivateCa::new();
        let wish = Wish {
            tables: ca.table(),
            ..nothing_known()
        };
        let site = Site::new(wish).await;
        let (giver, owner) = site.start_both().await;
        let caller = giver.caller().trusting(&ca.pem);
        let post = Caller::inner(Method::POST, ACME, "/k/v1/record.json", record(version));
        let answer = match version {
            "h1" => {
                let mut h1 = caller.h1(ACME).await.unwrap();
                read(h1.send_request(post).await.unwrap()).await.unwrap()
            }
            _ => {
                let mut h2 = caller.h2(ACME).await.unwrap();
                read(h2.send_request(post).await.unwrap()).await.unwrap()
            }
        };
        check_found(&site, (&giver, &owner), &answer).await;
        assert_eq!(owner.lines()[0]["mode"], "inspect", "{version}");
        leave(&site, giver, owner).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_waits_for_its_100_waits_for_the_owners() {
    let site = Site::new(nothing_known()).await;
    let (giver, owner) = site.start_both().await;
    let authorization = giver.caller().authorization().unwrap();
    let authorization = authorization.to_str().unwrap();
    let body = record("after the 100");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {ACME}\r\n\
         Proxy-Authorization: {authorization}\r\nX-Cybozu-API-Token: {API_TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        url(),
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
    let refused = (REFUSED_BIND.to_owned(), 403, false);
    assert_eq!(seen(&site), [refused, (BIND.to_owned(), 200, true)]);
    drop(raw);
    leave(&site, giver, owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_chunks_goes_to_the_owner_in_chunks() {
    let site = Site::new(nothing_known()).await;
    let (giver, owner) = site.start_both().await;
    let authorization = giver.caller().authorization().unwrap();
    let authorization = authorization.to_str().unwrap();
    let body = record("in two chunks");
    let (first, rest) = body.split_at(20);
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {ACME}\r\n\
         Proxy-Authorization: {authorization}\r\nX-Cybozu-API-Token: {API_TOKEN}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        url()
    );
    let mut raw = TcpStream::connect(giver.proxy).await.unwrap();
    raw.write_all(head.as_bytes()).await.unwrap();
    for chunk in [first, rest, ""] {
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len());
        raw.write_all(chunk.as_bytes()).await.unwrap();
    }
    let mut heard = [0; 256];
    let count = raw.read(&mut heard).await.unwrap();
    let answer = String::from_utf8_lossy(&heard[..count]);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let ledger = site.sim.ledger();
    let served: Vec<_> = ledger.executions.iter().filter(|it| it.executed).collect();
    assert_eq!(served.len(), 1);
    assert_eq!(served[0].body_length, body.len() as u64);
    let framing: Vec<_> = served[0].header("transfer-encoding").collect();
    assert_eq!(framing, ["chunked"]);
    drop(raw);
    leave(&site, giver, owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_to_be_kept_is_refused_and_the_next_call_is_handed_over() {
    let site = Site::new(Wish {
        upstream: "replay = \"1KiB\"\n".to_owned(),
        ..nothing_known()
    })
    .await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    let long = record(&"x".repeat(2048));
    let request = caller.request(Method::POST, &url(), long.clone());
    let refused = caller.send(request).await.unwrap();
    check_refused(&refused, REFUSED);
    let lines = giver.lines_when(1).await;
    assert_eq!(lines[0]["cause"], "ip-not-allowlisted");
    let request = caller.request(Method::POST, &url(), long);
    let next = caller.send(request).await.unwrap();
    assert_eq!(next.status, StatusCode::OK, "{next:?}");
    assert_eq!(next.header("kintone-egress-address"), LINE);
    let refused = (REFUSED_BIND.to_owned(), 403, false);
    assert_eq!(seen(&site), [refused, (BIND.to_owned(), 200, true)]);
    leave(&site, giver, owner).await;
}

/// kintone's own refusal at that address, and what it means.
fn check_refused(answer: &Answer, address: &str) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(answer.header("kintone-egress-cause"), "ip-not-allowlisted");
    assert_eq!(answer.header("kintone-egress-address"), address);
    let page = String::from_utf8_lossy(&answer.body);
    assert!(page.contains("Access is restricted."), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_owner_is_away_kintones_refusal_is_the_answer() {
    let site = Site::new(nothing_known()).await;
    let giver = site.start(GIVER).await;
    let mut line = giver.caller().connect().await;
    let post = giver.caller().request(Method::POST, &url(), record("away"));
    let answer = read(line.send_request(post).await.unwrap()).await.unwrap();
    check_refused(&answer, REFUSED);
    assert_eq!(giver.handed("unreachable").await, 1.0);
    let lines = giver.lines_when(1).await;
    assert_eq!(lines[0]["cause"], "ip-not-allowlisted");
    assert_eq!(lines[0]["status"], 403);
    assert_eq!(lines[0]["address"], REFUSED);
    giver.rest().await;
    assert_eq!(counted(&giver).await, 0);
    line.ready().await.expect("the caller's connection is kept");
    giver.leave().await;
    site.check_from(&[REFUSED_BIND]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_the_owners_address_is_refused_for_too_is_handed_no_further() {
    let site = Site::new(nothing_known()).await;
    let nobody = kintone_sim::TenantSettings {
        allow: Some(Vec::new()),
        ..kintone_sim::TenantSettings::default()
    };
    site.sim.tenant(ACME, nobody);
    let (giver, owner) = site.start_both().await;
    let answer = giver.caller().post_record(ACME, "nowhere").await.unwrap();
    check_refused(&answer, LINE);
    let refused_at = |bind: &str| (bind.to_owned(), 403, false);
    assert_eq!(seen(&site), [refused_at(REFUSED_BIND), refused_at(BIND)]);
    giver.rest().await;
    owner.rest().await;
    leave(&site, giver, owner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_dies_with_it_leaves_its_outcome_unknown() {
    let mut wish = nothing_known();
    wish.tenant.latency.base_ms = 3000;
    let site = Site::new(wish).await;
    let (giver, mut owner) = site.start_both().await;
    let caller = giver.caller();
    let calling = tokio::spawn(async move { caller.post_record(ACME, "lost").await.unwrap() });
    owner.until("kintone_egress_permits_held", 1.0).await;
    let held = giver.metric("kintone_egress_permits_held").await;
    assert_eq!(held, 0.0, "its permit was given back first");
    owner.kill();
    let answer = calling.await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(answer.code(), "GW_UPSTREAM_RESET");
    let lines = giver.lines_when(1).await;
    assert_eq!(lines[0]["detail"], "peer_lost");
    assert!(lines[0]["cause"].is_null(), "{lines:?}");
    assert_eq!(giver.handed("lost").await, 1.0);
    giver.rest().await;
    giver.leave().await;
    site.check_from(&[BIND, REFUSED_BIND]);
}

/// What the configuration says counts: a call that is to leave from here and nowhere else is not
/// handed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_the_configuration_does_not_name_is_not_tried() {
    let site = Site::new(Wish {
        account: format!("accepts = [\"{REFUSED}\"]\nprobe = false\n"),
        ..Wish::default()
    })
    .await;
    let (giver, owner) = site.start_both().await;
    for title in ["first", "second"] {
        let answer = giver.caller().post_record(ACME, title).await.unwrap();
        check_refused(&answer, REFUSED);
    }
    assert_eq!(owner.metric("kintone_egress_requests_total").await, 0.0);
    leave(&site, giver, owner).await;
}

/// An OPTIONS about the server stays one, whichever way it comes and whichever host carries it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_options_about_the_server_is_one_at_the_owner_too() {
    let ca = PrivateCa::new();
    let site = Site::new(Wish {
        tables: ca.table(),
        ..Wish::default()
    })
    .await;
    let (giver, owner) = site.start_both().await;
    let authorization = giver.caller().authorization().unwrap();
    let authorization = authorization.to_str().unwrap();
    for target in [format!("https://{ACME}"), format!("https://{ACME}/x")] {
        let head = format!(
            "OPTIONS {target} HTTP/1.1\r\nHost: {ACME}\r\nConnection: close\r\n\
             Proxy-Authorization: {authorization}\r\n\r\n"
        );
        let mut raw = TcpStream::connect(giver.proxy).await.unwrap();
        raw.write_all(head.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        raw.read_to_end(&mut heard).await.unwrap();
    }
    let caller = giver.caller().trusting(&ca.pem);
    let mut h1 = caller.h1(ACME).await.unwrap();
    let options = || Caller::inner(Method::OPTIONS, ACME, "*", Bytes::new());
    read(h1.send_request(options()).await.unwrap())
        .await
        .unwrap();
    let mut h2 = caller.h2(ACME).await.unwrap();
    read(h2.send_request(options()).await.unwrap())
        .await
        .unwrap();
    drop((h1, h2));
    let ledger = site.sim.ledger();
    let calls = ledger.executions.iter();
    let seen: Vec<_> = calls.map(|call| (&*call.method, &*call.path)).collect();
    let (about_server, about_path) = (("OPTIONS", "*"), ("OPTIONS", "/x"));
    assert_eq!(seen, [about_server, about_path, about_server, about_server]);
    assert_eq!(giver.handed("answered").await, 4.0);
    giver.leave().await;
    owner.leave().await;
    site.check();
}
