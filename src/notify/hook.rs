//! The operators' webhook: one POST of JSON for each message, over a connection of its own.
//!
//! It is reached as the mail server is, from whatever address this host uses by itself. Redirects are not
//! followed, and nothing that the server says beside its status and `Retry-After` is read.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::failure::SendError;
use crate::config::Notify;

/// The header by which a message that comes again is known; its JSON says the same as `id`.
pub const ID_HEADER: &str = "idempotency-key";

/// What the head of an answer may take, in bytes: the least that hyper can do with.
const HEAD_MAX: usize = 8 << 10;

/// Where the webhook is. Its path and query are secrets.
#[derive(Clone)]
pub struct Place {
    host: String,
    port: u16,
    authority: String,
    target: String,
    scheme: Scheme,
    timeout: Duration,
}

/// How it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear: the configuration allows it on this machine alone.
    Clear,
    /// Over TLS.
    Tls,
}

/// The webhook.
#[derive(Clone)]
pub struct Hook {
    place: Place,
    /// `None`: it is spoken to in the clear.
    tls: Option<TlsConnector>,
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Unreached(#[from] io::Error),
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    #[error("its URL cannot be used")]
    Url,
}

impl Place {
    /// The webhook of `[notify]`; `None` if there is none.
    #[must_use]
    pub fn of(notify: &Notify) -> Option<Self> {
        let url = notify.webhook.as_ref()?.expose();
        // The configuration has judged its form.
        let uri: Uri = url.parse().ok()?;
        let (scheme, default_port) = match uri.scheme_str()? {
            "https" => (Scheme::Tls, 443),
            _ => (Scheme::Clear, 80),
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Some(Self {
            host: uri.host()?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            authority: uri.authority()?.as_str().to_owned(),
            target: target.to_owned(),
            scheme,
            timeout: notify.spool.timeout,
        })
    }

    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }
}

/// Host and port: no more of it may be shown.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Hook {
    /// The webhook at a place; over TLS if that is given.
    #[must_use]
    pub const fn new(place: Place, tls: Option<TlsConnector>) -> Self {
        Self { place, tls }
    }

    /// Posts a message under its identifier.
    ///
    /// # Errors
    /// [`SendError`], without what is secret of the URL.
    pub async fn post(&self, id: &str, body: Vec<u8>) -> Result<(), SendError> {
        let Said { status, wait } = self.in_time(self.exchange(id, body)).await?;
        judge(status, wait)
    }

    /// Connects, TLS included, and says nothing.
    ///
    /// # Errors
    /// [`SendError::Server`].
    pub async fn reach(&self) -> Result<(), SendError> {
        let reaching = async {
            let stream = self.connect().await?;
            if let Some(tls) = &self.tls {
                self.shake_hands(tls, stream).await?;
            }
            Ok(())
        };
        self.in_time(reaching).await
    }

    /// What it comes to within the time that is allowed.
    async fn in_time<T>(
        &self,
        doing: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, SendError> {
        let patience = self.place.timeout;
        let said = match timeout(patience, doing).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(trouble)) => trouble.to_string(),
            Err(_) => format!("no answer within {patience:?}"),
        };
        Err(SendError::Server(format!("{}: {said}", self.place)))
    }

    async fn exchange(&self, id: &str, body: Vec<u8>) -> Result<Said, Trouble> {
        let request = self.request(id, body)?;
        let stream = self.connect().await?;
        match &self.tls {
            Some(tls) => ask(self.shake_hands(tls, stream).await?, request).await,
            None => ask(stream, request).await,
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let Place { host, port, .. } = &self.place;
        TcpStream::connect((host.as_str(), *port)).await
    }

    async fn shake_hands(
        &self,
        tls: &TlsConnector,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, Trouble> {
        let name = ServerName::try_from(self.place.host.clone()).map_err(|_| Trouble::Url)?;
        Ok(tls.connect(name, stream).await?)
    }

    fn request(&self, id: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, Trouble> {
        let request = Request::post(self.place.target.as_str())
            .header(HOST, self.place.authority.as_str())
            .header(
                USER_AGENT,
                concat!("kintone-egress/", env!("CARGO_PKG_VERSION")),
            )
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(CONNECTION, "close");
        request.body(Full::from(body)).map_err(|_| Trouble::Url)
    }
}

/// What is read of an answer.
struct Said {
    status: StatusCode,
    wait: Option<Duration>,
}

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Said, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_MAX);
    let (mut sender, connection) = http.handshake(TokioIo::new(stream)).await?;
    let asking = sender.send_request(request);
    let answer = beside(connection, asking).await?;
    let wait = answer.headers().get(RETRY_AFTER);
    let wait = wait.and_then(|value| value.to_str().ok());
    Ok(Said {
        status: answer.status(),
        wait: wait.and_then(|value| retry_after(value, Timestamp::now())),
    })
}

