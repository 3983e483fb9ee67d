//! What the book says of requests and sockets.

use kintone_sim::{Keep, Options, Sim, TenantSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{self, Client, HOST, RECORDS};

#[tokio::test]
async fn headers_are_kept_as_they_stood_on_the_wire() {
    let sim = client::start(TenantSettings::default()).await;
    let mut tls = client::connect(&sim, HOST).await.unwrap();
    let head = "hOsT: ACME.cybozu.com:443\r\nX-Cybozu-API-Token: demo-token\r\nVIA: 1.1 a\r\naccept: b\r\nVia:1.1 c";
    for round in 0..2 {
        let request = format!("GET {RECORDS}&n={round} HTTP/1.1\r\n{head}\r\n\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut got = [0; 12];
        tls.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HTTP/1.1 200");
        let mut rest = vec![0; 16 * 1024];
        let mut have = Vec::new();
        while !have.ends_with(b"\"totalCount\":null}") {
            let read = tls.read(&mut rest).await.unwrap();
            have.extend_from_slice(&rest[..read]);
        }
    }
    let ledger = sim.ledger();
    for (round, execution) in ledger.executions.iter().enumerate() {
        let lines: Vec<String> = execution
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            lines,
            [
                "hOsT=ACME.cybozu.com:443",
                "X-Cybozu-API-Token=demo-token",
                "VIA=1.1 a",
                "accept=b",
                "Via=1.1 c"
            ]
        );
        assert_eq!(
            execution.header("via").collect::<Vec<_>>(),
            ["1.1 a", "1.1 c"]
        );
        assert_eq!(execution.domain, HOST);
        assert_eq!(execution.query, format!("app=1&n={round}"));
        assert!(execution.end.unwrap().sequence > execution.start.sequence);
        assert!(!execution.client_left && execution.executed);
        assert!(!execution.auth.is_empty() && !execution.auth.contains("demo"));
    }
    assert_eq!(ledger.sockets[0].requests, 2);
}

#[tokio::test]
async fn every_socket_is_in_the_book_with_its_source() {
    let sim = client::start(TenantSettings::default()).await;
    let raw = TcpStream::connect(sim.addr()).await.unwrap();
    let source = "127.7.7.7:0".parse().unwrap();
    let tls = client::connect_from(&sim, HOST, source).await.unwrap();
    while !sim.ledger().sockets.iter().any(|socket| socket.tls_ok) {
        tokio::task::yield_now().await;
    }
    let ledger = sim.ledger();
    assert_eq!(ledger.sources().len(), 2);
    let of = |ip: &str| {
        let ip: std::net::IpAddr = ip.parse().unwrap();
        ledger
            .sockets
            .iter()
            .find(|socket| socket.peer.ip() == ip)
            .unwrap()
    };
    assert!(!of("127.0.0.1").tls_ok && of("127.0.0.1").sni.is_none());
    assert_eq!(of("127.7.7.7").sni.as_deref(), Some(HOST));
    drop((raw, tls));
    while sim
        .ledger()
        .sockets
        .iter()
        .any(|socket| socket.closed.is_none())
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_half_closed_client_gets_its_answer() {
    let sim = client::start(TenantSettings::default()).await;
    sim.update(HOST, |settings| settings.latency.base_ms = 50);
    let mut tls = client::connect(&sim, HOST).await.unwrap();
    let request =
        format!("GET {RECORDS} HTTP/1.1\r\nHost: {HOST}\r\nX-Cybozu-API-Token: demo-token\r\n\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    tls.shutdown().await.unwrap();
    let mut got = Vec::new();
    tls.read_to_end(&mut got).await.unwrap();
    assert!(got.starts_with(b"HTTP/1.1 200"));
    assert!(!sim.ledger().executions[0].client_left);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_not_executed() {
    let sim = client::start(TenantSettings::default()).await;
    let mut tls = client::connect(&sim, HOST).await.unwrap();
    let request = format!(
        "POST /k/v1/record.json HTTP/1.1\r\nHost: {HOST}\r\nX-Cybozu-API-Token: demo-token\r\nContent-Length: 100\r\n\r\n{{\"app\""
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    drop(tls);
    loop {
        let ledger = sim.ledger();
        if let Some(execution) = ledger.executions.first()
            && execution.end.is_some()
        {
            assert!(execution.client_left && !execution.executed && execution.admitted);
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(sim.accounting(HOST).in_process, 0);
}

#[tokio::test]
async fn counts_only_keeps_the_sums() {
    let options = Options {
        keep: Keep::Counts,
        ..Options::default()
    };
    let sim = Sim::start(options).await.unwrap();
    sim.tenant(HOST, TenantSettings::default());
    let mut client = Client::new(&sim).await;
    for _ in 0..3 {
        assert_eq!(client.get(RECORDS).await.unwrap().status, 200);
    }
    let (ledger, accounting) = (sim.ledger(), sim.accounting(HOST));
    assert!(ledger.executions.is_empty() && accounting.steps.is_empty());
    assert_eq!((ledger.totals.admitted, ledger.totals.executed), (3, 3));
    assert_eq!((accounting.peak, accounting.admitted), (1, 3));
}
