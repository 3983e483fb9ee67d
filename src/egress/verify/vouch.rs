//! Which rounds vouch for which connections.
//!
//! As which address a connection leaves is settled when it is made: whoever translates keeps to that for
//! as long as it stands. So a round that began after a connection stood, and finds the address as
//! published, vouches for it; one that began before says nothing, however late it ends. A round vouches
//! for all connections that stood when it began.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

use super::judge::Finding;

/// The rounds of one address, and who waits for them.
#[derive(Debug)]
pub(super) struct Vouchers {
    /// Whether connections wait: looked at by each, and all that it costs where they do not.
    waits: AtomicBool,
    rounds: watch::Sender<Rounds>,
    wish: Notify,
}

/// Whether connections wait for a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Manner {
    /// For one that began after they stood.
    Wait,
    /// The last verdict is good for them.
    #[default]
    Pass,
}

/// The number of a round, in the order in which they began, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

/// Of a connection that stands: which rounds vouch for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::egress) struct Ticket {
    /// So many rounds had begun.
    after: Number,
    arrivals: u64,
}

/// What a connection that waits is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::egress) enum Word {
    /// It may carry calls, if the address may be used.
    Go,
    /// It leaves as another address than the published one.
    Other,
    /// The address has left since, and nobody knows as which one it leaves.
    Left,
}

/// What has come of the rounds so far. Pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rounds {
    manner: Manner,
    begun: Number,
    /// The latest one that has ended.
    ended: Number,
    /// The latest one that saw another address.
    wrong: Number,
    /// Somebody waits for this one or a later one.
    wished: Number,
    arrivals: u64,
}

const NONE: Number = Number(0);

impl Number {
    const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Rounds {
    const fn new() -> Self {
        Self {
            manner: Manner::Pass,
            begun: NONE,
            ended: NONE,
            wrong: NONE,
            wished: NONE,
            arrivals: 0,
        }
    }

    fn stand(&mut self) -> Option<Ticket> {
        if self.manner == Manner::Pass {
            return None;
        }
        self.wished = self.wished.max(self.begun.next());
        Some(Ticket {
            after: self.begun,
            arrivals: self.arrivals,
        })
    }

    fn begin(&mut self) -> Number {
        self.begun = self.begun.next();
        self.begun
    }

    /// A round that began later has ended: this one is not news.
    fn is_overtaken(&self, round: Number) -> bool {
        round <= self.ended
    }

    fn end(&mut self, round: Number, finding: Finding) {
        if self.is_overtaken(round) {
            return;
        }
        self.ended = round;
        if let Finding::Other(_) = finding {
            self.wrong = round;
        }
    }

    fn is_wished(&self) -> bool {
        self.wished > self.begun
    }

    /// `None`: the round that vouches for it has not ended.
    fn word(&self, ticket: Ticket) -> Option<Word> {
        if self.arrivals != ticket.arrivals {
            Some(Word::Left)
        } else if self.wrong > ticket.after {
            Some(Word::Other)
        } else if self.ended > ticket.after || self.manner == Manner::Pass {
            Some(Word::Go)
        } else {
            None
        }
    }
}

impl Vouchers {
    pub(super) fn new() -> Self {
        Self {
            waits: AtomicBool::new(false),
            rounds: watch::Sender::new(Rounds::new()),
            wish: Notify::new(),
        }
    }

    /// Connections wait from here on, or do so no more; those that wait already, too.
    pub(super) fn are_to(&self, manner: Manner) {
        self.rounds.send_if_modified(|rounds| {
            let before = std::mem::replace(&mut rounds.manner, manner);
            // Under the lock, so that the last word is the same in both.
            self.waits.store(manner == Manner::Wait, Ordering::Release);
            before != manner
        });
    }

    /// A connection stands now; the round that it needs is asked for. `None`: it needs none.
    pub(super) fn stand(&self) -> Option<Ticket> {
        if !self.waits.load(Ordering::Acquire) {
            return None;
        }
        let mut ticket = None;
        self.rounds.send_if_modified(|rounds| {
            ticket = rounds.stand();
            false
        });
        if ticket.is_some() {
            self.wish.notify_one();
        }
        ticket
    }

    /// Resolves when it is known what becomes of that connection. Rounds end in time, whatever echoes do.
    pub(super) async fn word(&self, ticket: Ticket) -> Word {
        let mut rounds = self.rounds.subscribe();
        let known = rounds
            .wait_for(|rounds| rounds.word(ticket).is_some())
            .await;
        // Nobody asks any more only when nobody is left to be told.
        known.map_or(Word::Left, |rounds| {
            rounds.word(ticket).unwrap_or(Word::Left)
        })
    }

