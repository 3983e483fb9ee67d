//! The way to a server of the store: its connection, and a bound on what comes over it.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use redis::RedisConnectionInfo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::failure::ExchangeError;
use crate::config::{StoreServer, StoreUrl, StoreWire};

/// How a server is reached.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) url: StoreUrl,
    tls: TlsConnector,
    /// Longest wait for a connection to one server, with all that is said before it is of use.
    limit: Duration,
}

/// How many bytes the other side may still send. It is an untrusted one: what it sends is kept until
/// an answer is whole.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Arc<AtomicUsize>);

/// A stream on which no more is read than allowed.
pub(super) struct Bounded<S> {
    stream: S,
    allowance: Allowance,
}

/// A stream to a server.
pub(super) type Stream = Bounded<Box<dyn Duplex>>;

/// Both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Way {
    pub(super) const fn new(url: StoreUrl, tls: TlsConnector, limit: Duration) -> Self {
        Self { url, tls, limit }
    }

    /// Bounds the time of what makes a connection to one server.
    pub(super) async fn in_time<T>(
        &self,
        making: impl Future<Output = Result<T, ExchangeError>>,
    ) -> Result<T, ExchangeError> {
        let limit = self.limit;
        let made = tokio::time::timeout(limit, making).await;
        made.unwrap_or(Err(ExchangeError::ConnectTimeout { limit }))
    }

    /// Connects to a server, over TLS if the URL says so, within [`Self::in_time`].
    pub(super) async fn connect(
        &self,
        server: &StoreServer,
        allowance: Allowance,
    ) -> Result<Stream, ExchangeError> {
        let failed = |source| ExchangeError::Connect {
            server: format!("{}:{}", server.host, server.port),
            source,
        };
        let tcp = TcpStream::connect((server.host.as_str(), server.port))
            .await
            .map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        let stream: Box<dyn Duplex> = match self.url.wire {
            StoreWire::Plain => Box::new(tcp),
            StoreWire::Tls => {
                let name = ServerName::try_from(server.host.clone())
                    .map_err(|error| failed(io::Error::other(error)))?;
                Box::new(self.tls.connect(name, tcp).await.map_err(failed)?)
            }
        };
        Ok(Bounded { stream, allowance })
    }

    /// How one introduces oneself to the store. RESP3: answers and nudges come on one connection.
    pub(super) fn greeting(&self) -> RedisConnectionInfo {
        let greeting = self.login(RedisConnectionInfo::default());
        greeting.set_db(i64::from(self.url.database))
    }

    /// `greeting` with the user and the password.
    pub(super) fn login(&self, greeting: RedisConnectionInfo) -> RedisConnectionInfo {
        let mut greeting = greeting
            .set_protocol(redis::ProtocolVersion::RESP3)
            .set_skip_set_lib_name();
        if let Some(user) = &self.url.user {
            greeting = greeting.set_username(user);
        }
        if let Some(password) = &self.url.password {
            greeting = greeting.set_password(password.expose());
        }
        greeting
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Allowance {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Allows so many bytes from here on.
    pub(super) fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.allowance.0.load(Ordering::Relaxed) == 0 {
            let error = io::Error::new(io::ErrorKind::FileTooLarge, "more than any row has");
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        let left = &self.allowance.0;
        // Recharged meanwhile at most once a beat: what is lost then is allowed again a beat later.
        left.store(
            left.load(Ordering::Relaxed).saturating_sub(bytes),
            Ordering::Relaxed,
        );
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
