//! What is known of one account at one published address. Pure.

use jiff::{SignedDuration, Timestamp};

/// What an answer says of the address that its call left from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// kintone itself has answered, so its edge let the call in.
    Accepted,
    /// kintone's edge refused it: the customer's IP address restriction lacks the address.
    Refused,
}

/// Whether an account takes an address, as far as anybody has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It does.
    Accepted,
    /// It does not.
    Refused,
    /// Nobody has seen an answer that tells.
    Unknown,
}

/// An account at an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// When it was accepted last.
    pub accepted: Option<Timestamp>,
    /// When it was refused last.
    pub refused: Option<Timestamp>,
    /// Since when its state is what it is; `None` while it is unknown.
    pub since: Option<Timestamp>,
    /// When a probe was sent last, whatever came of it.
    pub asked: Option<Timestamp>,
}

/// A refusal so soon after an acceptance may be one of a single path, as web application firewalls
/// make them: the next answer or the next probe tells.
const WAVERS_FOR: SignedDuration = SignedDuration::from_mins(5);

/// What two observations are apart at least, so that the later one is the newer one.
const APART: SignedDuration = SignedDuration::from_millis(1);

impl State {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::Refused, Self::Unknown];

    /// The word in the API, in files and in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

impl Standing {
    /// What the newest observation says.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.accepted, self.refused) {
            (None, None) => State::Unknown,
            (Some(accepted), Some(refused)) if refused > accepted => State::Refused,
            (None, Some(_)) => State::Refused,
            (Some(_), _) => State::Accepted,
        }
    }

    /// When it was observed last.
    #[must_use]
    pub fn seen(&self) -> Option<Timestamp> {
        self.accepted.max(self.refused)
    }

    /// Whether it is refused, and was accepted a moment before.
    #[must_use]
    pub fn wavers(&self) -> bool {
        match (self.accepted, self.refused) {
            (Some(accepted), Some(refused)) => {
                refused > accepted && refused.duration_since(accepted) < WAVERS_FOR
            }
            (Some(_) | None, _) => false,
        }
    }

    /// Takes note of an answer that came at `now`; whether that changes the state. A clock that was
    /// set back does not make it an old one.
    pub fn see(&mut self, taken: Taken, now: Timestamp) -> bool {
        let before = self.state();
        let after_last = self
            .seen()
            .and_then(|seen| seen.checked_add(APART).ok())
            .unwrap_or(now);
        let at = now.max(after_last);
        match taken {
            Taken::Accepted => self.accepted = Some(at),
            Taken::Refused => self.refused = Some(at),
        }
        let is_changed = before != self.state();
        if is_changed {
            self.since = Some(at);
        }
        is_changed
    }

    /// Adds what somebody else has observed, the newest winning; whether that changes the state.
    /// Nothing was observed after `now`, whatever other clocks say.
    pub fn learn(&mut self, other: &Self, now: Timestamp) -> bool {
        let before = self.state();
        let past = |at: Option<Timestamp>| at.map(|at| at.min(now));
        let is_other_newer = past(other.seen()) > self.seen();
        self.accepted = self.accepted.max(past(other.accepted));
        self.refused = self.refused.max(past(other.refused));
        self.asked = self.asked.max(past(other.asked));
        let is_changed = before != self.state();
        if is_changed && is_other_newer {
            self.since = past(other.since);
        } else if !is_changed && other.state() == before {
            // Who saw it first knows since when.
            let known = [self.since, past(other.since)];
            self.since = known.into_iter().flatten().min();
        }
        is_changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn the_newest_answer_decides_and_says_since_when() {
        let mut standing = Standing::default();
        assert_eq!(standing.state(), State::Unknown);
        assert!(standing.see(Taken::Refused, at(0)));
        assert_eq!(
            (standing.state(), standing.since),
            (State::Refused, Some(at(0)))
        );
        assert!(!standing.see(Taken::Refused, at(5)));
        assert_eq!(standing.since, Some(at(0)));
        assert!(standing.see(Taken::Accepted, at(9)));
        assert_eq!(
            (standing.state(), standing.since),
            (State::Accepted, Some(at(9)))
        );
        assert!(
            standing.see(Taken::Refused, at(1)),
            "the clock was set back"
        );
        assert_eq!(standing.state(), State::Refused);
        assert!(standing.since > Some(at(9)));
    }

    #[test]
    fn only_a_refusal_right_after_an_acceptance_wavers() {
        let mut standing = Standing::default();
        standing.see(Taken::Refused, at(0));
        assert!(!standing.wavers());
        standing.see(Taken::Accepted, at(1));
        assert!(!standing.wavers());
        standing.see(Taken::Refused, at(2));
        assert!(standing.wavers());
        standing.see(Taken::Refused, at(400));
        assert!(!standing.wavers());
    }

    #[test]
    fn what_others_saw_counts_if_it_is_newer() {
        let mut here = Standing::default();
        here.see(Taken::Refused, at(10));
        let mut there = Standing::default();
        there.see(Taken::Accepted, at(5));
        assert!(!here.learn(&there, at(20)), "it is older");
        assert_eq!((here.state(), here.since), (State::Refused, Some(at(10))));
        there.see(Taken::Refused, at(6));
        there.see(Taken::Refused, at(12));
        assert!(!here.learn(&there, at(20)));
        assert_eq!(here.since, Some(at(6)), "there it was seen first");
        there.see(Taken::Accepted, at(90));
        assert!(here.learn(&there, at(20)));
        assert_eq!((here.state(), here.since), (State::Accepted, Some(at(20))));
        let before = here;
        assert!(!here.learn(&before, at(20)));
        assert_eq!(here, before, "learning twice is learning once");
    }
}
