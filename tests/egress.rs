//! The way out, over real sockets: which address it leaves from, whom it trusts, what it reuses.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kintone_egress::config::{
    AccessLog, AccountPolicy, AddressState, Admin, Anonymous, Callers, Circuit, Config, Drain,
    EgressAddress, Exchange, Fleet, Limits, Listen, Log, NamePattern, QuotaSettings, StaticAnswer,
    Upstream,
};
use kintone_egress::egress::{
    Arrival, Checkout, ConnectError, Egress, Presence, Reuse, Source, Verdict,
};
use kintone_egress::model::{Bind, Denial, Detail, Failure, Host, Published};
use kintone_egress::tls::Outbound;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{HandshakeKind, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

type Body = Full<Bytes>;

const HOST: &str = "acme.cybozu.com";
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);
/// Documentation address (RFC 5737), on no host.
const ABSENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A certification authority of the test, in a file that the gateway is told to trust.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

/// A kintone that answers every request with what the test says, and tells who came.
struct Origin {
    address: SocketAddrV4,
    accepted: mpsc::UnboundedReceiver<SocketAddr>,
    shaken: mpsc::UnboundedReceiver<(Option<HandshakeKind>, Option<Vec<u8>>)>,
}

#[derive(Clone, Copy)]
enum Validity {
    Now,
    Past,
    Future,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), issuer.pem()).unwrap();
        Self { issuer, file }
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn server(&self, name: &str, validity: Validity) -> ServerConfig {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = match validity {
            Validity::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1)),
            Validity::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Validity::Future => (date_time_ymd(2100, 1, 1), date_time_ymd(2101, 1, 1)),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl Origin {
    /// Answers each request head on a connection with `answer`, and closes when `answer` says so.
    async fn start(tls: ServerConfig, answer: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = v4(listener.local_addr().unwrap());
        let (tell, accepted) = mpsc::unbounded_channel();
        let (tell_shaken, shaken) = mpsc::unbounded_channel();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let _ = tell.send(peer);
                let (acceptor, tell_shaken) = (acceptor.clone(), tell_shaken.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let tls = stream.get_ref().1;
                    let alpn = tls.alpn_protocol().map(<[u8]>::to_vec);
                    let _ = tell_shaken.send((tls.handshake_kind(), alpn));
                    let mut seen = Vec::new();
                    while stream.read_buf(&mut seen).await.is_ok_and(|n| n > 0) {
                        if !seen.ends_with(b"\r\n\r\n") {
                            continue;
                        }
                        seen.clear();
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                        if answer.contains("X-Then: close") {
                            break;
                        }
                    }
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self {
            address,
            accepted,
            shaken,
        }
    }

    /// Who has come since the last look.
    fn peers(&mut self) -> Vec<SocketAddrV4> {
        std::iter::from_fn(|| self.accepted.try_recv().ok())
            .map(v4)
            .collect()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}

fn host() -> Host {
    Host::from_normal(HOST)
}

fn address(ip: Ipv4Addr, state: AddressState) -> EgressAddress {
    EgressAddress {
        published: Published(ip),
        bind: Some(Bind(ip)),
        state,
        elsewhere: Vec::new(),
        valid_from: None,
        retire_after: None,
    }
}

fn config(addresses: Vec<EgressAddress>, upstream: Upstream) -> Config {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config {
        listen: Listen {
            proxy: vec![loopback],
            admin: loopback,
            metrics: None,
            public: None,
            proxy_tls: Vec::new(),
            tls: None,
        },
        addresses,
        notice: Default::default(),
        public: Default::default(),
        evidence: Default::default(),
        acceptance: Default::default(),
        upstream,
        callers: Callers {
            named: Vec::new(),
            anonymous: Some(Anonymous {
                networks: Vec::new(),
            }),
        },
        quota: QuotaSettings::default(),
        accounts: BTreeMap::new(),
        circuit: Circuit::default(),
        inspect: None,
        limits: Limits::default(),
        fleet: Fleet {
            host: "test".into(),
            hosts: vec!["test".into()],
            redis: None,
            exchange: Exchange::default(),
            peer: None,
        },
        verify: None,
        notify: None,
        admin: Admin { token: None },
        state_dir: PathBuf::from("state"),
        log: Log {
            level: "info".into(),
            access: AccessLog::Off,
        },
        drain: Drain {
            announce: Duration::ZERO,
            grace: Duration::ZERO,
        },
        hash: String::new(),
    }
}

fn upstream(answers: &[SocketAddrV4]) -> Upstream {
    Upstream {
        zones: vec!["cybozu.com".into()],
        accounts: AccountPolicy::Any,
        ca_file: None,
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(600),
        pool_idle: Duration::from_secs(4),
        pool_life: Duration::from_secs(300),
        pool_per_host: 100,
        pool_total: 2000,
        replay: 64 << 10,
        resolve: answers
            .iter()
            .map(|answer| StaticAnswer {
                pattern: NamePattern::Below(".cybozu.com".into()),
                address: *answer.ip(),
                port: Some(answer.port()),
            })
            .collect(),
    }
}

fn egress(ips: &[Ipv4Addr], to: SocketAddrV4, authority: &Authority) -> Arc<Egress<Body>> {
    let active = |ip: &Ipv4Addr| address(*ip, AddressState::Active);
    let config = config(ips.iter().map(active).collect(), upstream(&[to]));
    Egress::new(&config, Outbound::new(Some(authority.path())).unwrap()).unwrap()
}

/// One whole call; the connection is left in the hands of the test.
async fn call(egress: &Egress<Body>, reuse: Reuse) -> Checkout<Body> {
    let source = egress.choose().unwrap();
    let mut checkout = egress.checkout(&host(), source, reuse).await.unwrap();
    let request = Request::get("/k/v1/records.json")
        .header("Host", HOST)
        .body(Body::default())
        .unwrap();
    let answer = checkout.send(request, None, None).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    checkout
}

#[tokio::test]
async fn calls_leave_from_the_configured_addresses_in_turn() {
    let authority = Authority::new();
    let mut origin = Origin::start(authority.server(HOST, Validity::Now), OK).await;
    let egress = egress(&[FIRST, SECOND], origin.address, &authority);
    let mut sources = Vec::new();
    for _ in 0..4 {
        let checkout = call(&egress, Reuse::Never).await;
        assert_eq!(checkout.upstream(), origin.address);
        assert!(!checkout.reused());
        assert!(checkout.timings().tls.is_some() && checkout.timings().dns.is_none());
        sources.push(checkout.source().bind.0);
    }
    assert_eq!(sources, [FIRST, SECOND, FIRST, SECOND]);
    let peers: Vec<_> = origin.peers().iter().map(|peer| *peer.ip()).collect();
    assert_eq!(peers, sources);
}

#[tokio::test]
async fn a_connection_given_back_is_used_again_and_a_dropped_one_is_not() {
    let authority = Authority::new();
    let mut origin = Origin::start(authority.server(HOST, Validity::Now), OK).await;
    let egress = egress(&[FIRST], origin.address, &authority);
    call(&egress, Reuse::Any).await.give_back();
    for reuse in [Reuse::Any, Reuse::Fresh] {
        let checkout = call(&egress, reuse).await;
        assert!(checkout.reused() && checkout.timings().tls.is_none());
        checkout.give_back();
    }
    assert_eq!(origin.peers().len(), 1);
    assert_eq!(egress.addresses()[0].pooled, 1);
    drop(call(&egress, Reuse::Any).await);
    until_open(&egress, 0).await;
    drop(call(&egress, Reuse::Any).await);
    assert_eq!(origin.peers().len(), 1);
}

#[tokio::test]
async fn the_watch_closes_what_has_been_idle_for_too_long() {
    let authority = Authority::new();
    let origin = Origin::start(authority.server(HOST, Validity::Now), OK).await;
    let egress = egress(&[FIRST], origin.address, &authority);
    let watching = Arc::clone(&egress);
    let watch = tokio::spawn(async move { watching.watch().await });
    call(&egress, Reuse::Any).await.give_back();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3)).await;
    tokio::task::yield_now().await;
    assert_eq!(egress.addresses()[0].pooled, 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    until_open(&egress, 0).await;
    assert_eq!(egress.addresses()[0].pooled, 0);
    watch.abort();
}

/// Bodies need not be `Sync`, and every future can run in a task.
#[tokio::test]
async fn a_call_can_run_in_a_task() {
    let authority = Authority::new();
    let origin = Origin::start(authority.server(HOST, Validity::Now), OK).await;
    let active = vec![address(FIRST, AddressState::Active)];
    let config = config(active, upstream(&[origin.address]));
    let tls = Outbound::new(Some(authority.path())).unwrap();
    let egress: Arc<Egress<UnsyncBoxBody<Bytes, std::io::Error>>> =
        Egress::new(&config, tls).unwrap();
    let called = tokio::spawn(async move {
        let source = egress.choose().unwrap();
        let mut checkout = egress.checkout(&host(), source, Reuse::Any).await.unwrap();
        let body = Body::default().map_err(|never| match never {});
        let request = Request::get("/").body(body.boxed_unsync()).unwrap();
        let status = checkout.send(request, None, None).await.unwrap().status();
        checkout.give_back();
        status
    });
    assert_eq!(called.await.unwrap(), 200);
}

#[tokio::test]
async fn a_connection_that_cannot_go_on_is_not_used_again() {
    const CLOSE: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX-Then: close\r\n\r\nok";
    const SILENTLY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Then: close\r\n\r\nok";
    let authority = Authority::new();
    const TWICE: &str = concat!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother",
    );
    for answer in [CLOSE, SILENTLY, TWICE] {
        let mut origin = Origin::start(authority.server(HOST, Validity::Now), answer).await;
        let egress = egress(&[FIRST], origin.address, &authority);
        call(&egress, Reuse::Any).await.give_back();
        until_open(&egress, 0).await;
        let checkout = call(&egress, Reuse::Any).await;
        assert!(!checkout.reused());
        assert_eq!(origin.peers().len(), 2);
    }
}

