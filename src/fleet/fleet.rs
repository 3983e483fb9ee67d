//! The fleet as the rest of the program sees it: how it stands, and what operators order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::driver::terms;
use super::exchange::ExchangeError;
use super::ledger::{Access, Ledger, View};
use super::moment::Moment;
use super::side::{Side, SideRow, SideView, Topic};
use crate::config::{Config, StoreUrl};
use crate::quota::since_boot;

/// A fleet that a [`super::Driver`] drives. Cloning is a reference count.
#[derive(Clone, Debug)]
pub struct Fleet(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ledger: Mutex<Ledger>,
    pub(super) began_at: Moment,
    pub(super) store: Mutex<Store>,
    /// Something was ordered, or the store has moved.
    pub(super) ordered: Notify,
    /// Where the store is from now on.
    pub(super) moved: ArcSwapOption<StoreUrl>,
    /// What hosts tell each other beside permits.
    pub(super) side: Arc<Side>,
}

/// How the exchange stands.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) heard_at: Option<Moment>,
    pub(super) is_up: bool,
    pub(super) last_error: Option<String>,
    pub(super) bad_rows: Vec<(String, String)>,
    pub(super) beats: u64,
    pub(super) failures: u64,
}

/// How the fleet stands.
#[derive(Debug, Clone)]
pub struct FleetView {
    /// By the ledger.
    pub ledger: View,
    /// The store.
    pub store: StoreView,
    /// What hosts tell each other beside permits.
    pub side: SideView,
}

/// How the store stands.
#[derive(Debug, Clone)]
pub struct StoreView {
    /// Whether the last beat reached it.
    pub is_up: bool,
    /// How long ago a beat reached it.
    pub age: Option<Duration>,
    /// Why the last beat that failed did.
    pub last_error: Option<String>,
    /// Hosts whose rows make no sense, and why.
    pub bad_rows: Vec<(String, String)>,
    /// Beats that were due so far.
    pub beats: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// It is no host of the fleet.
    #[error("{0:?} is not one of [fleet] hosts")]
    Unknown(String),
    /// It is the host that is asked.
    #[error("{0:?} is this host; ask another one")]
    Oneself(String),
    /// It may be alive.
    #[error(
        "{host:?} was seen {} s ago; a host can be evicted when it was not seen for {} s ([fleet] \
         evict_after). Stop it, and wait",
        age.as_secs(),
        after.as_secs()
    )]
    Seen {
        /// Which.
        host: String,
        /// How long ago it was.
        age: Duration,
        /// How long ago it must be.
        after: Duration,
    },
    /// There is nothing to do.
    #[error("{0:?} is evicted already")]
    Evicted(String),
    /// There is nothing to do.
    #[error("{0:?} is not evicted")]
    Admitted(String),
}

impl Fleet {
    pub(super) fn new(ledger: Ledger, began_at: Moment, side_bytes_max: usize) -> Self {
        Self(Arc::new(Shared {
            ledger: Mutex::new(ledger),
            began_at,
            store: Mutex::new(Store::default()),
            ordered: Notify::new(),
            moved: ArcSwapOption::empty(),
            side: Arc::new(Side::new(side_bytes_max)),
        }))
    }

    /// Tells the other hosts this of `topic` from the next round on, until something else is told.
    /// Contents beyond `[fleet] side_rows` together are left out, the last ones of [`Topic::ALL`]
    /// first, and that is said.
    pub fn post(&self, topic: Topic, content: Bytes) {
        self.0.side.post(topic, content);
    }

    /// Tells the other hosts what `make` makes of `topic` in each round, from how many bytes there is
    /// still room for: topics take theirs in the order of [`Topic::ALL`]. It may not block.
    pub fn supply(&self, topic: Topic, make: impl Fn(usize) -> Bytes + Send + Sync + 'static) {
        self.0.side.supply(topic, Arc::new(make));
    }

    /// What the other hosts have last told of `topic`, by host. A host that is gone stands here with
    /// what it told last; one that has said nothing of it is absent.
    #[must_use]
    pub fn heard(&self, topic: Topic) -> Vec<SideRow> {
        let now = Moment::from_boot(since_boot());
        self.0.side.heard(topic, now)
    }

