//! Whether kintone serves an account at all, by what its answers say. Pure: every step takes the
//! time and tells what it decided.
//!
//! In maintenance kintone's edge answers for every account behind it, at once and without doing
//! anything. After the first such answer calls go one at a time; when nothing else has come for a
//! while the circuit opens: calls are told when to return, and after a pause that doubles one of
//! them is let through to see. It is a call like any other, and it gets kintone's own answer. When
//! kintone serves again, calls come back as TCP does from nothing: one more with every answer, and
//! twice as many with every second, so that calls which take long do not hold up the rest.
//!
//! That a domain does not exist is another matter: it is not over by itself, and until somebody has
//! looked, credentials must not go to a name that may become another's.

use std::time::Duration;

use crate::config::CircuitSettings;
use crate::model::{Denial, Detail, Mode};

use super::clock::Moment;
use super::health::{CircuitState, Event, Health};
use super::in_use::Slot;

/// What the answers of one account say about it. An account whose answers are well has none.
#[derive(Debug)]
pub(super) struct Circuit {
    state: State,
    unknown: Unknown,
    /// Permits granted since the state is not [`State::Closed`], and not given back.
    granted: Vec<Slot>,
    granted_at: Moment,
    /// The number of the last call sent before: answers to earlier calls tell of the past.
    sent_before: u64,
    /// The pause before the next call is let through.
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Suspect { since: Moment, answers: u32 },
    Open { until: Moment, why: Detail },
    Probing,
    Rising { since: Moment, answers: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    No,
    Said { since: Moment, answers: u32 },
    Closed,
}

/// An edge in maintenance answers at once. While a call that was let through is not answered for so
/// long, another may go: the first may be one that takes its time.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same while maintenance is only suspected.
const PATIENCE_SUSPECT: Duration = Duration::from_secs(1);
/// A tunnel's answers are not seen, so it is not let through to see. What is known of the account
/// is too old to keep tunnels out when no call was let through for so long.
const OLD: Duration = Duration::from_secs(60);

impl Circuit {
    /// A circuit of which nothing bad is known.
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed,
            unknown: Unknown::No,
            granted: Vec::new(),
            granted_at: Moment::default(),
            sent_before: 0,
            pause: Duration::ZERO,
        }
    }

    /// Why an arriving call is refused, if it is.
    pub(super) fn gate(&mut self, mode: Mode, now: Moment) -> Option<Denial> {
        if self.unknown == Unknown::Closed {
            return Some(Denial::AccountUnknown);
        }
        if let State::Open { until, .. } = self.state
            && until <= now
        {
            self.state = State::Probing;
            self.granted_at = until;
        }
        match self.state {
            State::Open { until, why } => {
                Some(Denial::AccountMaintenance(why, Some(until.since(now))))
            }
            State::Probing if mode == Mode::Tunnel => self.gate_tunnel(now),
            State::Closed | State::Suspect { .. } | State::Probing | State::Rising { .. } => None,
        }
    }

    fn gate_tunnel(&mut self, now: Moment) -> Option<Denial> {
        let old = self.granted_at.after(OLD);
        if now < old {
            return Some(seen(self.pause.min(old.since(now))));
        }
        self.close();
        None
    }

    /// What those are told who wait, if they wait in vain.
    pub(super) fn turned_away(&self, now: Moment) -> Option<Denial> {
        match (self.unknown, self.state) {
            (Unknown::Closed, _) => Some(Denial::AccountUnknown),
            (_, State::Open { until, why }) => {
                Some(Denial::AccountMaintenance(why, Some(until.since(now))))
            }
            (Unknown::No | Unknown::Said { .. }, _) => None,
        }
    }

    /// What a call is told whose wait ends while others go to see whether kintone serves.
    pub(super) const fn held_back(&self) -> Option<Denial> {
        match self.state {
            State::Suspect { .. } | State::Probing => Some(seen(self.pause)),
            State::Closed | State::Open { .. } | State::Rising { .. } => None,
        }
    }

    /// Whether one more call may go now, as far as this goes.
    pub(super) fn admits(&self, now: Moment) -> bool {
        let is_quiet = |patience| self.granted.is_empty() || now.since(self.granted_at) >= patience;
        match self.state {
            State::Closed => true,
            State::Suspect { .. } => is_quiet(PATIENCE_SUSPECT),
            State::Open { .. } => false,
            State::Probing => is_quiet(PATIENCE),
            State::Rising { since, answers } => self.granted.len() < rise(since, answers, now),
        }
    }

    /// Whether it lets fewer calls go than there are permits.
    pub(super) fn is_restraining(&self) -> bool {
        self.state != State::Closed
    }

    /// A permit was granted.
    pub(super) fn granted(&mut self, slot: Slot, now: Moment) {
        if self.state != State::Closed {
            self.granted.push(slot);
            self.granted_at = now;
        }
    }

    /// A permit came back.
    pub(super) fn left(&mut self, slot: Slot) {
        if let Some(at) = self.granted.iter().position(|granted| *granted == slot) {
            self.granted.swap_remove(at);
        }
    }

    /// An answer to the call that was the `number`th sent; `sent` were sent by now.
    pub(super) fn answered(
        &mut self,
        health: Health,
        (number, sent): (u64, u64),
        settings: &CircuitSettings,
        now: Moment,
    ) -> Option<Event> {
        let unknown = self.hear_of_domain(health, settings, now);
        let event = match health {
            Health::Maintenance => self.hear_maintenance((number, sent), settings, now),
            Health::Serving | Health::NoSuchDomain => self.hear_service(number, now),
            Health::Unclear => None,
        };
        unknown.or(event)
    }

    /// Maintenance was announced that ends then.
    pub(super) fn plan(&mut self, until: Moment, sent: u64, settings: &CircuitSettings) {
        self.begin(sent);
        self.pause = settings.probe;
        let why = Detail::MaintenancePlanned;
        self.state = State::Open { until, why };
    }

    /// The announcement was taken back: a call goes to see.
    pub(super) fn unplan(&mut self, now: Moment) {
        if let State::Open { until, why } = &mut self.state
            && *why == Detail::MaintenancePlanned
        {
            *until = now;
        }
    }

    /// The domain is closed until somebody confirms it.
    pub(super) const fn close_unknown(&mut self) {
        self.unknown = Unknown::Closed;
    }

    /// Somebody has confirmed the domain: it counts from nothing.
    pub(super) const fn confirm(&mut self) {
        self.unknown = Unknown::No;
    }

    /// Whether it must be remembered, although nobody calls.
    pub(super) fn is_lasting(&self) -> bool {
        self.unknown == Unknown::Closed
    }

    /// Whether nothing bad is known any more; `allowed` is how many calls may run at once without it.
    pub(super) fn is_over(&mut self, allowed: u32, now: Moment) -> bool {
        if let State::Rising { since, answers } = self.state
            && rise(since, answers, now) >= allowed as usize
        {
            self.close();
        }
        self.state == State::Closed && self.unknown == Unknown::No
    }

    /// What it is like.
    pub(super) fn state(&self, now: Moment) -> CircuitState {
        match (self.unknown, self.state) {
            (Unknown::Closed, _) => CircuitState::Unknown,
            (_, State::Closed) => CircuitState::Closed,
            (_, State::Suspect { .. }) => CircuitState::Suspect,
            (_, State::Open { until, .. }) if until <= now => CircuitState::Probing,
            (
                _,
                State::Open {
                    until,
                    why: Detail::MaintenancePlanned,
                },
            ) => CircuitState::Planned(until.since(now)),
            (_, State::Open { until, .. }) => CircuitState::Open(until.since(now)),
            (_, State::Probing) => CircuitState::Probing,
            (_, State::Rising { since, answers }) => {
                let calls = rise(since, answers, now);
                CircuitState::Rising(u32::try_from(calls).unwrap_or(u32::MAX))
            }
        }
    }

    fn hear_maintenance(
        &mut self,
        (number, sent): (u64, u64),
        settings: &CircuitSettings,
        now: Moment,
    ) -> Option<Event> {
        if settings.maintenance_after == 0 {
            return None;
        }
        match &mut self.state {
            State::Closed => {
                self.begin(sent);
                self.pause = settings.probe;
                let answers = 1;
                self.state = State::Suspect {
                    since: now,
                    answers,
                };
            }
            State::Suspect { answers, .. } => *answers += 1,
            State::Probing | State::Rising { .. } if number > self.sent_before => {
                let is_news = self.state != State::Probing;
                self.pause = (self.pause * 2).min(settings.probe_max);
                self.open(sent, now);
                return is_news.then_some(Event::Opened);
            }
            State::Open { .. } | State::Probing | State::Rising { .. } => {}
        }
        if let State::Suspect { since, answers } = self.state
            && answers >= settings.maintenance_after
            && now.since(since) >= settings.maintenance_over
        {
            self.open(sent, now);
            return Some(Event::Opened);
        }
        None
    }

    fn hear_service(&mut self, number: u64, now: Moment) -> Option<Event> {
        if number <= self.sent_before {
            return None;
        }
        match &mut self.state {
            State::Suspect { .. } => {
                self.close();
                None
            }
            State::Rising { answers, .. } => {
                *answers += 1;
                None
            }
            State::Open { why, .. } if *why == Detail::MaintenancePlanned => None,
            // When it is still open, by a call that was let through before and sent since.
            State::Probing | State::Open { .. } => {
                let (since, answers) = (now, 1);
                self.state = State::Rising { since, answers };
                Some(Event::Recovered)
            }
            State::Closed => None,
        }
    }

    fn hear_of_domain(
        &mut self,
        health: Health,
        settings: &CircuitSettings,
        now: Moment,
    ) -> Option<Event> {
        match (health, &mut self.unknown) {
            (Health::NoSuchDomain, Unknown::No) => {
                let (since, answers) = (now, 1);
                self.unknown = Unknown::Said { since, answers };
            }
            (Health::NoSuchDomain, Unknown::Said { answers, .. }) => *answers += 1,
            (Health::Serving, Unknown::Said { .. }) => self.unknown = Unknown::No,
            (_, _) => {}
        }
        match self.unknown {
            Unknown::Said { since, answers }
                if settings.unknown_after > 0
                    && answers >= settings.unknown_after
                    && now.since(since) >= settings.unknown_over
                    && health == Health::NoSuchDomain =>
            {
                Some(Event::Unknown(answers))
            }
            Unknown::No | Unknown::Said { .. } | Unknown::Closed => None,
        }
    }

    fn open(&mut self, sent: u64, now: Moment) {
        self.begin(sent);
        let (until, why) = (now.after(self.pause), Detail::MaintenanceSeen);
        self.state = State::Open { until, why };
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.granted = Vec::new();
    }

    fn begin(&mut self, sent: u64) {
        self.granted.clear();
        self.sent_before = sent;
    }
}

const fn seen(retry_after: Duration) -> Denial {
    Denial::AccountMaintenance(Detail::MaintenanceSeen, Some(retry_after))
}

/// How many calls at once may run so long after kintone serves again, after so many answers.
fn rise(since: Moment, answers: u32, now: Moment) -> usize {
    let doublings = now.since(since).as_secs().min(20);
    (1 + answers as usize) << doublings
}

#[cfg(test)]
#[path = "circuit/tests.rs"]
mod tests;
