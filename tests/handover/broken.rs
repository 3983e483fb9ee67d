//! What goes wrong between two hosts: what a caller is told, and that nothing goes twice or is lost.

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use kintone_egress::tls::{PeerAuthority, PeerFiles};
use kintone_sim::TenantSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::hosts::{GIVER, Host, LINE, OWNER, Site, Wish};
use crate::support::caller::{Answer, Caller, read, record};
use crate::support::{ACME, API_TOKEN};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn url() -> String {
    format!("https://{ACME}/k/v1/record.json")
}

/// 503 that names the line: nothing was sent.
fn check_unavailable(answer: &Answer, detail: &str) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.code(), "GW_EGRESS_UNAVAILABLE");
    assert_eq!(answer.reason, "GW_EGRESS_UNAVAILABLE");
    assert!(!answer.header("retry-after").is_empty());
    let body = answer.json();
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(&format!("{LINE}/32")), "{message}");
    assert!(message.contains(detail), "{message}");
    assert_eq!(body["actor"], "operator");
}

/// A kintone whose work takes so long.
fn slow(base_ms: u64) -> Wish {
    let mut tenant = TenantSettings::default();
    tenant.latency.base_ms = base_ms;
    Wish {
        tenant,
        ..Wish::default()
    }
}

async fn post(host: &Host, title: &str) -> Answer {
    host.caller().post_record(ACME, title).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_away_is_told_by_name_of_its_line_and_found_again() {
    let site = Site::new(Wish::default()).await;
    let giver = site.start(GIVER).await;
    check_unavailable(&post(&giver, "nobody there").await, "peer_unreachable");
    let tunnel = giver.caller().open_tunnel(ACME).await.unwrap_err();
    check_unavailable(&tunnel, "peer_unreachable");
    // Refused here, so told here; and the pause spares attempts.
    let lines = giver.lines_when(2).await;
    assert_eq!(lines[0]["detail"], "peer_unreachable");
    assert_eq!(giver.handed("unreachable").await, 2.0);
    let owner = site.start(OWNER).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answer = post(&giver, "found again").await;
        if answer.status == StatusCode::OK {
            break;
        }
        check_unavailable(&answer, "peer_unreachable");
        assert!(
            tokio::time::Instant::now() < deadline,
            "it is not found again"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_dies_with_a_call_leaves_its_outcome_unknown() {
    let site = Site::new(slow(3000)).await;
    let (giver, mut owner) = site.start_both().await;
    let caller = giver.caller();
    let calling = tokio::spawn(async move { caller.post_record(ACME, "lost").await.unwrap() });
    owner.until("kintone_egress_permits_held", 1.0).await;
    owner.kill();
    let answer = calling.await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{answer:?}");
    assert_eq!(answer.code(), "GW_UPSTREAM_RESET");
    assert_eq!(answer.json()["actor"], "operator");
    let lines = giver.lines_when(1).await;
    assert_eq!(lines[0]["detail"], "peer_lost");
    assert_eq!(giver.handed("lost").await, 1.0);
    assert_eq!(
        giver.metric("kintone_egress_permits_acquired_total").await,
        0.0
    );
    check_unavailable(&post(&giver, "after").await, "peer_unreachable");
    giver.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_stopped_with_a_call_is_not_waited_for_for_ever() {
    let mut wish = slow(1000);
    wish.upstream = "connect_timeout = \"500ms\"\nresponse_timeout = \"1500ms\"\n".to_owned();
    wish.quota += "max_wait = \"100ms\"\n";
    let site = Site::new(wish).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    let calling = tokio::spawn(async move { caller.post_record(ACME, "stopped").await.unwrap() });
    owner.until("kintone_egress_permits_held", 1.0).await;
    owner.signal("STOP");
    let answer = calling.await.unwrap();
    owner.signal("CONT");
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT, "{answer:?}");
    assert_eq!(answer.code(), "GW_UPSTREAM_TIMEOUT");
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .contains("peer_lost")
    );
    owner.rest().await;
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_dies_with_a_tunnel_breaks_it_for_the_caller() {
    let site = Site::new(Wish::default()).await;
    let (giver, mut owner) = site.start_both().await;
    let caller = giver.caller();
    let raw = caller.open_tunnel(ACME).await.unwrap();
    let mut tls = caller.tls(raw, ACME).await.unwrap();
    owner.kill();
    let read = tls.read(&mut [0; 16]).await;
    assert!(read.is_err(), "a break, and no end: {read:?}");
    giver.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_leaves_is_gone_for_the_owner_too() {
    let site = Site::new(slow(1500)).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    let mut line = caller.connect().await;
    let request = caller.request(Method::POST, &url(), record("left"));
    let sending = line.send_request(request);
    let left = tokio::time::timeout(Duration::from_millis(700), sending).await;
    assert!(left.is_err(), "it should still be at work");
    assert_eq!(owner.metric("kintone_egress_permits_held").await, 1.0);
    drop(line);
    let lines = owner.lines_when(1).await;
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["status"]),
        (&"caller_gone".into(), &499.into())
    );
    owner.rest().await;
    giver
        .until(
            "kintone_egress_handed_total{peer=\"gw-b\",result=\"caller_gone\"}",
            1.0,
        )
        .await;
    assert_eq!(giver.lines(), [""; 0], "told once");
    giver.leave().await;
    owner.leave().await;
    site.check();
}

/// A certificate that the owner must not take, and one that the giver must not.
fn strangers(site: &Site) -> Vec<(&'static str, PeerFiles)> {
    let now = Timestamp::now();
    let past = now
        .checked_sub(jiff::SignedDuration::from_hours(10 * 24))
        .unwrap();
    let other = PeerAuthority::create(now, 30 * DAY).unwrap();
    vec![
        (
            "expired",
            site.authority.sign(GIVER, past, 5 * DAY).unwrap(),
        ),
        (
            "another authority's",
            other.sign(GIVER, now, 5 * DAY).unwrap(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_a_wrong_certificate_hands_nothing_over() {
    let site = Site::new(Wish::default()).await;
    let owner = site.start(OWNER).await;
    for (what, shown) in strangers(&site) {
        let giver = site.start_with(GIVER, &shown).await;
        let answer = post(&giver, what).await;
        check_unavailable(&answer, "peer_unreachable");
        giver.leave().await;
    }
    assert_eq!(owner.metric("kintone_egress_requests_total").await, 0.0);
    assert!(
        owner
            .said()
            .contains("refused a connection to the listener for other hosts")
    );
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_handed_to_a_host_with_a_wrong_certificate() {
    let site = Site::new(Wish::default()).await;
    let giver = site.start(GIVER).await;
    let other = PeerAuthority::create(Timestamp::now(), 30 * DAY).unwrap();
    let shown = other.sign(OWNER, Timestamp::now(), 5 * DAY).unwrap();
    let owner = site.start_with(OWNER, &shown).await;
    check_unavailable(&post(&giver, "not to this one").await, "peer_tls");
    assert_eq!(owner.metric("kintone_egress_requests_total").await, 0.0);
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_cannot_reach_the_listener_for_other_hosts() {
    let site = Site::new(Wish::default()).await;
    let (giver, owner) = site.start_both().await;
    let at = site.listener(OWNER);
    // Without TLS, and with TLS but without a certificate.
    let mut plain = TcpStream::connect(at).await.unwrap();
    let head = format!("GET {} HTTP/1.1\r\nhost: {ACME}\r\n\r\n", url());
    plain.write_all(head.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let _ = plain.read_to_end(&mut heard).await;
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    let caller = Caller::new(at, &site.authority.certificate, "events", API_TOKEN);
    let bare = TcpStream::connect(at).await.unwrap();
    if let Ok(mut tls) = caller.tls(bare, OWNER).await {
        let _ = tls.write_all(head.as_bytes()).await;
        let refused = tls.read(&mut [0; 16]).await.unwrap_err();
        assert!(
            refused.to_string().contains("CertificateRequired"),
            "{refused}"
        );
    }
    assert_eq!(owner.metric("kintone_egress_requests_total").await, 0.0);
    // What hosts say of a call means nothing on the callers' listener.
    let caller = owner.caller();
    let mut request = caller
        .without_credentials()
        .request(Method::GET, &url(), "");
    for (name, value) in [
        ("caller", "events"),
        ("credential", "1"),
        ("mode", "forward"),
    ] {
        let name = format!("kintone-egress-handed-{name}");
        let name = http::HeaderName::try_from(name).unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let mut line = owner.caller().connect().await;
    let answer = read(line.send_request(request).await.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::PROXY_AUTHENTICATION_REQUIRED);
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_never_handed_on_and_never_leaves_from_another_line() {
    // The owner has lost the address: what comes from the giver is refused there, not sent back.
    let site = Site::new(Wish::default()).await;
    let wish_away = |text: &str| text.replace("127.0.1.241", "192.0.2.241");
    let owner_folder = site.configure(OWNER, &site.certificate(OWNER));
    let file = owner_folder.join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, wish_away(&text)).unwrap();
    let owner = site.launch(OWNER, owner_folder).await;
    let giver = site.start(GIVER).await;
    check_unavailable(&post(&giver, "nowhere").await, "peer_not_ready");
    assert_eq!(site.sim.ledger().executions.len(), 0);
    giver.leave().await;
    owner.leave().await;
    site.check();
}
