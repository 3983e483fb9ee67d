//! Idle connections to kintone, kept per host name and bind address.
//!
//! A connection is in one place at a time: here, or in the one [`Checkout`] that uses it. It never
//! carries two host names. What it costs is bounded: by host and bind address, in all, by how long
//! it waits and by how long it lives.

use std::fmt;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::line::{Fence, Line};
use super::reuse::{Kept, Reuse, SendError};
use super::source::{Addresses, Source};
use super::verdict::Timings;
use super::witness::Witness;
use crate::client::Client;
use crate::config::Upstream;
use crate::model::{Bind, Host, Table};

/// A connection to kintone in the hands of one call. Dropping it closes the connection.
pub struct Checkout<B> {
    client: Client<B>,
    line: Arc<Line>,
    pool: Arc<Pool<B>>,
    host: Host,
    source: Source,
    upstream: SocketAddrV4,
    timings: Timings,
    origin: Origin,
    born: Instant,
    /// When it was last of use to a call, or made.
    used: Instant,
}

/// A connection just made.
pub(super) struct Made<B> {
    pub(super) upstream: SocketAddrV4,
    pub(super) timings: Timings,
    pub(super) client: Client<B>,
    pub(super) line: Arc<Line>,
}

/// Where a checked-out connection came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Dialled,
    Pooled,
}

/// The limits of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    pub(super) idle: Duration,
    pub(super) life: Duration,
    pub(super) per_host: usize,
    pub(super) total: usize,
}

pub(super) struct Pool<B> {
    limits: PoolLimits,
    addresses: Arc<Addresses>,
    shelves: Mutex<Shelves<B>>,
}

struct Shelves<B> {
    by_host: Table<Host, Vec<Shelf<B>>>,
    total: usize,
}

/// Idle connections of one host name and bind address, the latest at the end.
struct Shelf<B> {
    bind: Bind,
    idle: Vec<Idle<B>>,
}

struct Idle<B> {
    client: Client<B>,
    /// Held by the connection's task, which closes the socket as soon as kintone has.
    line: Weak<Line>,
    upstream: SocketAddrV4,
    born: Instant,
    since: Instant,
}

/// Idle for less than this, a connection is [`Reuse::Fresh`] (contract, `pool_idle`).
const FRESH: Duration = Duration::from_secs(1);

/// How long a connection just given back may take to become ready. Its task needs to be polled
/// once; when it takes longer, kintone has not finished with it.
const READY_WAIT: Duration = Duration::from_millis(100);

impl PoolLimits {
    /// By the configuration.
    pub(super) const fn of(upstream: &Upstream) -> Self {
        Self {
            idle: upstream.pool_idle,
            life: upstream.pool_life,
            per_host: upstream.pool_per_host,
            total: upstream.pool_total,
        }
    }
}

impl<B> Pool<B> {
    pub(super) fn new(limits: PoolLimits, addresses: Arc<Addresses>) -> Self {
        Self {
            limits,
            addresses,
            shelves: Mutex::new(Shelves {
                by_host: Table::default(),
                total: 0,
            }),
        }
    }

