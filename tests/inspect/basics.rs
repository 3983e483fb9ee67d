//! What a caller sees of an inspected connection, and what it leaves behind.

use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::caller::{Caller, read};
use crate::support::inspect::PrivateCa;
use crate::support::invariants::check_refusal;
use crate::support::{ACME, House, Plan, house};

const PATH: &str = "/k/v1/records.json?app=1";

/// The first sample of a handshake metric.
async fn handshakes(house: &House, result: &str) -> f64 {
    let sample =
        format!("kintone_egress_inspect_handshakes_total{{caller=\"events\",result=\"{result}\"}}");
    house.metric(&sample).await.unwrap_or_default()
}

#[tokio::test]
async fn every_call_inside_is_a_call_of_its_own() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut h1 = caller.h1(ACME).await.unwrap();
        for _ in 0..3 {
            let request = Caller::inner(Method::GET, ACME, PATH, "");
            let answer = read(h1.send_request(request).await.unwrap()).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("via"), "1.1 kintone-egress");
            assert!(!answer.header("kintone-egress-address").is_empty());
            assert_eq!(house.output.line_of(answer.id()).await["mode"], "inspect");
        }
        assert_eq!(house.quotas.balance().held, 0, "nothing between calls");
        let mut h2 = caller.h2(ACME).await.unwrap();
        for turn in 0..3 {
            let url = format!("https://{ACME}{PATH}");
            let request = Caller::inner(Method::GET, ACME, &url, "");
            let answer = read(h2.send_request(request).await.unwrap()).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{turn}");
            let line = house.output.line_of(answer.id()).await;
            assert_eq!(
                (&line["mode"], &line["account"], &line["app"], &line["path"]),
                (
                    &"inspect".into(),
                    &ACME.into(),
                    &1.into(),
                    &"/k/v1/records.json".into()
                ),
                "{line}"
            );
        }
        assert_eq!(house.output.lines().len(), 6, "the CONNECTs are no calls");
        let via: Vec<_> = house
            .sim
            .ledger()
            .executions
            .iter()
            .map(|execution| {
                let via = execution
                    .headers
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case("via"));
                via.unwrap().1.clone()
            })
            .collect();
        assert_eq!(via[..3], ["1.1 kintone-egress"; 3]);
        assert_eq!(via[3..], ["2 kintone-egress"; 3]);
        assert_eq!(handshakes(&house, "h1").await, 1.0);
        assert_eq!(handshakes(&house, "h2").await, 1.0);
        let open = "kintone_egress_inspected_connections{caller=\"events\"}";
        assert_eq!(house.metric(open).await, Some(2.0));
        drop((h1, h2));
        house
            .until("both are closed", |house| house.quotas.balance().held == 0)
            .await;
    })
    .await;
}

#[tokio::test]
async fn a_call_for_another_host_is_misdirected() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let caller = house.caller().trusting(&ca.pem);
        let mut h1 = caller.h1(ACME).await.unwrap();
        for host in ["other.cybozu.com", "acme.cybozu.com:80", "www.example.com"] {
            let request = Caller::inner(Method::POST, host, "/k/v1/record.json", "{}");
            let answer = read(h1.send_request(request).await.unwrap()).await.unwrap();
            check_refusal(&answer, 421, "GW_MISDIRECTED", "http_request_error");
        }
        let request = Caller::inner(Method::GET, "ACME.cybozu.com:443", PATH, "");
        let answer = read(h1.send_request(request).await.unwrap()).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "the connection lives on");
        let mut h2 = caller.h2(ACME).await.unwrap();
        let url = format!("https://other.cybozu.com{PATH}");
        let request = Caller::inner(Method::GET, "other.cybozu.com", &url, "");
        let answer = read(h2.send_request(request).await.unwrap()).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &*answer.code()),
            (421, "GW_MISDIRECTED")
        );
        assert_eq!(house.sim.ledger().executions.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_ends_before_a_call_is_told_once() {
    let ca = PrivateCa::new();
    house(ca.plan(Plan::default()), async |house| {
        let trusting = house.caller().trusting(&ca.pem);
        // It trusts the simulated kintone, not the private CA.
        let tunnel = house.caller().open_tunnel(ACME).await.unwrap();
        house.caller().tls(tunnel, ACME).await.unwrap_err();
        let tunnel = trusting.open_tunnel(ACME).await.unwrap();
        let error = trusting.tls(tunnel, "other.cybozu.com").await.unwrap_err();
        assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        let mut tunnel = trusting.open_tunnel(ACME).await.unwrap();
        tunnel.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        let _ = tunnel.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        drop(trusting.open_tunnel(ACME).await.unwrap());
        house
            .until("all are logged", |house| house.output.lines().len() == 4)
            .await;
        let mut told: Vec<_> = house
            .output
            .lines()
            .iter()
            .map(|line| {
                assert_eq!(
                    (&line["mode"], &line["method"], &line["status"]),
                    (&"inspect".into(), &"CONNECT".into(), &200.into()),
                    "{line}"
                );
                format!("{} {}", line["outcome"], line["detail"])
            })
            .collect();
        told.sort();
        assert_eq!(
            told,
            [
                r#""bad_request" "not_tls""#,
                r#""caller_gone" "caller_distrusts_ca""#,
                r#""caller_gone" null"#,
                r#""destination_forbidden" "sni_mismatch""#,
            ]
        );
        for result in ["caller_distrusts_ca", "sni", "not_tls", "gone"] {
            assert_eq!(handshakes(&house, result).await, 1.0, "{result}");
        }
        assert!(house.sim.ledger().sockets.is_empty(), "nothing is dialled");
    })
    .await;
}