    /// Counts the rounds in which hosts tell each other: changed, something new may have been heard.
    #[must_use]
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.0.side.rounds()
    }

    /// Tells the other hosts at once what there is to tell: before this host goes. It takes `limit` at the
    /// most, and what comes of it is not told.
    pub async fn tell_now(&self, limit: Duration) {
        self.0.side.round(limit).await;
    }

    /// What all contents together may have at most, in bytes.
    #[must_use]
    pub fn side_bytes_max(&self) -> usize {
        self.0.side.longest
    }

    /// How it stands now.
    #[must_use]
    pub fn view(&self) -> FleetView {
        let now = Moment::from_boot(since_boot());
        let ledger = self.0.ledger().view(now);
        let store = self.0.store();
        FleetView {
            ledger,
            store: StoreView {
                is_up: store.is_up,
                age: store.heard_at.map(|at| now.since(at)),
                last_error: store.last_error.clone(),
                bad_rows: store.bad_rows.clone(),
                beats: store.beats,
                failures: store.failures,
            },
            side: self.0.side.view(now),
        }
    }

    /// Takes a host's part away for the others, if it was not seen for `after`. Whoever orders it has
    /// made sure that the host does not run. However short `after` is, the part is not used before the
    /// host's last calls must be over ([`super::ledger::Rule::AwaitEvicted`]).
    ///
    /// # Errors
    /// [`OrderError`], with the reason why not.
    pub fn evict(&self, host: &str, after: Duration) -> Result<(), OrderError> {
        let now = Moment::from_boot(since_boot());
        let mut ledger = self.0.ledger();
        let view = ledger.view(now);
        let peer = find(&view, host)?;
        let age = peer.age.unwrap_or_else(|| now.since(self.0.began_at));
        if age < after {
            let host = host.to_owned();
            return Err(OrderError::Seen { host, age, after });
        }
        let members = ledger.members().evict(host);
        let members = members.ok_or_else(|| OrderError::Evicted(host.to_owned()))?;
        ledger.learn(&members);
        drop(ledger);
        tracing::warn!(
            host,
            "evicted: the other hosts have its part of every account"
        );
        self.0.ordered.notify_one();
        Ok(())
    }

    /// Gives an evicted host its part again, for when it returns.
    ///
    /// # Errors
    /// [`OrderError`], with the reason why not.
    pub fn admit(&self, host: &str) -> Result<(), OrderError> {
        let mut ledger = self.0.ledger();
        let is_me = ledger.view(Moment::from_boot(since_boot())).host == host;
        if !is_me {
            find(&ledger.view(Moment::from_boot(since_boot())), host)?;
        }
        let members = ledger.members().admit(host);
        let members = members.ok_or_else(|| OrderError::Admitted(host.to_owned()))?;
        ledger.learn(&members);
        drop(ledger);
        tracing::warn!(
            host,
            "admitted: it has its part of every account when it asks for it"
        );
        self.0.ordered.notify_one();
        Ok(())
    }

    /// Applies a new configuration: where the store is, and how long calls settle.
    pub fn reload(&self, config: &Config, workers: u32) {
        self.0.ledger().set_terms(terms(config, workers));
        let url = config.fleet.redis.clone().map(Arc::new);
        self.0.side.moved.store(url.clone());
        self.0.moved.store(url);
        self.0.ordered.notify_one();
    }

    /// Why calls should not be sent here because of the fleet.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        let view = self.0.ledger().view(Moment::from_boot(since_boot()));
        let host = &view.host;
        if let Some(doubt) = view.doubt {
            return Some(format!(
                "this host waits {} s more, or until every other host has answered: nobody knows \
                 what it had lent before it started",
                doubt.as_secs() + 1
            ));
        }
        if view.members.evicted.contains(host) {
            return Some(format!(
                "this host is evicted: kintone-egress fleet admit {host}, on another host"
            ));
        }
        match view.access {
            Access::Open => None,
            Access::Unproven => {
                Some("this host waits until every other host has answered".to_owned())
            }
            Access::Superseded => Some(format!(
                "another process that began later is {host:?} too: each host needs a name of its own"
            )),
        }
    }
}

impl Shared {
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Notes how a beat went, and says so where that has changed.
    pub(super) fn note(&mut self, result: Result<(), &ExchangeError>, now: Moment) {
        self.beats += 1;
        match result {
            Ok(()) => {
                if !self.is_up {
                    tracing::info!("the fleet's store is reached: permits are shared");
                }
                (self.is_up, self.heard_at, self.last_error) = (true, Some(now), None);
            }
            Err(error) => {
                self.failures += 1;
                if !matches!(error, ExchangeError::Pausing { .. }) {
                    let error = error.to_string();
                    if self.last_error.as_ref() != Some(&error) {
                        tracing::warn!(
                            %error,
                            "the fleet's store is not reached: this host keeps its own permits"
                        );
                    }
                    self.last_error = Some(error);
                }
                self.is_up = false;
            }
        }
    }
}

fn find<'a>(view: &'a View, host: &str) -> Result<&'a super::ledger::PeerView, OrderError> {
    if view.host == host {
        return Err(OrderError::Oneself(host.to_owned()));
    }
    let peer = view.peers.iter().find(|peer| peer.host == host);
    peer.ok_or_else(|| OrderError::Unknown(host.to_owned()))
}