    /// Resolves when a connection waits for a round that has not begun.
    pub(super) async fn wished(&self) {
        while !self.rounds.borrow().is_wished() {
            self.wish.notified().await;
        }
    }

    /// A round begins: its echoes are asked after this.
    pub(super) fn begin(&self) -> Number {
        let mut begun = NONE;
        self.rounds.send_if_modified(|rounds| {
            begun = rounds.begin();
            false
        });
        begun
    }

    /// Whether a round that began later has ended before.
    pub(super) fn is_overtaken(&self, round: Number) -> bool {
        self.rounds.borrow().is_overtaken(round)
    }

    /// A round has come to this.
    pub(super) fn end(&self, round: Number, finding: Finding) {
        self.rounds.send_modify(|rounds| rounds.end(round, finding));
    }

    /// The address has come into use or back: what stood before proves nothing.
    pub(super) fn arrive(&self) {
        self.rounds.send_modify(|rounds| rounds.arrivals += 1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const OTHER: Finding = Finding::Other(Ipv4Addr::new(52, 0, 0, 1));

    fn vouchers() -> Arc<Vouchers> {
        let vouchers = Arc::new(Vouchers::new());
        vouchers.are_to(Manner::Wait);
        vouchers
    }

    fn waiting(vouchers: &Arc<Vouchers>) -> JoinHandle<Word> {
        let ticket = vouchers.stand().unwrap();
        let vouchers = Arc::clone(vouchers);
        tokio::spawn(async move { vouchers.word(ticket).await })
    }

    /// Whether a round is wished for at this moment.
    async fn is_wished(vouchers: &Vouchers) -> bool {
        timeout(Duration::from_millis(1), vouchers.wished())
            .await
            .is_ok()
    }

    /// Time for whoever is woken.
    async fn a_moment() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_round_that_began_later_vouches() {
        let vouchers = vouchers();
        assert!(!is_wished(&vouchers).await);
        let before = vouchers.begin();
        let first = waiting(&vouchers);
        assert!(is_wished(&vouchers).await, "the one under way is too old");
        vouchers.end(before, Finding::Published);
        a_moment().await;
        assert!(!first.is_finished());
        let second = waiting(&vouchers);
        let after = vouchers.begin();
        assert!(!is_wished(&vouchers).await, "one is enough for both");
        let third = waiting(&vouchers);
        vouchers.end(after, Finding::Published);
        assert_eq!(first.await.unwrap(), Word::Go);
        assert_eq!(second.await.unwrap(), Word::Go);
        a_moment().await;
        assert!(!third.is_finished() && is_wished(&vouchers).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_as_another_does_not_go_even_if_the_next_round_is_right() {
        let vouchers = vouchers();
        let wrong = vouchers.stand().unwrap();
        vouchers.end(vouchers.begin(), OTHER);
        let right = vouchers.stand().unwrap();
        vouchers.end(vouchers.begin(), Finding::Published);
        assert_eq!(vouchers.word(wrong).await, Word::Other);
        assert_eq!(vouchers.word(right).await, Word::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_was_overtaken_says_nothing() {
        let vouchers = vouchers();
        let slow = vouchers.begin();
        let ticket = vouchers.stand().unwrap();
        vouchers.end(vouchers.begin(), OTHER);
        assert!(vouchers.is_overtaken(slow));
        vouchers.end(slow, Finding::Published);
        assert_eq!(vouchers.word(ticket).await, Word::Other);
        let slow = vouchers.begin();
        let ticket = vouchers.stand().unwrap();
        vouchers.end(vouchers.begin(), Finding::Published);
        vouchers.end(slow, OTHER);
        assert_eq!(vouchers.word(ticket).await, Word::Go);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_where_no_echo_answers_or_nobody_asks() {
        let vouchers = vouchers();
        let first = waiting(&vouchers);
        a_moment().await;
        assert!(!first.is_finished());
        vouchers.are_to(Manner::Pass);
        assert_eq!(first.await.unwrap(), Word::Go);
        assert_eq!(vouchers.stand(), None);
        vouchers.are_to(Manner::Wait);
        let second = waiting(&vouchers);
        vouchers.end(vouchers.begin(), Finding::Nothing);
        assert_eq!(second.await.unwrap(), Word::Go, "the last verdict stands");
    }

    #[tokio::test(start_paused = true)]
    async fn what_stood_before_the_address_left_does_not_go() {
        let vouchers = vouchers();
        let old = waiting(&vouchers);
        vouchers.arrive();
        assert_eq!(old.await.unwrap(), Word::Left);
        let new = waiting(&vouchers);
        vouchers.end(vouchers.begin(), Finding::Published);
        assert_eq!(new.await.unwrap(), Word::Go);
    }
}
