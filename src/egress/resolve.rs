//! From a host name to the IPv4 addresses it may have.
//!
//! Static answers come first. Else the resolver of this host is asked, once for all calls that
//! want the same name at the same time, and its answer is kept. When it fails, the last answer
//! still serves (RFC 8767).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::nameserver::{Answer, Nameservers, ResolverError};
use crate::config::StaticAnswer;
use crate::model::{Detail, Host};

/// Addresses of one host name, in the order they should be tried.
pub(super) type Destinations = SmallVec<[SocketAddrV4; 4]>;

/// Where addresses came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The configuration; nobody was asked.
    Static(Destinations),
    /// The resolver, just then or before.
    Looked(Destinations),
}

#[derive(Clone)]
pub(super) struct Resolver(Arc<Inner>);

struct Inner {
    statics: Vec<StaticAnswer>,
    nameservers: Nameservers,
    query_timeout: Duration,
    cache: Mutex<HashMap<Host, Entry>>,
}

/// What is known of a name.
#[derive(Default)]
struct Entry {
    good: Option<Good>,
    /// The last query failed so, and it is not asked again before then.
    failed: Option<(Detail, Instant)>,
    /// A query is under way; its end is told here.
    running: Option<watch::Receiver<Progress>>,
}

struct Good {
    addresses: SmallVec<[Ipv4Addr; 4]>,
    fresh_until: Instant,
    stale_until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Asking,
    Done,
}

enum Known {
    Now(Result<Destinations, Detail>),
    Wait {
        done: watch::Receiver<Progress>,
        stale: Option<Destinations>,
    },
}

/// The port of kintone.
const PORT: u16 = 443;

/// An answer is kept at least this long, however short its TTL.
const FRESH_MIN: Duration = Duration::from_secs(5);

/// An answer is kept at most this long, however long its TTL.
const FRESH_MAX: Duration = Duration::from_secs(300);

/// How long the last answer serves while the resolver fails (RFC 8767 section 5: 1 to 3 days).
const STALE_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long a call with a stale answer waits for a fresh one (RFC 8767 section 5: 1.8 s).
const STALE_WAIT: Duration = Duration::from_millis(1800);

/// A name that failed is not asked for again for this long; calls get the failure, or a stale
/// answer, at once.
const FAILURE_RECHECK: Duration = Duration::from_secs(2);

/// Names remembered.
const NAMES_MAX: usize = 16_384;

impl Resolver {
    /// A resolver that asks `nameservers` and gives up after `query_timeout`.
    pub(super) fn new(
        statics: Vec<StaticAnswer>,
        nameservers: Nameservers,
        query_timeout: Duration,
    ) -> Result<Self, ResolverError> {
        if statics.is_empty() {
            nameservers.check()?;
        }
        Ok(Self(Arc::new(Inner {
            statics,
            nameservers,
            query_timeout,
            cache: Mutex::new(HashMap::new()),
        })))
    }

    /// The addresses of `host`. The caller bounds the time.
    ///
    /// # Errors
    /// One of the `Detail::Dns…`.
    pub(super) async fn resolve(&self, host: &Host) -> Result<Resolved, Detail> {
        if let Some(destinations) = self.static_answer(host) {
            return Ok(Resolved::Static(destinations));
        }
        let (mut done, stale) = match self.known(host) {
            Known::Now(result) => return result.map(Resolved::Looked),
            Known::Wait { done, stale } => (done, stale),
        };
        let told = done.wait_for(|progress| *progress == Progress::Done);
        if let Some(stale) = stale {
            return Ok(Resolved::Looked(
                match tokio::time::timeout(STALE_WAIT, told).await {
                    Ok(_) => self.remembered(host).unwrap_or(stale),
                    Err(_) => stale,
                },
            ));
        }
        // An error here means that the query's task is gone, which is no answer either.
        let _ = told.await;
        self.remembered(host).map(Resolved::Looked)
    }

    fn static_answer(&self, host: &Host) -> Option<Destinations> {
        let answers = &self.0.statics;
        let answers = answers.iter().filter(|a| a.pattern.matches(host.as_str()));
        let destinations: Destinations = answers
            .map(|a| SocketAddrV4::new(a.address, a.port.unwrap_or(PORT)))
            .collect();
        (!destinations.is_empty()).then_some(destinations)
    }

