//! HTTP inside a connection that was granted, behind the TLS of whoever took it over.

use std::error::Error as StdError;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio_rustls::server::TlsStream;
use tower::Service;

use super::socket::Socket;
use super::{serve, streams};

/// In the extensions of an answer: its connection is to end, when what runs on it has ended.
#[derive(Debug, Clone, Copy)]
pub struct Parting;

/// ALPN of HTTP/2 (RFC 9113 section 3.2).
const H2: &[u8] = b"h2";

/// Serves every call on `stream` with a clone of `service`, in the HTTP that was agreed on, until it
/// closes, runs into a limit or is drained. Limits, answers of our own and the drain are those of the
/// connection that it runs inside.
pub async fn serve_within<S, B>(stream: TlsStream<Socket>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    if stream.get_ref().1.alpn_protocol() == Some(H2) {
        streams::serve(stream, service).await;
    } else {
        serve::serve_secured(stream, service).await;
    }
}
