//! Many failures, one beginning, one end.
//!
//! An episode begins at [`FAILURES`] failures over at least [`BEGINS_AFTER`] without a success of the
//! same kind between them, and ends when a success has stood for [`ENDS_AFTER`] without a failure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use crate::model::{Account, Published, Tenant};

/// Failures that make an episode.
pub const FAILURES: u32 = 3;

/// The time that they must span.
pub const BEGINS_AFTER: Duration = Duration::from_mins(1);

/// For how long a success must stand before an episode is over.
pub const ENDS_AFTER: Duration = Duration::from_mins(5);

/// What people are told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matter {
    /// The customer's kintone refuses one of the published addresses. It concerns the whole account.
    AddressRefused(Published),
    /// kintone refuses the credentials of a tenant's calls.
    CredentialsRefused(Option<Tenant>),
    /// An app's calls of the day are near their budget.
    BudgetNear(Option<Tenant>),
    /// The account's limit has been full for long.
    LimitFull(Option<Tenant>),
    /// kintone does not know the account.
    AccountUnknown(Option<Tenant>),
}

/// What an episode is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The customer's kintone.
    pub account: Account,
    /// What is wrong with it.
    pub matter: Matter,
}

/// What one call showed of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It failed for that reason.
    Failure,
    /// It succeeded where it would have failed for that reason.
    Success,
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An episode begins; its first failure was at `since`.
    Begins {
        /// What it is about.
        subject: Subject,
        /// When it was first seen.
        since: Instant,
    },
    /// An episode is over.
    Ends {
        /// What it was about.
        subject: Subject,
        /// When it was first seen.
        since: Instant,
        /// The success that has stood since.
        well_since: Instant,
    },
}

/// All subjects that are suspected or open.
#[derive(Debug)]
pub struct Episodes {
    subjects: HashMap<Subject, State>,
    subjects_max: usize,
    left_out: u64,
}

#[derive(Debug)]
enum State {
    /// Failures, not enough of them.
    Suspected {
        since: Instant,
        latest: Instant,
        failures: u32,
    },
    /// Told, and not over.
    Open {
        since: Instant,
        well_since: Option<Instant>,
    },
}

impl Episodes {
    /// Nothing is wrong; at most `subjects_max` subjects are followed at once.
    #[must_use]
    pub fn new(subjects_max: usize) -> Self {
        Self {
            subjects: HashMap::new(),
            subjects_max,
            left_out: 0,
        }
    }

    /// Takes what a call showed at `now`, which must not run backward; says whether an episode begins
    /// with it. Ends are told by [`Episodes::end`].
    pub fn hear(&mut self, subject: Subject, sign: Sign, now: Instant) -> Option<Turn> {
        match sign {
            Sign::Success => {
                self.hear_success(&subject, now);
                None
            }
            Sign::Failure => self.hear_failure(subject, now),
        }
    }

    /// The episodes that are over at `now`. Each is told once; an account that nobody calls any more
    /// stays open, since nothing shows that it is well.
    pub fn end(&mut self, now: Instant) -> Vec<Turn> {
        let over = |state: &State| match *state {
            State::Open {
                since,
                well_since: Some(well),
            } if now.saturating_duration_since(well) >= ENDS_AFTER => Some((since, well)),
            State::Open { .. } | State::Suspected { .. } => None,
        };
        let mut turns = Vec::new();
        self.subjects.retain(|subject, state| match over(state) {
            None => true,
            Some((since, well_since)) => {
                turns.push(Turn::Ends {
                    subject: subject.clone(),
                    since,
                    well_since,
                });
                false
            }
        });
        turns
    }

    /// Failures that were not followed, since too many episodes were open.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn hear_success(&mut self, subject: &Subject, now: Instant) {
        match self.subjects.get_mut(subject) {
            None => {}
            Some(State::Suspected { .. }) => {
                self.subjects.remove(subject);
            }
            Some(State::Open { well_since, .. }) => {
                well_since.get_or_insert(now);
            }
        }
    }

    fn hear_failure(&mut self, subject: Subject, now: Instant) -> Option<Turn> {
        if self.subjects.len() >= self.subjects_max
            && !self.subjects.contains_key(&subject)
            && !self.forget_a_suspected()
        {
            self.left_out += 1;
            return None;
        }
        let mut known = match self.subjects.entry(subject) {
            Entry::Occupied(known) => known,
            Entry::Vacant(new) => {
                new.insert(State::Suspected {
                    since: now,
                    latest: now,
                    failures: 1,
                });
                return None;
            }
        };
        match known.get_mut() {
            // A success that has stood long enough is not undone before its end is told.
            State::Open { well_since, .. } => {
                if well_since.is_none_or(|well| now.saturating_duration_since(well) < ENDS_AFTER) {
                    *well_since = None;
                }
                None
            }
            State::Suspected {
                since,
                latest,
                failures,
            } => {
                *latest = now;
                *failures = failures.saturating_add(1);
                let since = *since;
                if *failures < FAILURES || now.saturating_duration_since(since) < BEGINS_AFTER {
                    return None;
                }
                let subject = known.key().clone();
                known.insert(State::Open {
                    since,
                    well_since: None,
                });
                Some(Turn::Begins { subject, since })
            }
        }
    }

    /// Forgets the suspected subject that has been silent for longest; `false` if all are open.
    fn forget_a_suspected(&mut self) -> bool {
        let silent = self
            .subjects
            .iter()
            .filter_map(|(subject, state)| match state {
                State::Suspected { latest, .. } => Some((latest, subject)),
                State::Open { .. } => None,
            });
        let oldest = silent.min_by_key(|(latest, _)| **latest);
        let oldest = oldest.map(|(_, subject)| subject.clone());
        oldest.is_some_and(|subject| self.subjects.remove(&subject).is_some())
    }
}

#[cfg(test)]
mod tests;
