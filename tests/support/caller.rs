//! An internal service as the gateway sees it: real HTTP over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One caller: where the proxy is, whom to trust, what to say it is.
#[derive(Clone)]
pub struct Caller {
    proxy: SocketAddr,
    authorization: String,
    roots: Arc<rustls::RootCertStore>,
    tls: Arc<rustls::ClientConfig>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    /// The words behind the status, where they are not the usual ones.
    pub reason: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The JSON of the body.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// A header as text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// The gateway's code in the body, such as `GW_WAIT_EXCEEDED`.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The identifier the gateway gave the call.
    pub fn id(&self) -> &str {
        self.header("kintone-egress-request-id")
    }
}

impl Caller {
    pub fn new(proxy: SocketAddr, ca_pem: &str, user: &str, token: &str) -> Self {
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
        let roots = Arc::new(roots(ca_pem));
        Self {
            proxy,
            authorization,
            tls: Arc::new(tls_trusting(Arc::clone(&roots))),
            roots,
        }
    }

    /// The same caller with another authority to trust.
    pub fn trusting(mut self, ca_pem: &str) -> Self {
        self.roots = Arc::new(roots(ca_pem));
        self.tls = Arc::new(tls_trusting(Arc::clone(&self.roots)));
        self
    }

    /// The same caller with other ALPN protocols on offer.
    pub fn offering(mut self, protocols: &[&[u8]]) -> Self {
        Arc::make_mut(&mut self.tls).alpn_protocols =
            protocols.iter().map(|protocol| protocol.to_vec()).collect();
        self
    }

    /// What it sends in proof of who it is.
    pub fn authorization(&self) -> Option<http::HeaderValue> {
        let said = !self.authorization.is_empty();
        said.then(|| self.authorization.parse().expect("a value"))
    }

    /// The same caller, speaking TLS 1.2 and nothing newer.
    pub fn speaking_tls_1_2(mut self) -> Self {
        let roots = Arc::clone(&self.roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]);
        let builder = builder.expect("a version").with_root_certificates(roots);
        self.tls = Arc::new(builder.with_no_client_auth());
        self
    }

    /// Where the proxy is.
    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// The same caller, saying nothing about itself.
    pub fn without_credentials(mut self) -> Self {
        self.authorization.clear();
        self
    }

    /// A connection to the proxy over which calls in absolute form go one after another.
    pub async fn connect(&self) -> SendRequest<Full<Bytes>> {
        self.try_connect().await.expect("the proxy listens")
    }

    /// The same where the proxy may be gone.
    pub async fn try_connect(&self) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.proxy).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        // It ends with an error where a test wants the gateway to cut it.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    /// A request in absolute form, with proxy credentials and kintone's token.
    pub fn request(
        &self,
        method: Method,
        url: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("host", url.split('/').nth(2).expect("a host"))
            .header("x-cybozu-api-token", super::API_TOKEN);
        if !self.authorization.is_empty() {
            request = request.header("proxy-authorization", &self.authorization);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(body)).expect("a valid request")
    }

    /// Sends a request over a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let mut sender = self.connect().await;
        read(sender.send_request(request).await?).await
    }

    /// GET in absolute form.
    pub async fn get(&self, url: &str) -> Answer {
        let request = self.request(Method::GET, url, Bytes::new());
        self.send(request).await.expect("an answer")
    }

    /// POST of a new record of the demo app, unique by its title.
    pub async fn post_record(&self, domain: &str, title: &str) -> Result<Answer, hyper::Error> {
        let url = format!("https://{domain}/k/v1/record.json");
        self.send(self.request(Method::POST, &url, record(title)))
            .await
    }

    /// Opens a tunnel; the raw socket after the 200, or the refusal.
    pub async fn open_tunnel(&self, host: &str) -> Result<TcpStream, Answer> {
        let head = format!(
            "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: {}\r\n\r\n",
            self.authorization
        );
        self.open_tunnel_by(&head).await
    }

    /// The same with a head written by the test; `{auth}` stands for the credentials.
    pub async fn open_tunnel_by(&self, head: &str) -> Result<TcpStream, Answer> {
        let mut stream = TcpStream::connect(self.proxy)
            .await
            .expect("the proxy listens");
        let head = head.replace("{auth}", &self.authorization);
        stream
            .write_all(head.as_bytes())
            .await
            .expect("a live socket");
        let answer = read_head(&mut stream).await;
        if answer.status == StatusCode::OK {
            Ok(stream)
        } else {
            Err(rest(stream, answer).await)
        }
    }

    /// HTTP through a tunnel of its own, where the proxy may be gone or refuse.
    #[allow(dead_code, reason = "not every test program ends the proxy")]
    pub async fn try_tunnel(&self, host: &str) -> std::io::Result<SendRequest<Full<Bytes>>> {
        let mut stream = TcpStream::connect(self.proxy).await?;
        let head = format!(
            "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: {}\r\n\r\n",
            self.authorization
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let tls = self.tls(stream, host).await?;
        let handshaken = handshake(TokioIo::new(tls)).await;
        let (sender, connection) = handshaken.map_err(std::io::Error::other)?;
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    /// TLS through a tunnel, for the name `sni`.
    pub async fn tls(&self, tunnel: TcpStream, sni: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(sni.to_owned()).expect("a name");
        TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tunnel)
            .await
    }

    /// HTTP through a tunnel of its own.
    pub async fn tunnel(&self, host: &str) -> Result<SendRequest<Full<Bytes>>, Answer> {
        let tunnel = self.open_tunnel(host).await?;
        let tls = self.tls(tunnel, host).await.expect("TLS with kintone");
        let (sender, connection) = handshake(TokioIo::new(tls)).await.expect("HTTP");
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    /// A request as it is sent inside a tunnel.
    pub fn inner(
        method: Method,
        host: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Request<Full<Bytes>> {
        let body = body.into();
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("x-cybozu-api-token", super::API_TOKEN);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        request.body(Full::new(body)).expect("a valid request")
    }
}

fn roots(ca_pem: &str) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("a certificate");
    }
    roots
}

