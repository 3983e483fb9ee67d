//! The way out, over real sockets: which address it leaves from, whom it trusts, what it reuses.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use kintone_egress::config::{
    AccessLog, AccountPolicy, AddressState, Admin, Anonymous, Callers, Config, Drain,
    EgressAddress, Fleet, Limits, Listen, Log, NamePattern, QuotaSettings, StaticAnswer, Upstream,
};
use kintone_egress::egress::{
    Checkout, ConnectError, ConnectResult, Egress, Presence, Reuse, Source, Verdict,
};
use kintone_egress::model::{Bind, Denial, Detail, Failure, Host, Published};
use kintone_egress::tls::Outbound;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
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
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let _ = tell.send(peer);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
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
        Self { address, accepted }
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
        upstream,
        callers: Callers {
            named: Vec::new(),
            anonymous: Some(Anonymous {
                networks: Vec::new(),
            }),
        },
        quota: QuotaSettings::default(),
        accounts: BTreeMap::new(),
        inspect: None,
        limits: Limits::default(),
        fleet: Fleet {
            host: "test".into(),
            hosts: vec!["test".into()],
            redis: None,
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
        pool_per_host: 100,
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
    let answer = checkout.send(request).await.unwrap();
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
