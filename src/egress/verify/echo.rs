//! Asks one echo, from one of our addresses.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ipnet::Ipv4Net;
use tokio::io::{AsyncRead, AsyncWrite};

use super::judge::Answer;
use crate::egress::dial;
use crate::egress::resolve::{Destinations, Resolved, Resolver};
use crate::egress::verdict::Verdict;
use crate::egress::vet;
use crate::model::{Bind, Denial, Detail, Failure, Host};
use crate::tls::Outbound;

/// An echo of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// Its scheme, host and port: what may be shown of it.
    pub(super) name: String,
    place: Place,
    port: u16,
    host_header: String,
    target: String,
    is_tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Address(Ipv4Addr),
    Name(Host),
}

/// Why an echo said nothing that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was not reached.
    Unreached(Verdict),
    /// No answer within `timeout`.
    Timeout,
    /// The connection broke, or it does not speak HTTP/1.1.
    Broken,
    /// It answered with another status than 200; redirects are not followed.
    Status(u16),
    /// What it answered is not one IPv4 address.
    NoAddress,
}

/// What all echoes are asked with.
pub(super) struct Means<'a> {
    pub(super) resolver: &'a Resolver,
    pub(super) allow_networks: &'a [Ipv4Net],
    pub(super) tls: &'a Outbound,
}

/// So much of an answer is read, in bytes.
const ANSWER_MAX: usize = 256;

/// What the head of an answer may take, in bytes: the least that hyper can do with.
const HEAD_MAX: usize = 8 << 10;

/// The port that a static answer of `[upstream.resolve]` has when it names none.
const PORT_OF_STATIC: u16 = 443;

impl Echo {
    /// Reads the URL of an echo, as the configuration has validated it; `None` if it is no such URL.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let is_tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let host_header = uri.authority()?.as_str().to_owned();
        let place = match host.parse() {
            Ok(address) => Place::Address(address),
            Err(_) => Place::Name(Host::from_normal(&host)),
        };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Some(Self {
            name: format!("{}://{host_header}", uri.scheme_str()?),
            place,
            port,
            host_header,
            target: target.to_owned(),
            is_tls,
        })
    }

    /// Asks it from `bind`. The caller bounds the time.
    pub(super) async fn ask(&self, bind: Bind, means: &Means<'_>) -> Answer {
        match self.answer(bind, means).await {
            Ok(seen) => Answer::Saw(seen),
            Err(trouble) => Answer::Nothing(trouble),
        }
    }

    async fn answer(&self, bind: Bind, means: &Means<'_>) -> Result<Ipv4Addr, Trouble> {
        let destinations = self.destinations(means).await.map_err(Trouble::Unreached)?;
        let dialled = dial::dial(bind, &destinations).await;
        let (stream, _) = dialled.map_err(|(verdict, _)| Trouble::Unreached(verdict))?;
        if !self.is_tls {
            return self.exchange(stream).await;
        }
        let name = match &self.place {
            Place::Address(address) => Host::from_normal(&address.to_string()),
            Place::Name(host) => host.clone(),
        };
        let shaken = means.tls.handshake(&name, stream).await;
        let stream = shaken.map_err(|failure| Trouble::Unreached(Verdict::Failed(failure)))?;
        self.exchange(stream).await
    }

    /// Where it may be dialled: an address that the operator wrote down anywhere, a name at public
    /// addresses and those of `allow_networks`, as kintone's are.
    async fn destinations(&self, means: &Means<'_>) -> Result<Destinations, Verdict> {
        let host = match &self.place {
            Place::Address(address) => {
                let only = SocketAddrV4::new(*address, self.port);
                return Ok(Destinations::from_iter([only]));
            }
            Place::Name(host) => host,
        };
        let resolved = means.resolver.resolve(host).await;
        let resolved = resolved.map_err(|detail| Verdict::Failed(Failure::Dns(detail)))?;
        let mut destinations = match resolved {
            Resolved::Static(of) | Resolved::Looked(of) => of,
        };
        destinations.retain(|to| vet::is_allowed(*to.ip(), means.allow_networks));
        for to in &mut destinations {
            if to.port() == PORT_OF_STATIC {
                to.set_port(self.port);
            }
        }
        if destinations.is_empty() {
            let denial = Denial::DestinationForbidden(Detail::AddressForbidden);
            return Err(Verdict::Denied(denial));
        }
        Ok(destinations)
    }

    async fn exchange<S>(&self, stream: S) -> Result<Ipv4Addr, Trouble>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut http = http1::Builder::new();
        http.max_buf_size(HEAD_MAX);
        let (mut sender, connection) = http
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Trouble::Broken)?;
        let request = self.request().ok_or(Trouble::Broken)?;
        let exchange = async {
            let sent = sender.send_request(request).await;
            read(sent.map_err(|_| Trouble::Broken)?).await
        };
        let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
        tokio::select! {
            biased;
            seen = &mut exchange => seen,
            // It may have ended because the answer is complete.
            _ = &mut connection => exchange.await,
        }
    }

    fn request(&self) -> Option<Request<Empty<Bytes>>> {
        let request = Request::get(self.target.as_str())
            .header(HOST, self.host_header.as_str())
            .header(
                USER_AGENT,
                concat!("kintone-egress/", env!("CARGO_PKG_VERSION")),
            )
            .header(ACCEPT, "text/plain")
            .header(ACCEPT_ENCODING, "identity")
            .header(CONNECTION, "close");
        request.body(Empty::new()).ok()
    }
}

/// The address in an answer: its whole text.
async fn read(response: Response<Incoming>) -> Result<Ipv4Addr, Trouble> {
    if response.status() != StatusCode::OK {
        return Err(Trouble::Status(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await;
    let body = body.map_err(|_| Trouble::NoAddress)?.to_bytes();
    let text = std::str::from_utf8(&body).ok();
    let address = text.and_then(|text| text.trim().parse().ok());
    address.ok_or(Trouble::NoAddress)
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreached(verdict) => f.write_str(verdict.word()),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Broken => f.write_str("the connection broke"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::NoAddress => f.write_str("the answer is not one IPv4 address"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saw(seen) => write!(f, "sees {seen}"),
            Self::Nothing(trouble) => trouble.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_what_to_ask() {
        let echo = Echo::parse("https://Echo.example/ip?key=secret").unwrap();
        assert_eq!(echo.place, Place::Name(Host::from_normal("echo.example")));
        assert_eq!((echo.port, echo.is_tls), (443, true));
        assert_eq!(echo.target, "/ip?key=secret");
        assert_eq!(
            echo.name, "https://Echo.example",
            "without what may be secret"
        );
        let echo = Echo::parse("http://192.0.2.1:8080").unwrap();
        assert_eq!(echo.place, Place::Address([192, 0, 2, 1].into()));
        assert_eq!((echo.port, echo.target.as_str()), (8080, "/"));
        assert_eq!(echo.host_header, "192.0.2.1:8080");
        assert_eq!(Echo::parse("ftp://echo.example/"), None);
        assert_eq!(Echo::parse("/ip"), None);
    }
}
