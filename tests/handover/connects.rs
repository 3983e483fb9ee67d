//! CONNECTs: inspected ones, whose calls are handed over one by one, and tunnels.

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::hosts::{LINE, Site, Wish};
use crate::support::ACME;
use crate::support::caller::{Caller, read, record};
use crate::support::inspect::PrivateCa;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_an_inspected_connection_are_handed_over_one_by_one() {
    let ca = PrivateCa::new();
    let wish = Wish {
        tables: ca.table(),
        ..Wish::default()
    };
    let site = Site::new(wish).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller().trusting(&ca.pem);
    let mut h1 = caller.h1(ACME).await.unwrap();
    let path = "/k/v1/record.json?app=1&id=1";
    for _ in 0..2 {
        let request = Caller::inner(Method::GET, ACME, path, Bytes::new());
        h1.ready().await.unwrap();
        let answer = read(h1.send_request(request).await.unwrap()).await.unwrap();
        assert_eq!(answer.header("kintone-egress-address"), LINE, "{answer:?}");
        assert_eq!(answer.header("via"), "1.1 kintone-egress");
    }
    let mut h2 = caller.h2(ACME).await.unwrap();
    let post = Caller::inner(Method::POST, ACME, "/k/v1/record.json", record("in h2"));
    let answer = read(h2.send_request(post).await.unwrap()).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    drop((h1, h2));
    owner.rest().await;
    let lines = owner.lines_when(3).await;
    let modes: Vec<_> = lines.iter().map(|line| &line["mode"]).collect();
    assert_eq!(modes, ["inspect"; 3]);
    let ledger = site.sim.ledger();
    let vias: Vec<_> = ledger
        .executions
        .iter()
        .flat_map(|of| of.header("via"))
        .collect();
    assert_eq!(
        vias,
        [
            "1.1 kintone-egress",
            "1.1 kintone-egress",
            "2 kintone-egress"
        ]
    );
    assert_eq!(giver.handed("answered").await, 3.0);
    assert_eq!(owner.metric("kintone_egress_requests_total").await, 3.0);
    assert_eq!(giver.metric("kintone_egress_requests_total").await, 0.0);
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_carried_by_the_owner_with_its_permit() {
    let site = Site::new(Wish::default()).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    let mut tunnel = caller.tunnel(ACME).await.unwrap();
    for title in ["one", "two"] {
        let post = Caller::inner(Method::POST, ACME, "/k/v1/record.json", record(title));
        tunnel.ready().await.unwrap();
        let answer = read(tunnel.send_request(post).await.unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(owner.metric("kintone_egress_permits_held").await, 1.0);
    assert_eq!(
        giver.metric("kintone_egress_permits_acquired_total").await,
        0.0
    );
    drop(tunnel);
    owner.rest().await;
    let lines = owner.lines_when(1).await;
    assert_eq!(
        (&lines[0]["mode"], &lines[0]["outcome"]),
        (&"tunnel".into(), &"ok".into())
    );
    assert_eq!(lines[0]["address"], LINE);
    assert_eq!(giver.metric("kintone_egress_requests_total").await, 0.0);
    giver.leave().await;
    owner.leave().await;
    site.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_owner_says_of_a_connect_reaches_the_caller() {
    let site = Site::new(Wish::default()).await;
    let (giver, owner) = site.start_both().await;
    let caller = giver.caller();
    // The owner judges the ClientHello: another name ends the tunnel with its alert.
    let mut raw = caller.open_tunnel(ACME).await.unwrap();
    raw.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(
        raw.read(&mut [0; 16]).await.unwrap_or(0),
        0,
        "no TLS: closed"
    );
    let raw = caller.open_tunnel(ACME).await.unwrap();
    let refused = caller.tls(raw, "other.cybozu.com").await.unwrap_err();
    assert!(
        refused.to_string().contains("UnrecognisedName"),
        "{refused}"
    );
    let lines = owner.lines_when(2).await;
    let outcomes: Vec<_> = lines.iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["bad_request", "destination_forbidden"]);
    owner.rest().await;
    giver.leave().await;
    owner.leave().await;
    site.check();
}