/// The wait that `Retry-After` asks for: seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::parse(value.trim()).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

/// Drives a connection until its one request is answered.
async fn beside<T>(connection: impl Future, asking: impl Future<Output = T>) -> T {
    let (mut connection, mut asking) = (std::pin::pin!(connection), std::pin::pin!(asking));
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        // It may have ended because the answer is complete.
        _ = &mut connection => asking.await,
    }
}

/// What a status means for the message.
fn judge(status: StatusCode, wait: Option<Duration>) -> Result<(), SendError> {
    let said = format!("status {}", status.as_u16());
    Err(match (status, wait) {
        _ if status.is_success() => return Ok(()),
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => {
            SendError::Busy { said, wait }
        }
        (
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT,
            _,
        ) => SendError::Server(said),
        (StatusCode::REQUEST_TIMEOUT, _) => SendError::Later(said),
        _ if status.is_server_error() => SendError::Later(said),
        _ => SendError::Refused(said),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn a_url_says_where_and_how() {
        for (url, expected) in [
            (
                "https://hooks.example/a?b=c",
                ("hooks.example", 443, "hooks.example", "/a?b=c", Scheme::Tls),
            ),
            (
                "http://[::1]:81",
                ("::1", 81, "[::1]:81", "/", Scheme::Clear),
            ),
        ] {
            let notify = Notify {
                webhook: Some(Secret::new(url.to_owned())),
                ..Notify::for_tests()
            };
            let place = Place::of(&notify).unwrap();
            let found = (
                place.host.as_str(),
                place.port,
                place.authority.as_str(),
                place.target.as_str(),
                place.scheme,
            );
            assert_eq!(found, expected, "{url}");
        }
        assert!(Place::of(&Notify::for_tests()).is_none());
    }

    #[test]
    fn a_status_says_whether_it_is_tried_again() {
        let words = |status: u16, wait| match judge(StatusCode::from_u16(status).unwrap(), wait) {
            Ok(()) => "taken",
            Err(SendError::Server(_)) => "server",
            Err(SendError::Busy { .. }) => "busy",
            Err(SendError::Later(_)) => "later",
            Err(SendError::Refused(_)) => "refused",
            Err(SendError::Never(_)) => "never",
        };
        for (status, expected) in [
            (200, "taken"),
            (204, "taken"),
            (301, "refused"),
            (400, "refused"),
            (404, "refused"),
            (408, "later"),
            (429, "server"),
            (500, "later"),
            (503, "server"),
        ] {
            assert_eq!(words(status, None), expected, "{status}");
            let asked = match status {
                429 | 503 => "busy",
                _ => expected,
            };
            let wait = Some(Duration::from_secs(1));
            assert_eq!(words(status, wait), asked, "{status}");
        }
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        let now = "2026-11-26T02:05:10Z".parse().unwrap();
        let secs = |secs| Some(Duration::from_secs(secs));
        for (value, expected) in [
            ("120", secs(120)),
            (" 0 ", secs(0)),
            ("Thu, 26 Nov 2026 02:07:10 GMT", secs(120)),
            ("Thu, 26 Nov 2026 02:05:00 GMT", None),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), expected, "{value:?}");
        }
    }
}
