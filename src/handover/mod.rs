//! Connections to the other hosts of the fleet, over which calls are handed to the host that owns the
//! address that an account accepts.
//!
//! A connection carries one call at a time, or one tunnel. Its first word asks the other host whether
//! it is ready: with that answer it has taken our certificate, which TLS 1.3 by itself does not tell
//! (RFC 8446 section 4.4.2.4), so that nothing of a call is sent to a host that refuses us. A host
//! that cannot be reached is left alone for a pause that grows. Nothing is repeated here, and nothing
//! is known of what a call is.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::{Config, Peer};
use crate::tls::{PeerTls, PeerTlsError};

pub use checkout::{Checkout, Kept, Reuse, SendFailure};
pub use failure::Unreached;

mod checkout;
mod connect;
mod failure;
mod health;
mod other;
mod place;

use other::{Other, Terms};
use place::Idle;

/// How often connections that were idle for too long are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What one connection reads ahead at most, in bytes: two records of TLS.
const BUFFER_MAX: usize = 32 << 10;

/// The other hosts of the fleet. `B` is the body of requests to them.
pub struct Peers<B> {
    hosts: BTreeMap<String, Arc<Other<B>>>,
    terms: ArcSwap<Terms>,
    http: http1::Builder,
}

impl<B> Peers<B> {
    /// The other hosts of `config`; `None` where calls are not handed to any.
    ///
    /// # Errors
    /// [`PeerTlsError`], such as for a key that cannot sign.
    pub fn new(config: &Config) -> Result<Option<Arc<Self>>, PeerTlsError> {
        let Some(peer) = &config.fleet.peer else {
            return Ok(None);
        };
        let own = &config.fleet.host;
        let hosts = peer.listen.iter().filter(|(name, _)| *name != own);
        let hosts = hosts.map(|(name, address)| {
            let other = Other {
                name: name.clone(),
                address: *address,
                open: Arc::default(),
                state: Mutex::default(),
            };
            (name.clone(), Arc::new(other))
        });
        let head_size = config.limits.head_size;
        let mut http = http1::Builder::new();
        http.preserve_header_case(true)
            .max_header_size(head_size)
            .max_buf_size(head_size.max(BUFFER_MAX));
        Ok(Some(Arc::new(Self {
            hosts: hosts.collect(),
            terms: ArcSwap::from_pointee(Terms::new(peer, PeerTls::new(peer, own)?)),
            http,
        })))
    }

    /// Connections made from here on are as `peer` says, with its certificate in `tls`; those that are
    /// idle are closed.
    pub fn reload(&self, peer: &Peer, tls: PeerTls) {
        self.terms.store(Arc::new(Terms::new(peer, tls)));
        for other in self.hosts.values() {
            other.state().idle.clear();
        }
    }

    /// Whether that host would be tried now; one that was not reachable a moment ago is not.
    #[must_use]
    pub fn is_up(&self, host: &str) -> bool {
        let other = self.hosts.get(host);
        other.is_some_and(|other| other.state().health.left(Instant::now()).is_none())
    }

    /// Connections to each host that there are, idle ones included.
    pub fn connections(&self) -> impl Iterator<Item = (&str, usize)> {
        let hosts = self.hosts.iter();
        hosts.map(|(name, other)| (name.as_str(), other.open.load(Ordering::Relaxed)))
    }

    /// Closes connections that were idle for too long. Never returns.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(SWEEP_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = tick.tick().await;
            let idle = self.terms.load().idle;
            for other in self.hosts.values() {
                let is_young = |one: &Idle<B>| now.duration_since(one.since) < idle;
                other.state().idle.retain(is_young);
            }
        }
    }
}

impl<B> Peers<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A connection to `host` that is ready for one call: an idle one that `reuse` allows, or a new one
    /// within `connect_timeout`, by a question whose body is `nothing`.
    ///
    /// # Errors
    /// [`Unreached`]; nothing was sent.
    pub async fn checkout(
        self: &Arc<Self>,
        host: &str,
        reuse: Reuse,
        nothing: B,
    ) -> Result<Checkout<B>, Unreached> {
        let other = self.hosts.get(host).ok_or(Unreached::Unknown)?;
        let terms = self.terms.load_full();
        if let Some(checkout) = other.take(reuse, &terms).await {
            return Ok(checkout);
        }
        let place = other.place(terms.connections)?;
        let connecting = connect::connect(&self.http, &terms.tls, other, place, nothing);
        let made = match tokio::time::timeout(terms.connect_timeout, connecting).await {
            Ok(made) => made,
            Err(_) => Err(Unreached::Timeout),
        };
        other.note(made.as_ref().err());
        Ok(Checkout::new(Arc::clone(other), made?, terms.idle))
    }
}
