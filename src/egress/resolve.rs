//! From a host name to the IPv4 addresses it may have.
//!
//! Static answers come first. Else the resolver of this host is asked, once for all calls that
//! want the same name at the same time, and its answer is kept. When it fails, the last answer
//! still serves (RFC 8767).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::{SmallVec, smallvec};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::nameserver::{Answer, Nameservers, ResolverError};
use crate::config::{NamePattern, StaticAnswer};
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
    turns: Semaphore,
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

/// How long a call with a stale answer waits for a fresh one (RFC 8767 section 5: 1.8 s), at most
/// half of the time there is for a query.
const STALE_WAIT: Duration = Duration::from_millis(1800);

/// A name that failed is not asked for again for this long; calls get the failure, or a stale
/// answer, at once.
const FAILURE_RECHECK: Duration = Duration::from_secs(2);

/// Queries under way at once; the others wait their turn, rather than that a burst of names
/// overflows the name server's buffer and all of them are lost.
const QUERIES_MAX: usize = 64;

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
            turns: Semaphore::new(QUERIES_MAX),
            cache: Mutex::new(HashMap::new()),
        })))
    }

    /// The addresses of `host`. The caller bounds the time.
    ///
    /// # Errors
    /// One of the `Detail::Dns…`.
    pub(super) async fn resolve(&self, host: &Host) -> Result<Resolved, Detail> {
        if let Some(destination) = static_answer(&self.0.statics, host) {
            return Ok(Resolved::Static(smallvec![destination]));
        }
        let (mut done, stale) = match self.known(host) {
            Known::Now(result) => return result.map(Resolved::Looked),
            Known::Wait { done, stale } => (done, stale),
        };
        let told = done.wait_for(|progress| *progress == Progress::Done);
        let Some(stale) = stale else {
            // An error here means that the query's task is gone, which is no answer either.
            let _ = told.await;
            return self.remembered(host).map(Resolved::Looked);
        };
        let patience = STALE_WAIT.min(self.0.query_timeout / 2);
        match tokio::time::timeout(patience, told).await {
            Ok(_) => self.remembered(host).map(Resolved::Looked),
            Err(_elapsed) => Ok(Resolved::Looked(stale)),
        }
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
        // While the resolver fails, only the first call waits for it; the others have waited enough.
        let stale_at_once = stale.clone().filter(|_| entry.failed.is_some());
        // A task that ended without a word (a panic) is no query under way.
        let running = entry.running.as_ref();
        let done = match running.filter(|done| done.has_changed().is_ok()) {
            Some(done) => done.clone(),
            None => {
                let (tell, done) = watch::channel(Progress::Asking);
                entry.running = Some(done.clone());
                self.start(host.clone(), tell);
                done
            }
        };
        drop(cache);
        match stale_at_once {
            Some(destinations) => Known::Now(Ok(destinations)),
            None => Known::Wait { done, stale },
        }
    }

    /// Asks in a task of its own, so that the answer is kept even if the call that wanted it has
    /// gone.
    fn start(&self, host: Host, tell: watch::Sender<Progress>) {
        let this = self.clone();
        tokio::spawn(async move {
            let asked = async {
                let turn = this.0.turns.acquire().await;
                let answer = this.0.nameservers.ask(&host).await;
                drop(turn);
                answer
            };
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
        let failed_before = entry.failed.is_some();
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
        let begins = !failed_before && entry.failed.is_some() && entry.stale(now).is_some();
        drop(cache);
        if begins {
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

/// What the configuration says of `host`: the answer of the most specific pattern.
pub(super) fn static_answer(statics: &[StaticAnswer], host: &Host) -> Option<SocketAddrV4> {
    let answer = statics
        .iter()
        .filter(|answer| answer.pattern.matches(host.as_str()))
        .max_by_key(|answer| specificity(&answer.pattern))?;
    let port = answer.port.unwrap_or(PORT);
    Some(SocketAddrV4::new(answer.address, port))
}

/// An exact name answers before a zone, and a zone before the one above it.
const fn specificity(pattern: &NamePattern) -> usize {
    match pattern {
        NamePattern::Any => 0,
        NamePattern::Below(suffix) => suffix.len(),
        NamePattern::Exact(_) => usize::MAX,
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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::IpAddr;

    use hickory_resolver::TokioResolver;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::A;
    use hickory_resolver::proto::rr::{RData, Record, RecordType};
    use tokio::net::UdpSocket;

    use super::*;

    const FIRST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

    /// What the name server of a test says next; the last one stands.
    #[derive(Clone)]
    enum Says {
        Addresses(Vec<Ipv4Addr>),
        Code(ResponseCode),
        Nothing,
    }

    struct Server {
        script: Arc<Mutex<VecDeque<Says>>>,
        asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    }

    impl Server {
        async fn start(says: Says) -> (Self, Resolver) {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = socket.local_addr().unwrap().port();
            let this = Self {
                script: Arc::new(Mutex::new([says].into())),
                asked: Arc::default(),
            };
            let (script, asked) = (Arc::clone(&this.script), Arc::clone(&this.asked));
            tokio::spawn(async move {
                let mut buffer = [0; 1500];
                loop {
                    let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                    let query = Message::from_vec(&buffer[..length]).unwrap();
                    let name = query.queries[0].name().to_string();
                    asked
                        .lock()
                        .unwrap()
                        .push((name, query.queries[0].query_type()));
                    let says = script.lock().unwrap()[0].clone();
                    if let Some(answer) = answer(&query, &says) {
                        socket.send_to(&answer, from).await.unwrap();
                    }
                }
            });
            (this, resolver(port))
        }

        fn says(&self, says: Says) {
            self.script.lock().unwrap()[0] = says;
        }

        fn asked(&self) -> Vec<(String, RecordType)> {
            std::mem::take(&mut self.asked.lock().unwrap())
        }
    }

    fn answer(query: &Message, says: &Says) -> Option<Vec<u8>> {
        let mut message = Message::response(query.metadata.id, OpCode::Query);
        message.add_query(query.queries[0].clone());
        match says {
            Says::Addresses(addresses) => {
                message.add_answers(addresses.iter().map(|address| {
                    let name = query.queries[0].name().clone();
                    Record::from_rdata(name, 60, RData::A(A(*address)))
                }));
            }
            Says::Code(code) => message.metadata.response_code = *code,
            Says::Nothing => return None,
        }
        Some(message.to_vec().unwrap())
    }

    fn resolver(port: u16) -> Resolver {
        let mut udp = ConnectionConfig::udp();
        udp.port = port;
        let server = NameServerConfig::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true, vec![udp]);
        let search = vec!["search.invalid.".parse().unwrap()];
        let config = ResolverConfig::from_parts(None, search, vec![server]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        builder.options_mut().cache_size = 0;
        builder.options_mut().timeout = Duration::from_millis(250);
        let nameservers = Nameservers::fixed(builder.build().unwrap());
        Resolver::new(Vec::new(), nameservers, Duration::from_secs(2)).unwrap()
    }

    fn host() -> Host {
        Host::from_normal("acme.cybozu.com")
    }

    fn looked(addresses: &[Ipv4Addr]) -> Result<Resolved, Detail> {
        let addresses = addresses.iter();
        Ok(Resolved::Looked(
            addresses.map(|a| SocketAddrV4::new(*a, 443)).collect(),
        ))
    }

    /// Lets time pass on tokio's clock alone.
    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn only_a_records_of_the_very_name_are_asked_for_and_once() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST, SECOND])).await;
        let (host, again) = (host(), host());
        let (one, two) = tokio::join!(resolver.resolve(&host), resolver.resolve(&again));
        assert_eq!(one, looked(&[FIRST, SECOND]));
        assert_eq!(one, two);
        assert_eq!(resolver.resolve(&host).await, one);
        assert_eq!(server.asked(), [("acme.cybozu.com.".into(), RecordType::A)]);
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_ttl() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST])).await;
        assert_eq!(resolver.resolve(&host()).await, looked(&[FIRST]));
        server.says(Says::Addresses(vec![SECOND]));
        pass(Duration::from_secs(59)).await;
        assert_eq!(resolver.resolve(&host()).await, looked(&[FIRST]));
        pass(Duration::from_secs(1)).await;
        assert_eq!(resolver.resolve(&host()).await, looked(&[SECOND]));
        assert_eq!(server.asked().len(), 2);
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let cases = [
            (Says::Addresses(Vec::new()), Detail::DnsNotFound),
            (Says::Code(ResponseCode::NXDomain), Detail::DnsNotFound),
            (Says::Code(ResponseCode::ServFail), Detail::DnsServfail),
            (Says::Code(ResponseCode::Refused), Detail::DnsFailed),
            (Says::Nothing, Detail::DnsTimeout),
        ];
        for (says, detail) in cases {
            let (server, resolver) = Server::start(says).await;
            assert_eq!(resolver.resolve(&host()).await, Err(detail));
            let asked = server.asked().len();
            assert_eq!(resolver.resolve(&host()).await, Err(detail));
            assert_eq!(
                server.asked().len(),
                0,
                "after {asked}, too soon for another"
            );
        }
    }

    #[tokio::test]
    async fn a_failing_resolver_leaves_the_last_answer_for_a_day() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST])).await;
        assert_eq!(resolver.resolve(&host()).await, looked(&[FIRST]));
        for says in [Says::Code(ResponseCode::ServFail), Says::Nothing] {
            server.says(says);
            pass(Duration::from_secs(3600)).await;
            assert_eq!(resolver.resolve(&host()).await, looked(&[FIRST]));
        }
        pass(STALE_MAX).await;
        assert_eq!(resolver.resolve(&host()).await, Err(Detail::DnsTimeout));
        server.says(Says::Addresses(vec![SECOND]));
        pass(FAILURE_RECHECK).await;
        assert_eq!(resolver.resolve(&host()).await, looked(&[SECOND]));
    }

    #[tokio::test]
    async fn a_query_that_died_is_asked_again() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST])).await;
        let (died, running) = watch::channel(Progress::Asking);
        let entry = Entry {
            running: Some(running),
            ..Entry::default()
        };
        resolver.lock().insert(host(), entry);
        drop(died);
        assert_eq!(resolver.resolve(&host()).await, looked(&[FIRST]));
        assert_eq!(server.asked().len(), 1);
    }

    #[tokio::test]
    async fn a_name_that_is_gone_is_gone() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST])).await;
        assert_eq!(resolver.resolve(&host()).await, looked(&[FIRST]));
        server.says(Says::Code(ResponseCode::NXDomain));
        pass(Duration::from_secs(60)).await;
        assert_eq!(resolver.resolve(&host()).await, Err(Detail::DnsNotFound));
    }

    #[tokio::test]
    async fn the_call_that_asked_may_leave() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST])).await;
        let name = host();
        {
            let mut asking = std::pin::pin!(resolver.resolve(&name));
            tokio::select! {
                biased;
                _ = &mut asking => panic!("there was no time for an answer"),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(resolver.resolve(&name).await, looked(&[FIRST]));
        assert_eq!(server.asked().len(), 1);
    }

    #[tokio::test]
    async fn a_thousand_names_at_once_are_all_answered() {
        let (server, resolver) = Server::start(Says::Addresses(vec![FIRST])).await;
        let mut running = tokio::task::JoinSet::new();
        for n in 0..1000 {
            let resolver = resolver.clone();
            let host = Host::from_normal(&format!("a{n}.cybozu.com"));
            running.spawn(async move { resolver.resolve(&host).await });
        }
        let answers = running.join_all().await;
        let failed = answers.iter().filter(|a| **a != looked(&[FIRST])).count();
        assert_eq!(failed, 0, "after {} queries", server.asked().len());
    }

    #[tokio::test]
    async fn static_answers_come_first_the_most_specific_one() {
        let (server, dynamic) = Server::start(Says::Addresses(vec![FIRST])).await;
        let answer = |pattern, address, port| StaticAnswer {
            pattern,
            address,
            port,
        };
        let zone = NamePattern::Below(".cybozu.com".into());
        let exact = NamePattern::Exact("acme.cybozu.com".into());
        let statics = vec![answer(exact, FIRST, None), answer(zone, SECOND, Some(8443))];
        let resolver = Resolver(Arc::new(Inner {
            statics,
            nameservers: Nameservers::within(Duration::from_secs(4)),
            query_timeout: Duration::from_secs(1),
            turns: Semaphore::new(1),
            cache: Mutex::default(),
        }));
        let resolved = resolver.resolve(&host()).await;
        let to = |address, port| {
            Ok(Resolved::Static(smallvec![SocketAddrV4::new(
                address, port
            )]))
        };
        assert_eq!(resolved, to(FIRST, 443));
        let other = Host::from_normal("other.cybozu.com");
        assert_eq!(resolver.resolve(&other).await, to(SECOND, 8443));
        drop(dynamic);
        assert!(server.asked().is_empty());
    }

    #[test]
    fn the_cache_is_bounded() {
        let now = Instant::now();
        let mut cache: HashMap<Host, Entry> = (0..NAMES_MAX)
            .map(|n| {
                let good = Good {
                    addresses: smallvec![FIRST],
                    fresh_until: now + FRESH_MAX,
                    stale_until: now + STALE_MAX,
                };
                let entry = Entry {
                    good: (n % 8 != 0).then_some(good),
                    ..Entry::default()
                };
                (Host::from_normal(&format!("a{n}.cybozu.com")), entry)
            })
            .collect();
        make_room(&mut cache, now);
        assert_eq!(cache.len(), NAMES_MAX * 3 / 4);
        assert!(cache.values().all(|entry| entry.good.is_some()));
    }
}
