//! Connections of other hosts of ours: TLS first, then HTTP/1 under the limits of any connection.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tower::Service;

use super::serve::serve_peer;
use super::{Server, Socket};

/// Which host a request comes from, as its certificate says. It stands in the extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerName(pub Arc<str>);

impl Server {
    /// Accepts from `listener` as [`Self::serve`] does. `shake_hands` answers TLS and says which host
    /// is at the other end; without an answer of it within `limits.handshake_timeout` the connection
    /// is closed, and nothing of it is read as HTTP.
    pub async fn serve_peers<H, F, S, B>(&self, listener: TcpListener, shake_hands: H, service: S)
    where
        H: Fn(Socket) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Option<(PeerName, TlsStream<Socket>)>> + Send,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn StdError + Send + Sync>>,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut stopping = std::pin::pin!(self.terms.drain.stopping());
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stopping => return,
                accepted = self.accept(&listener) => accepted,
            };
            let Some(connection) = accepted else { continue };
            let limit = self.terms.limits.load().handshake_timeout;
            let (shake_hands, service) = (shake_hands.clone(), service.clone());
            tokio::spawn(self.terms.drain.track(async move {
                let socket = Socket::within(connection, Bytes::new());
                let shaking = Box::pin(shake_hands(socket));
                if let Ok(Some((peer, stream))) = timeout(limit, shaking).await {
                    serve_peer(stream, peer, service).await;
                }
            }));
        }
    }
}