#[tokio::test]
async fn a_second_connection_resumes_the_session_and_both_speak_http_1() {
    let authority = Authority::new();
    let mut origin = Origin::start(authority.server(HOST, Validity::Now), OK).await;
    let egress = egress(&[FIRST], origin.address, &authority);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let checkout = call(&egress, Reuse::Never).await;
        let (kind, alpn) = origin.shaken.recv().await.unwrap();
        assert_eq!((kind, alpn), (Some(expected), Some(b"http/1.1".to_vec())));
        drop(checkout);
    }
}

#[tokio::test]
async fn a_head_beyond_the_limit_is_not_taken() {
    let authority = Authority::new();
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n",
        "x".repeat(65 << 10)
    );
    let answer: &'static str = head.leak();
    let origin = Origin::start(authority.server(HOST, Validity::Now), answer).await;
    let egress = egress(&[FIRST], origin.address, &authority);
    let source = egress.choose().unwrap();
    let mut checkout = egress.checkout(&host(), source, Reuse::Any).await.unwrap();
    let request = Request::get("/").body(Body::default()).unwrap();
    let error = checkout.send(request, None, None).await.unwrap_err();
    let said = error.error.unwrap();
    assert!(said.is_parse_too_large() && error.arrival == Arrival::Unknown);
}

