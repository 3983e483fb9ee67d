//! The one way out: which address a call leaves from, where it may go, and the connections.
//!
//! Nothing else of the program binds or connects a socket towards kintone. A connection is made in
//! this order: the address is on this host, the name resolves, the answer is vetted, the address
//! judged is the address dialled, TLS, an echo's word if there are any. Nothing is repeated here, and
//! nothing is known of quotas.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};

use crate::client::Client;
use crate::config::{AddressState, Config};
use crate::model::{Denial, Detail, Failure, Host, Published};
use crate::tls::Outbound;

pub use acceptance::{Acceptance, Known, Pace, Standing, State, Taken, Way};
pub use line::{Arrival, Fence};
pub use nameserver::ResolverError;
pub use observer::Hear;
pub use pool::Checkout;
pub use preview::{Preview, preview};
pub use reuse::{Kept, Reuse, SendError};
pub use snapshot::{AddressSnapshot, Presence};
pub use source::{Addresses, OpenConnection, Source};
pub use verdict::{ConnectError, Connected, EgressError, Timings, Verdict};
pub use witness::Witness;

pub mod acceptance;
mod dial;
mod find;
mod line;
mod nameserver;
mod observer;
mod pool;
mod preview;
mod proof;
mod resolve;
mod reuse;
mod snapshot;
mod source;
mod speak;
mod verdict;
pub mod verify;
pub mod vet;
mod witness;

use find::Finder;
use line::{Line, Wire};
use nameserver::Nameservers;
use observer::Observer;
use pool::{Made, Pool, PoolLimits};
use proof::Proof;
use resolve::Resolver;
use source::{Address, Usage};
use speak::speak;
use verify::{Around, Rules, Verifier};

/// The one way out. `B` is the body of requests to kintone.
pub struct Egress<B> {
    addresses: Arc<Addresses>,
    acceptance: Acceptance,
    finder: Finder,
    connect_timeout: Duration,
    tls: Arc<ArcSwap<Outbound>>,
    http: http1::Builder,
    pool: Arc<Pool<B>>,
    observer: Observer,
    verifier: Verifier,
}

