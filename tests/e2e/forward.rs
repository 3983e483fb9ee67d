//! Calls in absolute form.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::support::caller::{exchange_raw, read, record};
use crate::support::{ACME, API_TOKEN, Plan, basic, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

#[tokio::test]
async fn a_call_leaves_from_a_published_address_and_its_answer_comes_back_unchanged() {
    house(Plan::default(), async |house| {
        let answer = house.caller().get(RECORDS).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.json()["records"].is_array());
        assert_eq!(answer.header("x-concurrencylimit-limit"), "100");
        assert_eq!(answer.header("x-concurrencylimit-running"), "1");
        assert_eq!(answer.header("kintone-egress-queued-ms"), "0");
        assert!(
            ["18.177.83.94", "35.73.236.241"].contains(&answer.header("kintone-egress-address"))
        );
        assert!(answer.header("via").ends_with("1.1 kintone-egress"));
        let execution = &house.sim.ledger().executions[0];
        assert_eq!(execution.host, ACME);
        assert_eq!(execution.path, "/k/v1/records.json");
        assert_eq!(
            execution.header("via").collect::<Vec<_>>(),
            ["1.1 kintone-egress"]
        );
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["account"], ACME);
        assert_eq!(line["mode"], "forward");
        assert_eq!(line["path"], "/k/v1/records.json");
        assert_eq!(line["outcome"], "ok");
        assert_eq!(line["status"], 200);
        assert_eq!(line["kintone_running"], 1);
        assert_eq!(line["bytes_out"].as_u64(), Some(answer.body.len() as u64));
    })
    .await;
}

#[tokio::test]
async fn http_targets_reach_kintone_by_tls_too() {
    house(Plan::default(), async |house| {
        for url in [
            "http://acme.cybozu.com/k/v1/records.json?app=1",
            "http://ACME.cybozu.com:80/k/v1/records.json?app=1",
            "http://acme.cybozu.com:443/k/v1/records.json?app=1",
        ] {
            assert_eq!(
                house.caller().get(url).await.status,
                StatusCode::OK,
                "{url}"
            );
        }
        assert!(
            house
                .sim
                .ledger()
                .sockets
                .iter()
                .all(|socket| socket.tls_ok)
        );
    })
    .await;
}

#[tokio::test]
async fn both_addresses_take_turns_and_connections_are_reused() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let mut sender = caller.connect().await;
        let mut addresses = BTreeSet::new();
        for _ in 0..20 {
            let request = caller.request(Method::GET, RECORDS, "");
            let answer = read(sender.send_request(request).await.unwrap())
                .await
                .unwrap();
            addresses.insert(answer.header("kintone-egress-address").to_owned());
        }
        assert_eq!(addresses.len(), 2);
        assert_eq!(
            house.sim.ledger().sockets.len(),
            2,
            "one connection an address"
        );
    })
    .await;
}

#[tokio::test]
async fn headers_keep_their_order_and_case_and_those_of_the_hop_stay_here() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let mut request = caller.request(Method::GET, RECORDS, "");
        let headers = request.headers_mut();
        headers.append("x-cybozu-api-token", "second".parse().unwrap());
        headers.insert("connection", "x-private".parse().unwrap());
        headers.insert("x-private", "1".parse().unwrap());
        headers.insert("kintone-egress-tenant", "company-1".parse().unwrap());
        headers.insert(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
                .parse()
                .unwrap(),
        );
        let answer = caller.send(request).await.unwrap();
        let ledger = house.sim.ledger();
        let execution = &ledger.executions[0];
        assert_eq!(
            execution.header("x-cybozu-api-token").collect::<Vec<_>>(),
            [API_TOKEN, "second"]
        );
        for gone in [
            "x-private",
            "connection",
            "traceparent",
            "proxy-authorization",
        ] {
            assert_eq!(execution.header(gone).count(), 0, "{gone}");
        }
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["tenant"], "company-1");
        assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        let raw = format!(
            "GET {RECORDS} HTTP/1.1\r\nHOST: acme.cybozu.com\r\nproxy-Authorization: {}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\nX-MiXeD: 1\r\nConnection: close\r\n\r\n",
            basic("events")
        );
        let text = exchange_raw(house.proxy, raw.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let ledger = house.sim.ledger();
        let names: Vec<_> = ledger.executions[1]
            .headers
            .iter()
            .map(|(name, _)| &**name)
            .collect();
        assert!(names.contains(&"X-MiXeD"), "{names:?}");
    })
    .await;
}

