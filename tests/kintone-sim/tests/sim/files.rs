//! Files up and down.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use kintone_sim::{Sim, TenantSettings};
use sha2::{Digest, Sha256};

use crate::client::{self, Client, HOST};

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn upload(content: &[u8]) -> (Request<Full<Bytes>>, String) {
    let mut body = b"--xYz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\nContent-Type: image/png\r\n\r\n".to_vec();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--xYz--\r\n");
    let sent = hash(&body);
    let request = Request::post("/k/v1/file.json")
        .header("Host", HOST)
        .header("X-Cybozu-API-Token", "demo-token")
        .header("Content-Type", "multipart/form-data; boundary=xYz")
        .body(Full::from(body))
        .unwrap();
    (request, sent)
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_sent() {
    let sim = client::start(TenantSettings::default()).await;
    let mut client = Client::new(&sim).await;
    // Line ends and almost-delimiters in the content belong to it.
    let mut content = b"\r\n--xY\r\n--xY z".to_vec();
    content.extend((0..300_000_u32).map(|n| (n % 251) as u8));
    for content in [content.as_slice(), b""] {
        let (request, sent) = upload(content);
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status, 200);
        let key = answer.json()["fileKey"].as_str().unwrap().to_owned();
        let last = sim.ledger().executions.pop().unwrap();
        assert_eq!(last.body_sha256, sent);
        assert_eq!(last.file_sha256, Some(hash(content)));

        let title = format!("with file of {}", content.len());
        let body = serde_json::json!({"app": 1, "record": {"title": {"value": title}, "files": {"value": [{"fileKey": key}]}}});
        let request = client::request("POST", "/k/v1/record.json", &body.to_string());
        let id = client.send(request).await.unwrap().json()["id"].clone();
        let target = format!("/k/v1/record.json?app=1&id={}", id.as_str().unwrap());
        let record = client.get(&target).await.unwrap().json();
        let file = &record["record"]["files"]["value"][0];
        assert_eq!(file["size"], content.len().to_string());
        let shown = file["fileKey"].as_str().unwrap();
        assert_ne!(shown, key);
        let target = format!("/k/v1/file.json?fileKey={shown}");
        let answer = client.get(&target).await.unwrap();
        assert_eq!(answer.header("content-type"), "image/png");
        assert_eq!(hash(&answer.body), hash(content));
    }
}

#[tokio::test]
async fn synthetic_files_have_the_bytes_their_hash_says() {
    let sim = client::start(TenantSettings::default()).await;
    for length in [0, 1, 65_521, 3_000_000_u64] {
        let target = format!("/k/v1/file.json?fileKey=synthetic-{length}");
        let answer = client::get(&sim, &target).await.unwrap();
        assert_eq!(answer.header("content-length"), length.to_string());
        assert_eq!(hash(&answer.body), Sim::synthetic_sha256(length));
    }
    let target = "/k/v1/file.json?fileKey=nothing";
    let answer = client::get(&sim, target).await.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["code"], "GAIA_BL01");
}

#[tokio::test]
async fn a_file_too_large_to_keep_is_still_hashed() {
    let sim = client::start(TenantSettings::default()).await;
    let content = vec![7; 9 * 1024 * 1024];
    let (request, _) = upload(&content);
    let mut client = Client::new(&sim).await;
    let answer = client.send(request).await.unwrap();
    let last = sim.ledger().executions.pop().unwrap();
    assert_eq!(last.file_sha256, Some(hash(&content)));
    let key = answer.json()["fileKey"].as_str().unwrap().to_owned();
    let target = format!("/k/v1/file.json?fileKey={key}");
    assert_eq!(client.get(&target).await.unwrap().status, 404);
}