/// How often it is looked whether the addresses are on this host.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl<B: Send + 'static> Egress<B> {
    /// Reads what the configuration says, and looks which addresses are on this host.
    ///
    /// # Errors
    /// [`EgressError`] if no name could be resolved.
    pub fn new(config: &Config, tls: Outbound) -> Result<Arc<Self>, EgressError> {
        let upstream = &config.upstream;
        let (statics, time) = (upstream.resolve.clone(), upstream.connect_timeout);
        let resolver = Resolver::new(statics, Nameservers::within(time), time)?;
        let rules = config.verify.as_ref().map(Rules::new);
        let addresses = Arc::new(match &rules {
            Some(_) => Addresses::unproven(&config.addresses),
            None => Addresses::new(&config.addresses),
        });
        let acceptance = Acceptance::new(config, Arc::clone(&addresses));
        let pool = Arc::new(Pool::new(PoolLimits::of(upstream), Arc::clone(&addresses)));
        let tls = Arc::new(ArcSwap::from_pointee(tls));
        let around = Around {
            addresses: Arc::clone(&addresses),
            resolver: resolver.clone(),
            allow_networks: upstream.allow_networks.clone(),
            tls: Arc::clone(&tls),
            close: pool.closing(),
        };
        Ok(Arc::new(Self {
            verifier: Verifier::new(rules, around),
            finder: Finder {
                resolver,
                allow_networks: upstream.allow_networks.clone(),
                addresses: Arc::clone(&addresses),
            },
            connect_timeout: upstream.connect_timeout,
            tls,
            http: speak(config.limits.head_size),
            pool,
            addresses,
            acceptance,
            observer: Observer::default(),
        }))
    }

    /// The next usable address, in turn.
    ///
    /// # Errors
    /// [`Denial::EgressUnavailable`] if none is in use, or none of those is on this host and, with
    /// `[verify]`, seen from outside as published. Then nothing may leave.
    pub fn choose(&self) -> Result<Source, Denial> {
        self.addresses.choose()
    }

    /// Which accounts take which address.
    pub const fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }

    /// Uses the addresses that are published as active from here on, and no other. Idle connections
    /// of those that were are closed; calls under way end on theirs.
    pub fn obey(&self, states: &[(Published, AddressState)]) {
        self.acceptance.obey(states);
        for left in self.addresses.obey(states) {
            self.pool.close(left);
        }
    }

    /// Whether calls can leave as `published` from this host at this instant: it is in use, here, and
    /// with `[verify]` seen from outside as published. It costs a few atomic loads.
    #[must_use]
    pub fn is_usable(&self, published: Published) -> bool {
        self.addresses.is_usable(published)
    }

    /// Who asks how the internet sees the addresses.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Tells `hear` of each connection from here on; the first one that is given stays.
    pub fn observe(&self, hear: Hear) {
        self.observer.set(hear);
    }

    /// Connections made from here on are verified by `tls`.
    pub fn trust(&self, tls: Outbound) {
        self.tls.store(Arc::new(tls));
    }

    /// Connects to `host` from `source`, within `connect_timeout`, and waits for an echo's word if it has
    /// to. TLS is the caller's own.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent.
    pub async fn connect(&self, host: &Host, source: Source) -> Result<Connected, ConnectError> {
        let from = (source, Usage::Calls);
        let connecting = self.connect_by(host, from, self.deadline(), &[]);
        let mut connected = connecting.await?;
        let (timings, upstream) = (connected.timings, connected.upstream);
        let proven = self.prove(connected.proof.take(), from).await;
        proven.map_err(|denial| ConnectError::denied_at(denial, timings, upstream))?;
        Ok(connected)
    }

    /// Where `host` may be dialled, within `connect_timeout`; at least one place. Nothing is sent but
    /// queries of names.
    ///
    /// # Errors
    /// [`Verdict`]: it cannot be resolved, or no place of it is allowed.
    pub async fn look_up(&self, host: &Host) -> Result<Vec<SocketAddrV4>, Verdict> {
        let mut timings = Timings::default();
        let found = self.finder.find(host, self.deadline(), &mut timings);
        Ok(found.await?.to_vec())
    }

    /// What every address with a bind on this host is like at this instant.
    #[must_use]
    pub fn addresses(&self) -> Vec<AddressSnapshot> {
        let snapshots = self.addresses.snapshots();
        snapshots
            .map(|snapshot| AddressSnapshot {
                pooled: self.pool.count(snapshot.bind),
                ..snapshot
            })
            .collect()
    }

    /// Looks every second which addresses are on this host, and closes idle connections of those
    /// that have left, and those idle for too long. Never returns.
    pub async fn watch(&self) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.addresses.look().for_each(|left| self.pool.close(left));
            self.pool.sweep(Instant::now());
        }
    }

    /// The address that a call is about to leave from, if it is on this host at this instant.
    fn here(&self, source: Source, usage: Usage) -> Result<Arc<Address>, Denial> {
        let usable = self.addresses.usable_for(source.bind, usage);
        if usable.is_err() {
            self.pool.close(source.bind);
        }
        usable.cloned()
    }

    /// Waits until the connection may carry a call; then the address may have been shut.
    async fn prove(&self, proof: Option<Proof>, from: (Source, Usage)) -> Result<(), Denial> {
        if let Some(proof) = proof {
            proof.given().await?;
        }
        self.here(from.0, from.1).map(drop)
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.connect_timeout
    }

    async fn connect_by(
        &self,
        host: &Host,
        (source, usage): (Source, Usage),
        deadline: Instant,
        tried: &[SocketAddrV4],
    ) -> Result<Connected, ConnectError> {
        let mut timings = Timings::default();
        let fail = ConnectError::new;
        let address = self.here(source, usage).map_err(ConnectError::denied)?;
        let mut destinations = self
            .finder
            .find(host, deadline, &mut timings)
            .await
            .map_err(|verdict| fail(verdict, timings, None))?;
        destinations.retain(|to| !tried.contains(to));
        let started = Instant::now();
        let dialled = dial::dial_until(deadline, source.bind, &destinations).await;
        timings.connect = Some(started.elapsed());
        // It may have been shut meanwhile.
        let dialled = dialled.and_then(|(stream, upstream)| {
            let usable = self.addresses.usable_for(source.bind, usage);
            usable.map_err(|denial| (Verdict::Denied(denial), Some(upstream)))?;
            Ok((stream, upstream))
        });
        match dialled {
            Ok((stream, upstream)) => {
                self.observer.tell(host, &stream);
                Ok(Connected {
                    stream,
                    upstream,
                    source,
                    timings,
                    open: OpenConnection::new(&address),
                    proof: Proof::of(&address),
                })
            }
            Err((verdict, upstream)) => {
                match verdict {
                    Verdict::Denied(Denial::EgressUnavailable(Detail::AddressAbsent)) => {
                        address.set(Presence::Absent);
                        self.pool.close(source.bind);
                    }
                    // What is idle has what is wanted: the next call finds it.
                    Verdict::Denied(Denial::Overloaded(_)) => self.pool.close(source.bind),
                    Verdict::Denied(_) | Verdict::Failed(_) => {}
                }
                Err(fail(verdict, timings, upstream))
            }
        }
    }
}