    /// What the cache says; starts a query if it must and none is under way.
    fn known(&self, host: &Host) -> Known {
        let now = Instant::now();
        let mut cache = self.lock();
        if !cache.contains_key(host) {
            make_room(&mut cache, now);
        }
        let entry = cache.entry(host.clone()).or_default();
        if let Some(good) = &entry.good
            && now < good.fresh_until
        {
            return Known::Now(Ok(good.destinations()));
        }
        let stale = entry.stale(now);
        if let Some((detail, until)) = entry.failed
            && now < until
        {
            return Known::Now(stale.ok_or(detail));
        }
        if let Some(done) = &entry.running {
            let done = done.clone();
            return Known::Wait { done, stale };
        }
        let (tell, done) = watch::channel(Progress::Asking);
        entry.running = Some(done.clone());
        drop(cache);
        self.start(host.clone(), tell);
        Known::Wait { done, stale }
    }

    /// Asks in a task of its own, so that the answer is kept even if the call that wanted it has
    /// gone.
    fn start(&self, host: Host, tell: watch::Sender<Progress>) {
        let this = self.clone();
        tokio::spawn(async move {
            let asked = this.0.nameservers.ask(&host);
            let answer = tokio::time::timeout(this.0.query_timeout, asked)
                .await
                .unwrap_or(Err(Detail::DnsTimeout));
            this.learn(&host, answer);
            tell.send_replace(Progress::Done);
        });
    }

    fn learn(&self, host: &Host, answer: Result<Answer, Detail>) {
        let now = Instant::now();
        let mut cache = self.lock();
        let entry = cache.entry(host.clone()).or_default();
        entry.running = None;
        match answer {
            Ok(answer) => {
                entry.failed = None;
                entry.good = Some(Good {
                    addresses: answer.addresses,
                    fresh_until: now + answer.ttl.clamp(FRESH_MIN, FRESH_MAX),
                    stale_until: now + STALE_MAX,
                });
            }
            Err(detail) => {
                entry.failed = Some((detail, now + FAILURE_RECHECK));
                // That there is no such name is an answer, and a stale one may not contradict it.
                if detail == Detail::DnsNotFound {
                    entry.good = None;
                }
            }
        }
        let served_stale = entry.failed.is_some() && entry.stale(now).is_some();
        drop(cache);
        if served_stale {
            tracing::warn!(%host, "the resolver fails; the last answer still serves");
        }
    }

    /// What the query that just ended has left.
    fn remembered(&self, host: &Host) -> Result<Destinations, Detail> {
        let now = Instant::now();
        let cache = self.lock();
        let entry = cache.get(host).ok_or(Detail::DnsFailed)?;
        match (entry.stale(now), entry.failed) {
            (Some(destinations), _) => Ok(destinations),
            (None, Some((detail, _))) => Err(detail),
            (None, None) => Err(Detail::DnsFailed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Host, Entry>> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The last answer, fresh or not, while it may still serve.
    fn stale(&self, now: Instant) -> Option<Destinations> {
        let good = self.good.as_ref().filter(|good| now < good.stale_until)?;
        Some(good.destinations())
    }
}

impl Good {
    fn destinations(&self) -> Destinations {
        let addresses = self.addresses.iter();
        addresses.map(|a| SocketAddrV4::new(*a, PORT)).collect()
    }
}

/// Keeps the cache within [`NAMES_MAX`]: names without a fresh answer go first, then any.
fn make_room(cache: &mut HashMap<Host, Entry>, now: Instant) {
    if cache.len() < NAMES_MAX {
        return;
    }
    cache.retain(|_, entry| {
        entry.running.is_some()
            || entry
                .good
                .as_ref()
                .is_some_and(|good| now < good.fresh_until)
    });
    let mut spare = cache.len().saturating_sub(NAMES_MAX * 3 / 4);
    cache.retain(|_, entry| {
        let goes = spare > 0 && entry.running.is_none();
        spare -= usize::from(goes);
        !goes
    });
}