#[tokio::test]
async fn a_request_that_was_not_sent_is_told_so() {
    let authority = Authority::new();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Then: close\r\n\r\nok";
    let origin = Origin::start(authority.server(HOST, Validity::Now), answer).await;
    let egress = egress(&[FIRST], origin.address, &authority);
    let mut checkout = call(&egress, Reuse::Any).await;
    until_open(&egress, 0).await;
    let request = Request::post("/k/v1/record.json")
        .body(Body::from("{}"))
        .unwrap();
    let error = checkout.send(request, None, None).await.unwrap_err();
    assert_eq!(error.arrival, Arrival::Never);
}

#[tokio::test]
async fn without_a_usable_address_nothing_leaves() {
    let authority = Authority::new();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let to = v4(listener.local_addr().unwrap());
    let egress = egress(&[ABSENT], to, &authority);
    let denied = Denial::EgressUnavailable(Detail::AddressAbsent);
    assert_eq!(egress.choose(), Err(denied));
    // Nor when somebody insists on it, or makes an address up.
    for ip in [ABSENT, FIRST] {
        let source = Source {
            published: Published(ip),
            bind: Bind(ip),
        };
        let refused = |error: ConnectError| assert_eq!(error.verdict, Verdict::Denied(denied));
        refused(egress.connect(&host(), source).await.unwrap_err());
        refused(
            egress
                .checkout(&host(), source, Reuse::Any)
                .await
                .unwrap_err(),
        );
    }
    assert_eq!(egress.addresses()[0].presence, Presence::Absent);
    // On loopback a connection is in the backlog as soon as `connect` has begun.
    assert!(listener.accept().is_err());
}

#[tokio::test]
async fn forbidden_destinations_are_not_dialled() {
    let authority = Authority::new();
    for ip in ["10.0.0.1", "169.254.169.254", "192.0.2.1", "0.0.0.0"] {
        let to = SocketAddrV4::new(ip.parse().unwrap(), 443);
        let egress = egress(&[FIRST], to, &authority);
        let source = egress.choose().unwrap();
        let error = egress.connect(&host(), source).await.unwrap_err();
        let denial = Denial::DestinationForbidden(Detail::AddressForbidden);
        assert_eq!(error.verdict, Verdict::Denied(denial), "{ip}");
        assert_eq!((error.upstream, error.timings.connect), (None, None));
    }
}

