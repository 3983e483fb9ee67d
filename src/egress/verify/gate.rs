//! Whether an address may be used as far as echoes say: one atomic load for a call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::judge::{Answer, Finding};
use super::standing::{Seen, Standing};

/// What echoes say of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// How the internet sees it.
    pub seen: Seen,
    /// When it was last seen as published.
    pub proven_at: Option<Timestamp>,
    /// How long no echo has given a usable answer.
    pub silent_for: Option<Duration>,
    /// What each echo said last, by its scheme, host and port.
    pub answers: Vec<(String, Answer)>,
}

/// The gate of one address. Without `[verify]` it is open.
#[derive(Debug)]
pub(in crate::egress) struct Gate {
    is_open: AtomicBool,
    inner: Mutex<Inner>,
    wake: Notify,
    doubt: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    is_watched: bool,
    standing: Standing,
    answers: Vec<(String, Answer)>,
    /// How often the address has come into use or back. A round that began before says nothing.
    arrivals: u64,
}

/// Which arrival of an address a round asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival(u64);

/// What a finding has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: Seen,
    pub(super) now: Seen,
    /// No usable answer, for the first time.
    pub(super) fell_silent: bool,
}

impl Gate {
    /// An open one.
    pub(in crate::egress) fn open() -> Self {
        Self {
            is_open: AtomicBool::new(true),
            inner: Mutex::default(),
            wake: Notify::new(),
            doubt: Notify::new(),
        }
    }

    /// A shut one, which the first round opens.
    pub(in crate::egress) fn shut() -> Self {
        let gate = Self::open();
        gate.is_open.store(false, Ordering::Release);
        gate.lock().is_watched = true;
        gate
    }

    /// Whether calls may pass.
    pub(in crate::egress) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// How the internet sees the address; `None` where nobody asks.
    pub(in crate::egress) fn seen(&self) -> Option<Seen> {
        let inner = self.lock();
        inner
            .is_watched
            .then(|| inner.standing.seen(Instant::now()))
    }

    /// The address comes into use, or is back on this host: to be called before calls can use it.
    pub(in crate::egress) fn arrive(&self) {
        let mut inner = self.lock();
        inner.arrivals += 1;
        inner.standing.arrive();
        if inner.is_watched {
            self.is_open.store(false, Ordering::Release);
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Somebody has reason to believe that the internet sees the address as another one.
    pub(in crate::egress) fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Everything that is known; `None` where nobody asks.
    pub(in crate::egress) fn verification(&self) -> Option<Verification> {
        let inner = self.lock();
        let now = Instant::now();
        inner.is_watched.then(|| Verification {
            seen: inner.standing.seen(now),
            proven_at: inner.standing.proven_at(),
            silent_for: inner.standing.silent_since().map(|since| now - since),
            answers: inner.answers.clone(),
        })
    }

    /// Resolves when the address has come into use or back since this was last awaited.
    pub(super) async fn arrived(&self) {
        self.wake.notified().await;
    }

    /// Resolves when somebody has doubted since this was last awaited.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// From here on rounds decide; until the next one ends the gate stays as it is.
    pub(super) fn watch(&self) -> Arrival {
        let mut inner = self.lock();
        inner.is_watched = true;
        Arrival(inner.arrivals)
    }

    /// Nobody asks any more.
    pub(super) fn release(&self) {
        let mut inner = self.lock();
        *inner = Inner {
            arrivals: inner.arrivals,
            ..Inner::default()
        };
        self.is_open.store(true, Ordering::Release);
    }

    /// What an earlier process knew.
    pub(super) fn remember(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    /// A round that asked for `arrival` has come to this. `None`: the address has left meanwhile, and
    /// what was found says nothing.
    pub(super) fn hear(
        &self,
        arrival: Arrival,
        finding: Finding,
        unknown_for: Duration,
    ) -> Option<Change> {
        let now = Instant::now();
        let mut inner = self.lock();
        if Arrival(inner.arrivals) != arrival || !inner.is_watched {
            return None;
        }
        let standing = &mut inner.standing;
        let before = standing.seen(now);
        let was_silent = standing.silent_since().is_some();
        standing.hear(finding, unknown_for, now, Timestamp::now());
        let change = Change {
            before,
            now: standing.seen(now),
            fell_silent: !was_silent && standing.silent_since().is_some(),
        };
        self.is_open
            .store(change.now == Seen::Published, Ordering::Release);
        Some(change)
    }

    /// When the address was last seen as published.
    pub(super) fn proven_at(&self) -> Option<Timestamp> {
        self.lock().standing.proven_at()
    }

    /// What each echo said in a round that has ended.
    pub(super) fn note(&self, answers: Vec<(String, Answer)>) {
        self.lock().answers = answers;
    }

    /// Shuts the gate if the last verdict does not stand any more; whether it did until now.
    pub(super) fn lapse(&self) -> bool {
        let inner = self.lock();
        if !inner.is_watched || inner.standing.seen(Instant::now()) == Seen::Published {
            return false;
        }
        // A gate that nobody has asked for yet stays as it is.
        inner.standing.stands_until().is_some() && self.is_open.swap(false, Ordering::AcqRel)
    }

    /// When the verdict ends if no other comes, while the gate is open.
    pub(super) fn lapses_at(&self) -> Option<Instant> {
        let until = self.lock().standing.stands_until();
        until.filter(|_| self.is_open())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const OTHER: Finding = Finding::Other(Ipv4Addr::new(52, 0, 0, 1));

    #[tokio::test(start_paused = true)]
    async fn only_an_address_that_is_seen_as_published_passes() {
        let gate = Gate::shut();
        assert!(!gate.is_open());
        let hear = |finding| gate.hear(gate.watch(), finding, MINUTE).unwrap();
        hear(Finding::Nothing);
        assert!(!gate.is_open());
        hear(Finding::Published);
        assert!(gate.is_open());
        assert!(hear(Finding::Nothing).fell_silent && gate.is_open());
        assert!(!hear(Finding::Nothing).fell_silent, "it is told once");
        hear(OTHER);
        assert!(!gate.is_open());
        hear(Finding::Published);
        assert!(gate.is_open() && !gate.lapse());
        tokio::time::advance(MINUTE).await;
        assert!(gate.is_open(), "nobody has looked");
        assert!(gate.lapse() && !gate.is_open());
        assert!(!gate.lapse(), "it is told once");
    }

    #[tokio::test]
    async fn a_round_from_before_the_address_left_says_nothing() {
        let gate = Gate::shut();
        let arrival = gate.watch();
        gate.arrive();
        assert_eq!(gate.hear(arrival, Finding::Published, MINUTE), None);
        assert!(!gate.is_open());
        gate.arrived().await;
        let told = gate.hear(gate.watch(), Finding::Published, MINUTE);
        assert_eq!(told.unwrap().now, Seen::Published);
        gate.arrive();
        assert!(!gate.is_open(), "asked for again before its use");
    }

    #[tokio::test]
    async fn where_nobody_asks_all_pass() {
        let gate = Gate::open();
        gate.arrive();
        assert!(gate.is_open() && gate.seen().is_none());
        let arrival = gate.watch();
        assert!(gate.is_open(), "until the first round ends");
        assert!(!gate.lapse());
        gate.hear(arrival, Finding::Nothing, MINUTE).unwrap();
        assert!(!gate.is_open());
        gate.release();
        assert!(gate.is_open() && gate.verification().is_none());
    }
}