fn tls_trusting(roots: Arc<rustls::RootCertStore>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// The body of a new record of the demo app.
pub fn record(title: &str) -> String {
    format!(r#"{{"app":1,"record":{{"title":{{"value":"{title}"}}}}}}"#)
}

/// Reads an answer to its end.
pub async fn read(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let reason = head
        .extensions
        .get::<ReasonPhrase>()
        .map_or(&b""[..], ReasonPhrase::as_bytes);
    let reason = String::from_utf8_lossy(reason).into_owned();
    Ok(Answer {
        status: head.status,
        reason,
        headers: head.headers,
        body,
    })
}

/// Sends raw bytes to `to` and reads until it closes; what came, as text.
pub async fn exchange_raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.expect("it listens");
    stream.write_all(bytes).await.expect("a live socket");
    let mut answer = Vec::new();
    // A reset after the answer is no fault here.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// GET over plain HTTP, as Prometheus does.
pub async fn fetch_plain(from: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(from).await.expect("it listens");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a live socket");
    let head = read_head(&mut stream).await;
    let answer = rest(stream, head).await;
    (
        answer.status.as_u16(),
        String::from_utf8_lossy(&answer.body).into_owned(),
    )
}

/// Sends raw bytes to `to` and reads one answer that closes the connection.
pub async fn ask_raw(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).await.expect("it listens");
    stream.write_all(bytes).await.expect("a live socket");
    let head = read_head(&mut stream).await;
    rest(stream, head).await
}

async fn read_head(stream: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.expect("a whole head");
        head.push(byte);
    }
    let text = String::from_utf8(head).expect("an ASCII head");
    let mut lines = text.split("\r\n");
    let mut status_line = lines.next().expect("a status line").splitn(3, ' ').skip(1);
    let status = status_line.next().expect("a status");
    let reason = status_line.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, value.trim().parse().expect("a value"))
        })
        .collect();
    let status = status.parse().expect("a status");
    Answer {
        status,
        reason,
        headers,
        body: Bytes::new(),
    }
}

async fn rest(mut stream: TcpStream, mut answer: Answer) -> Answer {
    let mut body = Vec::new();
    let length = answer.header("content-length").parse().ok();
    match length {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body).await.expect("a whole body");
        }
        None => {
            stream.read_to_end(&mut body).await.expect("a whole body");
        }
    }
    if answer.header("transfer-encoding") == "chunked" {
        body = unchunk(&body);
    }
    answer.body = body.into();
    answer
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = raw
            .windows(2)
            .position(|pair| pair == b"\r\n")
            .expect("a chunk size");
        let size = std::str::from_utf8(&raw[..end]).expect("ASCII");
        let size = usize::from_str_radix(size, 16).expect("hexadecimal");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 2 + size + 2..];
    }
}