    /// An idle connection of `host` from `source` that is ready, the one used last first.
    pub(super) async fn take(
        self: &Arc<Self>,
        host: &Host,
        source: Source,
        reuse: Reuse,
    ) -> Option<Checkout<B>> {
        let idle_max = match reuse {
            Reuse::Any => self.limits.idle,
            Reuse::Fresh => self.limits.idle.min(FRESH),
            Reuse::Never => return None,
        };
        loop {
            let mut idle = self.pop(host, source.bind, idle_max)?;
            if !idle.client.is_ready() {
                match tokio::time::timeout(READY_WAIT, idle.client.ready()).await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(_elapsed) => return None,
                }
            }
            let Some(line) = idle.line.upgrade() else {
                continue;
            };
            // What is safe to repeat is; before the rest, it is looked twice.
            if reuse == Reuse::Fresh && !line.is_quiet() {
                continue;
            }
            line.wake();
            return Some(Checkout {
                client: idle.client,
                line,
                pool: Arc::clone(self),
                host: host.clone(),
                source,
                upstream: idle.upstream,
                timings: Timings::default(),
                origin: Origin::Pooled,
                born: idle.born,
                used: idle.since,
            });
        }
    }

    /// A connection just made, in the hands of the call that made it.
    pub(super) fn admit(
        self: &Arc<Self>,
        host: &Host,
        source: Source,
        made: Made<B>,
    ) -> Checkout<B> {
        let now = Instant::now();
        Checkout {
            client: made.client,
            line: made.line,
            pool: Arc::clone(self),
            host: host.clone(),
            source,
            upstream: made.upstream,
            timings: made.timings,
            origin: Origin::Dialled,
            born: now,
            used: now,
        }
    }

    /// Closes what has been idle for too long or was closed by kintone.
    pub(super) fn sweep(&self, at: Instant) {
        self.retain(|_, idle| {
            !idle.client.is_closed() && at.duration_since(idle.since) < self.limits.idle
        });
    }

    /// Closes every idle connection from `bind`.
    pub(super) fn close(&self, bind: Bind) {
        self.retain(|of, _| of != bind);
    }

    /// Something that closes every idle connection from an address.
    pub(super) fn closing(self: &Arc<Self>) -> Box<dyn Fn(Bind) + Send + Sync>
    where
        B: Send + 'static,
    {
        let pool = Arc::clone(self);
        Box::new(move |bind| pool.close(bind))
    }

    /// Idle connections from `bind`.
    pub(super) fn count(&self, bind: Bind) -> usize {
        let shelves = self.lock();
        let shelves = shelves.by_host.values().flatten();
        shelves
            .filter(|shelf| shelf.bind == bind)
            .map(|shelf| shelf.idle.len())
            .sum()
    }

    fn pop(&self, host: &Host, bind: Bind, idle_max: Duration) -> Option<Idle<B>> {
        let mut shelves = self.lock();
        let Shelves { by_host, total } = &mut *shelves;
        let shelf = by_host
            .get_mut(host)?
            .iter_mut()
            .find(|shelf| shelf.bind == bind)?;
        while let Some(idle) = shelf.idle.pop() {
            if idle.client.is_closed() {
                *total -= 1;
                continue;
            }
            if idle.since.elapsed() >= idle_max {
                // Those below it are older still. The sweep closes what is too old for all.
                shelf.idle.push(idle);
                return None;
            }
            *total -= 1;
            return Some(idle);
        }
        None
    }

    fn put(&self, host: Host, bind: Bind, idle: Idle<B>) -> Kept {
        let mut shelves = self.lock();
        // Looked at under the lock: an address is marked absent before its shelves are emptied.
        if !self.addresses.may_keep(bind, idle.born) {
            return Kept::Closed;
        }
        if shelves.total >= self.limits.total {
            return Kept::PoolFull;
        }
        let Shelves { by_host, total } = &mut *shelves;
        let of_host = by_host.entry(host).or_default();
        let at = of_host.iter().position(|shelf| shelf.bind == bind);
        let shelf = match at {
            Some(at) => &mut of_host[at],
            None => {
                of_host.push(Shelf {
                    bind,
                    idle: Vec::new(),
                });
                of_host.last_mut().expect("one was just pushed")
            }
        };
        if shelf.idle.len() >= self.limits.per_host {
            return Kept::HostFull;
        }
        // At the end, but for one that comes back unused.
        let at = shelf
            .idle
            .partition_point(|other| other.since <= idle.since);
        shelf.idle.insert(at, idle);
        *total += 1;
        Kept::Pooled
    }

    fn retain(&self, keep: impl Fn(Bind, &Idle<B>) -> bool) {
        let mut shelves = self.lock();
        let mut total = 0;
        shelves.by_host.retain(|_, of_host| {
            of_host.retain_mut(|shelf| {
                shelf.idle.retain(|idle| keep(shelf.bind, idle));
                total += shelf.idle.len();
                !shelf.idle.is_empty()
            });
            !of_host.is_empty()
        });
        shelves.total = total;
    }

    fn lock(&self) -> MutexGuard<'_, Shelves<B>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Checkout<B> {
    /// Where kintone is reached.
    #[must_use]
    pub const fn upstream(&self) -> SocketAddrV4 {
        self.upstream
    }

    /// The address it leaves from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// How long it took to make; all `None` for a reused one.
    #[must_use]
    pub const fn timings(&self) -> Timings {
        self.timings
    }

    /// Whether it had carried a call before.
    #[must_use]
    pub fn reused(&self) -> bool {
        self.origin == Origin::Pooled
    }

    /// Something that ends the connection at once, whatever is under way on it; it does not keep it.
    pub fn severing(&self) -> impl Fn() + Send + Sync + 'static {
        let line = Arc::downgrade(&self.line);
        move || line.upgrade().iter().for_each(|line| line.sever())
    }

    /// Back into the pool, for the next call to the same host name. For calls whose answer was
    /// read to its end and whose body was sent to its end; what kintone or hyper has closed goes
    /// no further.
    pub fn give_back(mut self) -> Kept {
        self.line.done();
        self.used = Instant::now();
        if self.used.duration_since(self.born) >= self.pool.limits.life {
            return Kept::Closed;
        }
        self.give_back_unused()
    }

    /// Back into the pool without having carried a call: its idle time goes on.
    pub fn give_back_unused(self) -> Kept {
        if self.client.is_closed() {
            return Kept::Closed;
        }
        let idle = Idle {
            client: self.client,
            line: Arc::downgrade(&self.line),
            upstream: self.upstream,
            born: self.born,
            since: self.used,
        };
        self.pool.put(self.host, self.source.bind, idle)
    }
}

