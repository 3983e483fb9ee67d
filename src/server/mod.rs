//! Callers' connections: accept, serve HTTP/1, hand over, serve what runs inside, close.
//!
//! It knows a `tower::Service` and nothing of what that does. What it guards is that a caller can
//! neither use up the gateway (places, slow heads, stalled reads) nor be answered in any words but
//! ours.
//!
//! Path of a connection: it waits in the kernel until a place among `limits.connections` is free, is
//! accepted and counted for its network address; `serve` runs hyper over `guard` and watches the
//! limits; it ends by a close that lets the last answer arrive, or is taken over by `upgraded`. Who
//! took it over may speak TLS on its `Socket` and have `within` serve HTTP/1 or HTTP/2 (`streams`)
//! inside, under the same limits. The place is given back when the last `Arc<Connection>` is dropped.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use nix::libc;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tower::Service;

use crate::config::Limits;
use crate::descriptors::{self, Room};
use crate::drain::Drain;
use crate::model::{Client, Detail};

pub use connection::Connection;
pub use guard::Hooks;
pub use join::join;
pub use peers::PeerName;
pub use socket::Socket;
pub use upgrade::{UpgradeError, Upgraded, upgraded};
pub use within::{Parting, serve_within};

use connection::Stay;
use slots::{Place, Slots};
use terms::Terms;

mod connection;
mod guard;
mod heads;
mod interim;
mod join;
mod linger;
mod peers;
mod pulse;
mod serve;
mod slots;
mod socket;
mod streams;
mod terms;
mod upgrade;
mod within;

/// Pause after an accept that failed for want of a resource: others give it back meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves callers. Clones share the count of connections, so that one serves each listener.
#[derive(Debug, Clone)]
pub struct Server {
    terms: Arc<Terms>,
    slots: Arc<Slots>,
}

impl Server {
    /// A server under `limits`, which a reload may replace: connections accepted from then on are
    /// held to the new ones.
    #[must_use]
    pub fn new(limits: Arc<ArcSwap<Limits>>, drain: Drain, hooks: Hooks) -> Self {
        Self {
            terms: Arc::new(Terms {
                limits,
                drain,
                hooks,
            }),
            slots: Arc::default(),
        }
    }

    /// To be called after the limits were replaced: a raised `connections` lets in at once who waits.
    pub fn limits_changed(&self) {
        self.slots.look_again();
    }

    /// Connections that callers hold.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.slots.len()
    }

    /// Accepts from `listener` and serves every connection with a clone of `service`, until the
    /// drain stops. Connections go on after that; `Drain::idle` waits for them.
    ///
    /// A service's error or panic ends its connection by a reset. A refused `CONNECT` closes its
    /// connection, as does any answer once the drain is announced.
    pub async fn serve<S, B>(&self, listener: TcpListener, service: S)
    where
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
            let serving = serve::serve_connection(connection, service.clone());
            tokio::spawn(self.terms.drain.track(serving));
        }
    }

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
                    serve::serve_peer(stream, peer, service).await;
                }
            }));
        }
    }

    /// The next connection; `None` if it was refused or broke at once.
    async fn accept(&self, listener: &TcpListener) -> Option<Arc<Connection>> {
        // Looked for before, so that what has no place waits in the kernel; taken after, so that an
        // idle listener does not keep a place from a busy one.
        drop(self.place().await);
        match listener.accept().await {
            Ok((stream, client)) => self.admit(self.place().await, stream, Client(client)),
            Err(error) => {
                self.survive(&error).await;
                None
            }
        }
    }

    async fn place(&self) -> Place {
        let mut told = false;
        loop {
            let freed = self.slots.freed();
            if let Some(place) = self.slots.try_place(self.terms.limits.load().connections) {
                return place;
            }
            if !told {
                (self.terms.hooks.limit_hit)(Detail::Connections);
                told = true;
            }
            freed.await;
        }
    }

    fn admit(&self, place: Place, stream: TcpStream, client: Client) -> Option<Arc<Connection>> {
        let limit = self.terms.limits.load().connections_per_network_address;
        let Some(slot) = place.of(client.0.ip(), limit) else {
            return self.turn_away(&stream, Detail::ConnectionsPerAddress);
        };
        let stay = match descriptors::room(&stream) {
            Room::Ample => Stay::Long,
            Room::Tight | Room::Scarce => {
                (self.terms.hooks.limit_hit)(Detail::FileDescriptors);
                Stay::OneCall
            }
            Room::Gone => return self.turn_away(&stream, Detail::FileDescriptors),
        };
        // Answers are written whole: waiting for more to send would only delay them. It fails only
        // on a connection that was reset, which the first read will tell.
        let _ = stream.set_nodelay(true);
        let terms = Arc::clone(&self.terms);
        Some(Arc::new(Connection::new(client, stream, slot, stay, terms)))
    }

    fn turn_away(&self, stream: &TcpStream, why: Detail) -> Option<Arc<Connection>> {
        (self.terms.hooks.limit_hit)(why);
        // A reset leaves no TIME_WAIT behind; it fails only on a socket that is gone.
        let _ = stream.set_zero_linger();
        None
    }

    /// Bears an error of `accept`: one of the connection's own is nothing to us, one for want of a
    /// resource asks for patience. Neither ends the server.
    async fn survive(&self, error: &io::Error) {
        match error.raw_os_error() {
            // accept(2): errors of the new connection, and a firewall's refusal.
            Some(
                libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::EPROTO
                | libc::EPERM
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::EOPNOTSUPP
                | libc::ENETUNREACH
                | libc::EINTR,
            ) => return,
            Some(libc::EMFILE | libc::ENFILE) => {
                (self.terms.hooks.limit_hit)(Detail::FileDescriptors);
            }
            Some(libc::ENOBUFS | libc::ENOMEM) => (self.terms.hooks.limit_hit)(Detail::Memory),
            _ => {}
        }
        tracing::warn!(%error, "cannot accept connections; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
