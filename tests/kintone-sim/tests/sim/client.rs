//! A client that trusts the simulator's authority, one TLS connection at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use kintone_sim::{Options, Sim, TenantSettings};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const HOST: &str = "acme.cybozu.com";
pub(crate) const RECORDS: &str = "/k/v1/records.json?app=1";

/// A simulator with one account.
pub(crate) async fn start(settings: TenantSettings) -> Sim {
    let sim = Sim::start(Options::default()).await.unwrap();
    sim.tenant(HOST, settings);
    sim
}

/// A TLS connection from any loopback address.
pub(crate) async fn connect(sim: &Sim, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    connect_from(sim, name, "127.0.0.1:0".parse().unwrap()).await
}

pub(crate) async fn connect_from(
    sim: &Sim,
    name: &str,
    source: SocketAddr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(source)?;
    let tcp = socket.connect(sim.addr()).await?;
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(sim.ca_pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

/// An answer that has been read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// One connection for several calls.
pub(crate) struct Client(http1::SendRequest<Full<Bytes>>);

impl Client {
    pub(crate) async fn new(sim: &Sim) -> Self {
        let tls = connect(sim, HOST).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.0.ready().await?;
        let (head, body) = self.0.send_request(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub(crate) async fn get(&mut self, target: &str) -> hyper::Result<Answer> {
        self.send(request("GET", target, "")).await
    }
}

/// A request with the demo token; JSON when it has a body.
pub(crate) fn request(method: &str, target: &str, body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("Host", HOST)
        .header("X-Cybozu-API-Token", "demo-token");
    if !body.is_empty() {
        request = request.header("Content-Type", "application/json");
    }
    request.body(Full::from(body.to_owned())).unwrap()
}

/// One call on a connection of its own.
pub(crate) async fn get(sim: &Sim, target: &str) -> hyper::Result<Answer> {
    Client::new(sim).await.get(target).await
}

/// One call with a body on a connection of its own.
pub(crate) async fn send(sim: &Sim, method: &str, target: &str, body: &str) -> Answer {
    let request = request(method, target, body);
    Client::new(sim).await.send(request).await.unwrap()
}