#[tokio::test]
async fn an_address_of_this_host_is_not_kintone() {
    let authority = Authority::new();
    let published = Published(Ipv4Addr::new(18, 177, 83, 94));
    let ours = EgressAddress {
        published,
        ..address(FIRST, AddressState::Active)
    };
    let verdict = async |to, networks: &[&str]| {
        let mut upstream = upstream(&[SocketAddrV4::new(to, 9)]);
        let networks = networks.iter().map(|network| network.parse().unwrap());
        upstream.allow_networks = networks.collect();
        let config = config(vec![ours.clone()], upstream);
        let egress: Arc<Egress<Body>> =
            Egress::new(&config, Outbound::new(Some(authority.path())).unwrap()).unwrap();
        let source = egress.choose().unwrap();
        egress.connect(&host(), source).await.unwrap_err().verdict
    };
    let forbidden = Verdict::Denied(Denial::DestinationForbidden(Detail::AddressForbidden));
    assert_eq!(verdict(published.0, &[]).await, forbidden);
    assert_eq!(verdict(FIRST, &[]).await, forbidden);
    // A laboratory may keep both on one address, if it says so.
    let refused = Verdict::Failed(Failure::Connect(Detail::ConnectRefused));
    assert_eq!(verdict(FIRST, &["127.0.0.0/8"]).await, refused);
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_apart() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let cases = [
        (authority.server(HOST, Validity::Past), Detail::TlsExpired),
        (
            authority.server(HOST, Validity::Future),
            Detail::TlsNotYetValid,
        ),
        (
            authority.server("other.cybozu.com", Validity::Now),
            Detail::TlsNameMismatch,
        ),
        (stranger.server(HOST, Validity::Now), Detail::TlsUntrusted),
    ];
    for (server, detail) in cases {
        let origin = Origin::start(server, OK).await;
        let egress = egress(&[FIRST], origin.address, &authority);
        let error = failure(&egress).await;
        assert_eq!(error.verdict, Verdict::Failed(Failure::Tls(detail)));
        assert_eq!(error.upstream, Some(origin.address));
        assert!(error.timings.connect.is_some() && error.timings.tls.is_some());
        until_open(&egress, 0).await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_or_nothing_at_all_fails() {
    let authority = Authority::new();
    let cases: [(&'static [u8], Failure); 2] = [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            Failure::Tls(Detail::TlsProtocol),
        ),
        (b"", Failure::Connect(Detail::ConnectReset)),
    ];
    for (says, expected) in cases {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = v4(listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(says).await;
            let _ = stream.shutdown().await;
        });
        let egress = egress(&[FIRST], to, &authority);
        assert_eq!(failure(&egress).await.verdict, Verdict::Failed(expected));
    }
}

#[tokio::test]
async fn everything_together_ends_within_the_connect_timeout() {
    let authority = Authority::new();
    // Accepts by its backlog, and never says a word.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = v4(listener.local_addr().unwrap());
    let upstream = Upstream {
        connect_timeout: Duration::from_millis(100),
        ..upstream(&[to])
    };
    let config = config(vec![address(FIRST, AddressState::Active)], upstream);
    let egress: Arc<Egress<Body>> =
        Egress::new(&config, Outbound::new(Some(authority.path())).unwrap()).unwrap();
    let error = failure(&egress).await;
    assert_eq!(
        error.verdict,
        Verdict::Failed(Failure::Tls(Detail::TlsTimeout))
    );
}

#[tokio::test]
async fn a_tunnel_gets_the_bare_connection_and_is_counted_while_open() {
    let authority = Authority::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let to = v4(listener.local_addr().unwrap());
    let egress = egress(&[FIRST], to, &authority);
    let source = egress.choose().unwrap();
    let connected = egress.connect(&host(), source).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip(), FIRST);
    assert_eq!((connected.upstream, connected.source), (to, source));
    assert_eq!(egress.addresses()[0].open, 1);
    drop(connected);
    assert_eq!(egress.addresses()[0].open, 0);

    drop(listener);
    let error = egress.connect(&host(), source).await.unwrap_err();
    let refused = Failure::Connect(Detail::ConnectRefused);
    assert_eq!(error.verdict, Verdict::Failed(refused));
    assert_eq!(error.upstream, Some(to));
}

#[test]
fn a_ca_file_must_hold_certificates() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    assert!(Outbound::new(Some(empty.path())).is_err());
    assert!(Outbound::new(Some(Path::new("/nonexistent/ca.pem"))).is_err());
}

async fn failure(egress: &Egress<Body>) -> ConnectError {
    let source = egress.choose().unwrap();
    egress
        .checkout(&host(), source, Reuse::Any)
        .await
        .unwrap_err()
}

/// Waits until the first address has so many connections open.
async fn until_open(egress: &Egress<Body>, open: usize) {
    let reached = async {
        while egress.addresses()[0].open != open {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), reached)
        .await
        .unwrap();
}
