//! `echo`: answers each caller with the address that it comes from, so that gateways elsewhere can see
//! as which one they leave (`[verify]`).
//!
//! What counts is the socket's peer. No header of a caller or of a proxy before it is believed: an echo
//! behind a proxy or a translation would say what that one is called.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// An echo to open.
#[derive(Debug)]
pub struct EchoOrder {
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The files of its certificate with the chain and of its key, PEM; `None`: plain HTTP.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How many callers are served at once; further ones wait to be accepted.
    pub connections: u32,
}

/// An echo whose listeners are bound and which answers nobody yet.
pub struct Echo {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

struct Shared {
    files: Option<(PathBuf, PathBuf)>,
    tls: ArcSwapOption<ServerConfig>,
    places: Arc<Semaphore>,
}

/// Why there is no echo.
#[derive(Debug, thiserror::Error)]
pub enum EchoError {
    /// A listener cannot be bound.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The certificate or the key cannot be read.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// They do not belong together.
    #[error("the certificate and its key: {0}")]
    Tls(#[from] rustls::Error),
    /// The runtime does not take a listener.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Longest life of a connection, its handshake and its one answer included.
const LIFE_MAX: Duration = Duration::from_secs(10);

/// What the head of a request may take, in bytes.
const HEAD_MAX: usize = 8 << 10;

/// Pause after a connection could not be accepted for want of a resource.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Echo {
    /// Reads the certificate and binds the listeners.
    ///
    /// # Errors
    /// [`EchoError`].
    pub fn open(order: EchoOrder) -> Result<Self, EchoError> {
        let bind = |address: SocketAddr| {
            let listener = TcpListener::bind(address);
            listener.map_err(|error| EchoError::Listen(address, error))
        };
        let tls = order.tls.as_ref().map(read).transpose()?;
        Ok(Self {
            listeners: order
                .listen
                .into_iter()
                .map(bind)
                .collect::<Result<_, _>>()?,
            shared: Arc::new(Shared {
                files: order.tls,
                tls: ArcSwapOption::new(tls),
                places: Arc::new(Semaphore::new(order.connections as usize)),
            }),
        })
    }

    /// Answers until `reloads` has no sender any more; each message of it has the certificate read again.
    ///
    /// # Errors
    /// [`EchoError::Io`] if the runtime does not take a listener.
    pub async fn serve(self, mut reloads: mpsc::Receiver<()>) -> Result<(), EchoError> {
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tracing::info!(listen = %listener.local_addr()?, tls = self.shared.files.is_some(), "echo");
            accepting.spawn(accept(listener, Arc::clone(&self.shared)));
        }
        while let Some(()) = reloads.recv().await {
            match self.shared.files.as_ref().map(read).transpose() {
                Ok(tls) => {
                    self.shared.tls.store(tls);
                    tracing::info!("the certificate was read again");
                }
                Err(error) => tracing::error!(%error, "the old certificate stays"),
            }
        }
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    loop {
        let place = Arc::clone(&shared.places).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let tls = shared.tls.load_full();
                tokio::spawn(async move {
                    // Whoever does not get an answer in time is gone, or slow on purpose.
                    let _ = timeout(LIFE_MAX, serve(stream, peer, tls)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerConfig>>) {
    match tls {
        None => answer(stream, peer).await,
        Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
            Ok(stream) => answer(stream, peer).await,
            Err(error) => tracing::debug!(%error, "a handshake failed"),
        },
    }
}

async fn answer<S>(stream: S, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| async move {
        Ok::<_, Infallible>(said(request.method(), peer))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LIFE_MAX)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = connection {
        tracing::debug!(%error, "a connection broke");
    }
}

/// The answer to one request: one a connection, as each is to tell as which address it leaves.
fn said(method: &Method, peer: SocketAddr) -> Response<Full<Bytes>> {
    let (status, text) = match *method {
        Method::GET | Method::HEAD => (StatusCode::OK, format!("{}\n", peer.ip().to_canonical())),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (CONNECTION, "close"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    answer
}

fn read((certificate, key): &(PathBuf, PathBuf)) -> Result<Arc<ServerConfig>, EchoError> {
    let fault = |path: &PathBuf, problem: String| EchoError::File {
        path: path.clone(),
        problem,
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(certificate, error.to_string()))?;
    let key_of = PrivateKeyDer::from_pem_file(key);
    let key = key_of.map_err(|error| fault(key, error.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