impl<B> Checkout<B>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    /// Sends one request, if its fence lets it go, and waits for the head of its answer; `witness` is told
    /// of its first byte. Dropped, it closes the connection.
    ///
    /// # Errors
    /// [`SendError`], which says whether kintone can have seen the request.
    pub async fn send(
        &mut self,
        request: Request<B>,
        fence: Option<Fence>,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Response<Incoming>, SendError> {
        self.line.begin(fence, witness);
        match self.client.send(request).await {
            Ok(response) => Ok(response),
            Err(unanswered) => Err(SendError {
                arrival: self.line.arrival().await,
                error: unanswered.error,
            }),
        }
    }
}

impl<B> fmt::Debug for Checkout<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkout")
            .field("host", &self.host)
            .field("source", &self.source)
            .field("upstream", &self.upstream)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http_body_util::Empty;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::{AddressState, EgressAddress};
    use crate::egress::line::Wire;
    use crate::model::Published;

    type TestPool = Arc<Pool<Empty<Bytes>>>;

    const FIRST: Bind = Bind(Ipv4Addr::new(127, 0, 0, 77));
    const SECOND: Bind = Bind(Ipv4Addr::new(127, 0, 0, 78));
    const LIMITS: PoolLimits = PoolLimits {
        idle: Duration::from_secs(4),
        life: Duration::from_secs(60),
        per_host: 3,
        total: 5,
    };

    fn source(bind: Bind) -> Source {
        Source {
            published: Published(bind.0),
            bind,
        }
    }

    fn pool() -> TestPool {
        let addresses: Vec<_> = [FIRST, SECOND]
            .iter()
            .map(|bind| EgressAddress {
                published: Published(bind.0),
                bind: Some(*bind),
                state: AddressState::Active,
                elsewhere: Vec::new(),
                valid_from: None,
                retire_after: None,
            })
            .collect();
        Arc::new(Pool::new(LIMITS, Arc::new(Addresses::new(&addresses))))
    }

    fn host(name: &str) -> Host {
        Host::from_normal(name)
    }

    /// A connection whose other end is in the hands of the test; `port` names it.
    async fn connection(
        pool: &TestPool,
        name: &str,
        bind: Bind,
        port: u16,
    ) -> (Checkout<Empty<Bytes>>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let line = Line::new(ours);
        let wire = Wire(Arc::clone(&line));
        let (sender, connection) = http1::handshake(TokioIo::new(wire)).await.unwrap();
        let task = tokio::spawn(async move {
            let _ = connection.await;
        });
        let made = Made {
            upstream: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            timings: Timings::default(),
            client: Client::new(sender, task),
            line,
        };
        (pool.admit(&host(name), source(bind), made), theirs)
    }

    async fn take(pool: &TestPool, name: &str, bind: Bind, reuse: Reuse) -> Option<u16> {
        let checkout = pool.take(&host(name), source(bind), reuse).await?;
        assert!(checkout.reused());
        Some(checkout.upstream().port())
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_one_given_back_is_handed_out_first() {
        let pool = pool();
        let mut ends = Vec::new();
        for port in [1, 2] {
            let (checkout, end) = connection(&pool, "a", FIRST, port).await;
            checkout.give_back();
            ends.push(end);
        }
        assert_eq!(pool.count(FIRST), 2);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Never).await, None);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, Some(2));
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, Some(1));
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn host_names_and_addresses_share_nothing() {
        let pool = pool();
        let (checkout, _end) = connection(&pool, "a", FIRST, 1).await;
        checkout.give_back();
        assert_eq!(take(&pool, "b", FIRST, Reuse::Any).await, None);
        assert_eq!(take(&pool, "a", SECOND, Reuse::Any).await, None);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_age() {
        let pool = pool();
        let (checkout, mut end) = connection(&pool, "a", FIRST, 1).await;
        checkout.give_back();
        tokio::time::advance(Duration::from_millis(999)).await;
        let fresh = pool.take(&host("a"), source(FIRST), Reuse::Fresh).await;
        fresh.unwrap().give_back();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(take(&pool, "a", FIRST, Reuse::Fresh).await, None);
        tokio::time::advance(Duration::from_millis(2999)).await;
        pool.sweep(Instant::now());
        let any = pool.take(&host("a"), source(FIRST), Reuse::Any).await;
        any.unwrap().give_back();
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, None);
        pool.sweep(Instant::now());
        assert_eq!(pool.count(FIRST), 0);
        assert_eq!(pool.lock().total, 0);
        assert!(is_closed(&mut end).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_back_unused_stays_as_old_as_it_was() {
        let pool = pool();
        let (older, _older_end) = connection(&pool, "a", FIRST, 1).await;
        older.give_back();
        tokio::time::advance(Duration::from_millis(600)).await;
        let unused = pool.take(&host("a"), source(FIRST), Reuse::Any).await;
        let (younger, _younger_end) = connection(&pool, "a", FIRST, 2).await;
        younger.give_back();
        unused.unwrap().give_back_unused();
        tokio::time::advance(Duration::from_millis(600)).await;
        assert_eq!(take(&pool, "a", FIRST, Reuse::Fresh).await, Some(2));
        assert_eq!(take(&pool, "a", FIRST, Reuse::Fresh).await, None);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_other_end_closed_is_not_handed_out() {
        let pool = pool();
        let (one, _end) = connection(&pool, "a", FIRST, 1).await;
        let (two, end) = connection(&pool, "a", FIRST, 2).await;
        one.give_back();
        two.give_back();
        drop(end);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Fresh).await, Some(1));
        assert_eq!(pool.lock().total, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_given_back_is_closed() {
        let pool = pool();
        let (checkout, mut end) = connection(&pool, "a", FIRST, 1).await;
        drop(checkout);
        assert!(is_closed(&mut end).await);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pool_is_bounded_by_host_and_in_all() {
        let pool = pool();
        let mut ends = Vec::new();
        let names = ["a", "a", "a", "a", "b", "c", "d"];
        for (name, port) in names.into_iter().zip(1..) {
            let (checkout, end) = connection(&pool, name, FIRST, port).await;
            checkout.give_back();
            ends.push(end);
        }
        assert_eq!(pool.count(FIRST), LIMITS.total);
        assert!(is_closed(&mut ends[3]).await, "a fourth of one host name");
        assert!(is_closed(&mut ends[6]).await, "a sixth in all");
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, Some(3));
        assert_eq!(take(&pool, "c", FIRST, Reuse::Any).await, Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_left_keeps_no_connection() {
        let pool = pool();
        let (idle, mut idle_end) = connection(&pool, "a", FIRST, 1).await;
        let (other, _other_end) = connection(&pool, "a", SECOND, 2).await;
        let (late, mut late_end) = connection(&pool, "a", FIRST, 3).await;
        idle.give_back();
        other.give_back();
        let address = Arc::clone(pool.addresses.usable(FIRST).unwrap());
        address.set(super::super::snapshot::Presence::Absent);
        pool.close(FIRST);
        late.give_back();
        assert!(is_closed(&mut idle_end).await && is_closed(&mut late_end).await);
        assert_eq!(take(&pool, "a", FIRST, Reuse::Any).await, None);
        assert_eq!(take(&pool, "a", SECOND, Reuse::Any).await, Some(2));
    }

    /// Whether our side closed without a byte.
    async fn is_closed(end: &mut TcpStream) -> bool {
        use tokio::io::AsyncReadExt;
        let read = tokio::time::timeout(Duration::from_millis(1), end.read(&mut [0])).await;
        matches!(read, Ok(Ok(0)))
    }
}
