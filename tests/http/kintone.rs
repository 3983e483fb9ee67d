//! A kintone that says, byte for byte, what a row tells it to, over TLS. Each row has a host name of
//! its own, so that rows run side by side.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::wire::{body_end, find, head_value};

/// What is answered where a row says nothing.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

/// What is said to one request.
#[derive(Debug, Clone, Copy)]
pub struct Reply {
    /// Said as soon as the head has come, before the body is read.
    pub on_head: &'static [u8],
    /// Said when the request is whole.
    pub bytes: &'static [u8],
    pub then: Then,
}

/// What becomes of the connection after a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    /// A clean end: TLS says so, then TCP.
    Close,
    /// TCP ends and TLS says nothing: anybody on the way could have done that.
    Cut,
    Reset,
    /// These follow a moment later, when the gateway has long counted the connection as idle.
    Late(&'static [u8]),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub host: String,
    /// Which connection it came by, counted over all hosts.
    pub connection: usize,
    /// Head and body as they stood on the wire.
    pub raw: Vec<u8>,
    /// Whether all of it came.
    pub whole: bool,
}

impl Arrived {
    /// The lines of the head; the first is the request line.
    pub fn lines(&self) -> Vec<String> {
        let end = find(&self.raw, b"\r\n\r\n").unwrap_or(self.raw.len());
        let head = String::from_utf8_lossy(&self.raw[..end]).into_owned();
        head.split("\r\n").map(str::to_owned).collect()
    }

    /// What stands behind the head, as it stood on the wire.
    pub fn body(&self) -> &[u8] {
        let end = find(&self.raw, b"\r\n\r\n").map_or(self.raw.len(), |at| at + 4);
        &self.raw[end..]
    }
}

#[derive(Default)]
struct Book {
    scripts: HashMap<String, Vec<Reply>>,
    arrived: Vec<Arrived>,
    answered: HashMap<String, usize>,
    connections: usize,
    peers: Vec<IpAddr>,
}

/// The scripted kintone. Clones are the same one.
#[derive(Clone)]
pub struct RawKintone {
    pub address: SocketAddr,
    pub ca_pem: String,
    book: Arc<Mutex<Book>>,
}

impl RawKintone {
    pub async fn start() -> Self {
        let (ca_pem, acceptor) = authority();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let kintone = Self {
            address: listener.local_addr().expect("bound"),
            ca_pem,
            book: Arc::default(),
        };
        let serving = kintone.clone();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (acceptor, kintone) = (acceptor.clone(), serving.clone());
                kintone.book().peers.push(peer.ip());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(stream).await {
                        kintone.serve(tls).await;
                    }
                });
            }
        });
        kintone
    }

    /// Says what requests of `host` are answered: the first by the first reply, and so on; beyond
    /// the last, and where there is none, by [`OK`].
    pub fn script(&self, host: &str, replies: &[Reply]) {
        let replies = replies.to_vec();
        self.book().scripts.insert(host.to_owned(), replies);
    }

    /// What has come for `host`.
    pub fn arrived(&self, host: &str) -> Vec<Arrived> {
        let book = self.book();
        let of_host = book.arrived.iter().filter(|arrived| arrived.host == host);
        of_host.cloned().collect()
    }

    /// Everything that has come.
    pub fn all(&self) -> Vec<Arrived> {
        self.book().arrived.clone()
    }

    /// From where connections came.
    pub fn peers(&self) -> Vec<IpAddr> {
        self.book().peers.clone()
    }

    fn reply(&self, host: &str) -> Reply {
        let mut book = self.book();
        let turn = book.answered.entry(host.to_owned()).or_default();
        let at = *turn;
        *turn += 1;
        let scripted = book.scripts.get(host).and_then(|replies| replies.get(at));
        scripted.copied().unwrap_or(Reply {
            on_head: b"",
            bytes: OK,
            then: Then::Keep,
        })
    }

    async fn serve(&self, mut tls: TlsStream<TcpStream>) {
        let host = tls.get_ref().1.server_name().unwrap_or_default().to_owned();
        let connection = {
            let mut book = self.book();
            book.connections += 1;
            book.connections
        };
        let mut unread = Vec::new();
        loop {
            if !read_until(&mut tls, &mut unread, |raw| {
                find(raw, b"\r\n\r\n").is_some()
            })
            .await
            {
                return self.note(&host, connection, unread, false);
            }
            let reply = self.reply(&host);
            if !reply.on_head.is_empty() {
                // It fails only where the gateway is gone, which the reading tells.
                let _ = tls.write_all(reply.on_head).await;
                let _ = tls.flush().await;
            }
            if !read_until(&mut tls, &mut unread, |raw| request_end(raw).is_some()).await {
                return self.note(&host, connection, unread, false);
            }
            let end = request_end(&unread).expect("just seen");
            let rest = unread.split_off(end);
            self.note(
                &host,
                connection,
                std::mem::replace(&mut unread, rest),
                true,
            );
            if tls.write_all(reply.bytes).await.is_err() || tls.flush().await.is_err() {
                return;
            }
            match reply.then {
                Then::Keep => {}
                Then::Late(bytes) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    let _ = tls.write_all(bytes).await;
                    let _ = tls.flush().await;
                }
                Then::Close => {
                    let _ = tls.shutdown().await;
                    return;
                }
                Then::Cut => {
                    let _ = tls.get_mut().0.shutdown().await;
                    return;
                }
                Then::Reset => {
                    // A reset overtakes what was said just before it.
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    tls.get_mut().0.set_zero_linger().expect("a live socket");
                    return;
                }
            }
        }
    }

    fn note(&self, host: &str, connection: usize, raw: Vec<u8>, whole: bool) {
        if raw.is_empty() {
            return;
        }
        self.book().arrived.push(Arrived {
            host: host.to_owned(),
            connection,
            raw,
            whole,
        });
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads on until `enough`; whether it came to that.
async fn read_until(
    tls: &mut TlsStream<TcpStream>,
    unread: &mut Vec<u8>,
    enough: impl Fn(&[u8]) -> bool,
) -> bool {
    while !enough(unread) {
        match tls.read_buf(unread).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
    }
    true
}

/// Where the first request in `raw` ends, if all of it is there.
fn request_end(raw: &[u8]) -> Option<usize> {
    let begin = find(raw, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&raw[..begin]).into_owned();
    let chunked = head_value(&head, "transfer-encoding").is_some();
    let length = head_value(&head, "content-length").map(|text| text.parse().expect("a length"));
    body_end(&raw[begin..], chunked, length.unwrap_or(0)).map(|end| begin + end)
}

/// An authority, and TLS with a certificate of its for every account.
fn authority() -> (String, TlsAcceptor) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["*.cybozu.cn".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .expect("a pair");
    (pem, TlsAcceptor::from(Arc::new(config)))
}