impl<B> Egress<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A connection to `host` from `source` that is ready for one call: an idle one that `reuse`
    /// allows, or a new one with TLS, within `connect_timeout`.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent.
    pub async fn checkout(
        &self,
        host: &Host,
        source: Source,
        reuse: Reuse,
    ) -> Result<Checkout<B>, ConnectError> {
        if let Err(denial) = self.here(source, Usage::Calls) {
            return Err(ConnectError::denied(denial));
        }
        if let Some(checkout) = self.pool.take(host, source, reuse).await {
            return Ok(checkout);
        }
        self.make(host, (source, Usage::Calls)).await
    }

    /// A new connection to ask an account whether it takes `source`, which may be planned too.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent.
    pub async fn checkout_to_probe(
        &self,
        host: &Host,
        source: Source,
    ) -> Result<Checkout<B>, ConnectError> {
        self.make(host, (source, Usage::Probe)).await
    }

    /// A new connection. Where one of kintone's addresses breaks it off in the handshake, the next
    /// one is tried; a certificate that is wrong is wrong for the name.
    async fn make(&self, host: &Host, from: (Source, Usage)) -> Result<Checkout<B>, ConnectError> {
        let deadline = self.deadline();
        let mut tried = Vec::new();
        let mut broken = None;
        loop {
            let connected = match self.connect_by(host, from, deadline, &tried).await {
                Ok(connected) => connected,
                Err(error) => return Err(broken.unwrap_or(error)),
            };
            let upstream = connected.upstream;
            match self.shake_hands(host, connected, from.1, deadline).await {
                Err(error) if error.verdict == Verdict::HANDSHAKE_BROKEN => {
                    tried.push(upstream);
                    broken = Some(error);
                }
                made => return made,
            }
        }
    }

    async fn shake_hands(
        &self,
        host: &Host,
        connected: Connected,
        usage: Usage,
        deadline: Instant,
    ) -> Result<Checkout<B>, ConnectError> {
        let Connected {
            stream,
            upstream,
            source,
            mut timings,
            open,
            proof,
        } = connected;
        let started = Instant::now();
        let line = Line::new(stream);
        let wire = Wire(Arc::clone(&line));
        let tls = self.tls.load_full();
        let shaken = timeout_at(deadline, tls.handshake(host, wire))
            .await
            .unwrap_or(Err(Failure::Tls(Detail::TlsTimeout)));
        timings.tls = Some(started.elapsed());
        let failed = |failure| ConnectError {
            verdict: Verdict::Failed(failure),
            timings,
            upstream: Some(upstream),
        };
        let stream = shaken.map_err(failed)?;
        let proven = self.prove(proof, (source, usage)).await;
        proven.map_err(|denial| ConnectError::denied_at(denial, timings, upstream))?;
        let (sender, connection) = self
            .http
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| failed(Failure::Internal))?;
        let task = tokio::spawn(async move {
            let _ = connection.await;
            drop(open);
        });
        let made = Made {
            upstream,
            timings,
            client: Client::new(sender, task),
            line,
        };
        Ok(self.pool.admit(host, source, made))
    }
}
