//! Whether an address may be used as far as echoes say, and a connection that was made from it: one atomic
//! load each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::judge::{Answer, Finding};
use super::standing::{Seen, Standing};
use super::vouch::{Manner, Number, Ticket, Vouchers, Word};
use crate::config::Vouching;

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
    vouchers: Vouchers,
}

#[derive(Debug, Default)]
struct Inner {
    is_watched: bool,
    /// Which connections wait; nobody asks for any before that is said.
    vouching: Option<Vouching>,
    standing: Standing,
    answers: Vec<(String, Answer)>,
    /// How often the address has come into use or back. A round that began before says nothing.
    arrivals: u64,
}

/// A round of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// The arrival that it asks for.
    arrival: u64,
    number: Number,
}

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
            vouchers: Vouchers::new(),
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
        self.vouchers.arrive();
        self.set_manner(&inner);
        drop(inner);
        self.wake.notify_one();
    }

    /// A connection from the address stands. `Some`: it waits for an echo's word.
    pub(in crate::egress) fn stand(&self) -> Option<Ticket> {
        self.vouchers.stand()
    }

    /// Resolves when it is known what becomes of a connection that waits.
    pub(in crate::egress) async fn word(&self, ticket: Ticket) -> Word {
        self.vouchers.word(ticket).await
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

    /// Resolves when a connection waits for a round that has not begun.
    pub(super) async fn wished(&self) {
        self.vouchers.wished().await;
    }

    /// From here on these connections wait for rounds, which somebody must begin when they are wished for.
    pub(super) fn vouch(&self, vouching: Vouching) {
        let mut inner = self.lock();
        inner.vouching = Some(vouching);
        self.set_manner(&inner);
    }

    /// A round begins. From here on rounds decide; until the next one ends the gate stays as it is.
    pub(super) fn watch(&self) -> Round {
        let mut inner = self.lock();
        inner.is_watched = true;
        self.set_manner(&inner);
        self.round(&inner)
    }

    /// A round begins, whose word counts if rounds decide.
    pub(super) fn begin(&self) -> Round {
        self.round(&self.lock())
    }

    fn round(&self, inner: &Inner) -> Round {
        Round {
            arrival: inner.arrivals,
            number: self.vouchers.begin(),
        }
    }

    /// The round that is wished for is not worth its while: whoever waits goes by what is known.
    pub(super) fn skip(&self) {
        self.vouchers.end(self.vouchers.begin(), Finding::Nothing);
    }

    /// Nobody asks any more.
    pub(super) fn release(&self) {
        let mut inner = self.lock();
        *inner = Inner {
            arrivals: inner.arrivals,
            ..Inner::default()
        };
        self.set_manner(&inner);
        self.is_open.store(true, Ordering::Release);
    }

    /// What an earlier process knew.
    pub(super) fn remember(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    /// A round has come to this. `None`: the address has left since it began, or a later round has ended,
    /// and what was found says nothing.
    pub(super) fn hear(
        &self,
        round: Round,
        finding: Finding,
        unknown_for: Duration,
    ) -> Option<Change> {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.arrivals != round.arrival || !inner.is_watched {
            self.vouchers.end(round.number, Finding::Nothing);
            return None;
        }
        if self.vouchers.is_overtaken(round.number) {
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
        self.set_manner(&inner);
        // The last: whoever is told looks at the gate.
        self.vouchers.end(round.number, finding);
        Some(change)
    }

    /// When the address was last seen as published.
    pub(super) fn proven_at(&self) -> Option<Timestamp> {
        self.lock().standing.proven_at()
    }

    /// What each echo said in a round that has ended, in their order; `None` where it was not waited for.
    pub(super) fn note(&self, answers: Vec<(String, Option<Answer>)>) {
        let mut inner = self.lock();
        let before = std::mem::take(&mut inner.answers);
        let noted = answers.into_iter().enumerate();
        inner.answers = noted
            .filter_map(|(at, (echo, answer))| {
                let old = before.get(at).filter(|(of, _)| *of == echo);
                Some((echo, answer.or_else(|| old.map(|(_, answer)| *answer))?))
            })
            .collect();
    }

    /// What each echo said last, as far as that is known of all.
    pub(super) fn answers(&self) -> Vec<(String, Answer)> {
        self.lock().answers.clone()
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

    /// Whether the last round came to nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.lock().standing.silent_since().is_some()
    }

    /// Who would wait for an echo that does not answer would wait for its timeout, and know no more then.
    fn set_manner(&self, inner: &Inner) {
        let is_silent = inner.standing.silent_since().is_some();
        let waits = inner.is_watched && inner.vouching == Some(Vouching::Each) && !is_silent;
        self.vouchers
            .are_to(if waits { Manner::Wait } else { Manner::Pass });
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

    #[tokio::test(start_paused = true)]
    async fn connections_wait_if_they_are_to_while_an_echo_answers() {
        let gate = Gate::shut();
        let hear = |finding| gate.hear(gate.watch(), finding, MINUTE).unwrap();
        hear(Finding::Published);
        assert!(gate.stand().is_none(), "nobody has said that they are to");
        gate.vouch(Vouching::Interval);
        assert!(gate.stand().is_none());
        gate.vouch(Vouching::Each);
        let ticket = gate.stand().unwrap();
        hear(Finding::Published);
        assert_eq!(gate.word(ticket).await, Word::Go);
        let ticket = gate.stand().unwrap();
        hear(Finding::Nothing);
        assert_eq!(gate.word(ticket).await, Word::Go, "the last verdict stands");
        assert!(gate.is_silent() && gate.is_open() && gate.stand().is_none());
        hear(Finding::Published);
        let ticket = gate.stand().unwrap();
        hear(OTHER);
        assert_eq!(gate.word(ticket).await, Word::Other);
        let ticket = gate.stand().unwrap();
        gate.skip();
        assert_eq!(gate.word(ticket).await, Word::Go);
        assert!(!gate.is_open(), "which nothing goes through");
        let ticket = gate.stand().unwrap();
        gate.release();
        assert_eq!(gate.word(ticket).await, Word::Go);
        assert!(gate.is_open() && gate.stand().is_none());
    }

    #[tokio::test]
    async fn an_old_round_does_not_open_what_a_later_one_has_shut() {
        let gate = Gate::shut();
        let old = gate.watch();
        gate.hear(gate.begin(), OTHER, MINUTE).unwrap();
        assert_eq!(gate.hear(old, Finding::Published, MINUTE), None);
        assert!(!gate.is_open());
    }

    #[tokio::test]
    async fn a_round_for_connections_decides_nothing_where_nobody_asks_any_more() {
        let gate = Gate::shut();
        gate.release();
        assert_eq!(gate.hear(gate.begin(), OTHER, MINUTE), None);
        assert!(gate.is_open() && gate.seen().is_none());
    }

    #[test]
    fn what_was_not_waited_for_stays_as_it_was() {
        let gate = Gate::open();
        let saw = |last| Some(Answer::Saw([192, 0, 2, last].into()));
        let names = |first, second| vec![("a".to_owned(), first), ("b".to_owned(), second)];
        gate.note(names(saw(1), saw(2)));
        gate.note(names(saw(3), None));
        let answers = gate.answers().into_iter();
        let answers: Vec<_> = answers.map(|(_, answer)| Some(answer)).collect();
        assert_eq!(answers, [saw(3), saw(2)]);
        gate.note(vec![("b".to_owned(), saw(4)), ("a".to_owned(), None)]);
        assert_eq!(
            gate.answers().len(),
            1,
            "another echo's answer is not its own"
        );
    }
}