#[tokio::test]
async fn bodies_go_along_on_every_method() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let get = caller.request(
            Method::GET,
            "https://acme.cybozu.com/k/v1/records.json",
            r#"{"app":1}"#,
        );
        assert_eq!(caller.send(get).await.unwrap().status, StatusCode::OK);
        let answer = caller.post_record(ACME, "bodies").await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let delete = caller.request(
            Method::DELETE,
            "https://acme.cybozu.com/k/v1/records.json",
            format!(r#"{{"app":1,"ids":[{id}]}}"#),
        );
        assert_eq!(caller.send(delete).await.unwrap().status, StatusCode::OK);
        let chunked = format!(
            "GET https://acme.cybozu.com/k/v1/records.json HTTP/1.1\r\nHost: x\r\n\
             Proxy-Authorization: {}\r\nX-Cybozu-API-Token: {API_TOKEN}\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
             Connection: close\r\n\r\n9\r\n{{\"app\":1}}\r\n0\r\n\r\n",
            basic("events")
        );
        let text = exchange_raw(house.proxy, chunked.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    })
    .await;
}

#[tokio::test]
async fn http_1_0_callers_and_head_are_served() {
    house(Plan::default(), async |house| {
        let old = format!(
            "GET {RECORDS} HTTP/1.0\r\nProxy-Authorization: {}\r\n\
             X-Cybozu-API-Token: {API_TOKEN}\r\n\r\n",
            basic("events")
        );
        let text = exchange_raw(house.proxy, old.as_bytes()).await;
        assert!(text.starts_with("HTTP/1.0 200 "), "{text}");
        assert!(!text.contains("chunked"), "{text}");
        assert_eq!(
            house.sim.ledger().executions[0].header("via").next(),
            Some("1.0 kintone-egress")
        );
        let caller = house.caller();
        let head = caller.request(Method::HEAD, RECORDS, "");
        let answer = caller.send(head).await.unwrap();
        assert!(answer.body.is_empty());
    })
    .await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    house(Plan::default(), async |house| {
        let size = 32_u64 << 20;
        let url = format!("https://acme.cybozu.com/k/v1/file.json?fileKey=synthetic-{size}");
        let answer = house.caller().get(&url).await;
        assert_eq!(answer.body.len() as u64, size);
        let hash: String = Sha256::digest(&answer.body)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(hash, kintone_sim::Sim::synthetic_sha256(size));
        let file = vec![7_u8; 16 << 20];
        let mut body = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n"
            .to_vec();
        body.extend_from_slice(&file);
        body.extend_from_slice(b"\r\n--b--\r\n");
        let caller = house.caller();
        let mut request =
            caller.request(Method::POST, "https://acme.cybozu.com/k/v1/file.json", body);
        let kind = "multipart/form-data; boundary=b".parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        let answer = caller.send(request).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let hash: String = Sha256::digest(&file)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let ledger = house.sim.ledger();
        assert!(
            ledger
                .executions
                .iter()
                .any(|e| e.file_sha256.as_ref() == Some(&hash))
        );
        let line = house.output.line_of(answer.id()).await;
        assert!(line["bytes_in"].as_u64().unwrap() > 16 << 20);
    })
    .await;
}

#[tokio::test]
async fn failures_of_kintone_are_explained_and_pass_unchanged() {
    house(Plan::default(), async |house| {
        let caller = house.caller();
        let mut request = caller.request(Method::GET, RECORDS, "");
        request
            .headers_mut()
            .insert("x-cybozu-api-token", "wrong".parse().unwrap());
        let answer = caller.send(request).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.json()["code"], "GAIA_IA02");
        assert_eq!(answer.header("kintone-egress-cause"), "authentication");
        assert_eq!(answer.header("kintone-egress-actor"), "caller");
        assert!(answer.header("kintone-egress-hint-ja").contains("%E3"));
        let line = house.output.line_of(answer.id()).await;
        assert_eq!(line["kintone_code"], "GAIA_IA02");
        assert_eq!(line["outcome"], "kintone_error");
        assert_eq!(line["kintone_id"], answer.json()["id"]);
        house.sim.update(ACME, |tenant| {
            tenant.allow = Some(vec!["192.0.2.1".parse().unwrap()]);
        });
        let answer = caller.get(RECORDS).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.header("kintone-egress-cause"), "ip-not-allowlisted");
        assert_eq!(answer.header("kintone-egress-actor"), "customer");
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_never_completed() {
    use kintone_sim::{Fault, FaultKind};
    house(Plan::default(), async |house| {
        let caller = house.caller();
        house.sim.fault(Fault::once(FaultKind::HalfBodyThenReset));
        let request = caller.request(Method::GET, RECORDS, "");
        let broken = caller.send(request).await;
        assert!(
            broken.is_err(),
            "a cut answer arrived as a whole one: {broken:?}"
        );
        house
            .until("the cut is logged", |house| {
                house
                    .output
                    .lines()
                    .iter()
                    .any(|line| line["detail"] == "response_cut")
            })
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_leaves_keeps_its_place_at_kintone_until_the_end_is_seen() {
    let mut plan = Plan::default();
    plan.tenant.latency.base_ms = 300;
    house(plan, async |house| {
        let caller = house.caller();
        let request = caller.request(Method::GET, RECORDS, "");
        let mut sender = caller.connect().await;
        let left =
            tokio::time::timeout(Duration::from_millis(100), sender.send_request(request)).await;
        assert!(left.is_err(), "the call takes longer");
        drop(sender);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(house.quotas.balance().held, 1, "kintone still works on it");
        house
            .until("the end is seen", |house| house.quotas.balance().held == 0)
            .await;
        house
            .until("it is logged", |house| {
                house
                    .output
                    .lines()
                    .iter()
                    .any(|line| line["outcome"] == "caller_gone" && line["status"] == 499)
            })
            .await;
        assert!(!house.sim.ledger().executions[0].client_left);
    })
    .await;
}

#[tokio::test]
async fn a_post_is_never_repeated_and_a_read_once() {
    use kintone_sim::{Fault, FaultKind};
    house(Plan::default(), async |house| {
        let caller = house.caller();
        house.sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
        let answer = caller.post_record(ACME, "once").await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
        assert_eq!(answer.code(), "GW_UPSTREAM_RESET");
        assert_eq!(house.sim.ledger().executions.len(), 1);
        house.sim.fault(Fault::once(FaultKind::ResetAfterExecuting));
        assert_eq!(caller.get(RECORDS).await.status, StatusCode::OK);
        assert_eq!(house.sim.ledger().executions.len(), 3);
        let _ = record("unused");
    })
    .await;
}
