//! Many failures, one beginning, one end.
//!
//! An episode begins at [`FAILURES`] failures over at least `begins_after` without a success of the
//! same kind between them, and ends when a success has stood for `ends_after` without a failure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::matter::Subject;
use super::moment::Moment;
use crate::config::EpisodeTerms;

/// Failures that make an episode.
pub const FAILURES: u32 = 3;

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
        since: Moment,
    },
    /// An episode is over.
    Ends {
        /// What it was about.
        subject: Subject,
        /// When it was first seen.
        since: Moment,
        /// The success that has stood since.
        well_since: Moment,
    },
}

/// That a subject is followed, or is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is.
    Entered(Subject),
    /// It is no more.
    Left(Subject),
}

/// All subjects that are suspected or open.
#[derive(Debug)]
pub struct Episodes {
    subjects: HashMap<Subject, State>,
    terms: EpisodeTerms,
    left_out: u64,
    /// Subjects that were entered and left, in this order, since they were last taken.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum State {
    /// Failures, not enough of them.
    Suspected {
        since: Moment,
        latest: Moment,
        failures: u32,
    },
    /// Told, and not over.
    Open {
        since: Moment,
        well_since: Option<Moment>,
    },
}

impl Episodes {
    /// Nothing is wrong.
    #[must_use]
    pub fn new(terms: EpisodeTerms) -> Self {
        Self {
            subjects: HashMap::new(),
            terms,
            left_out: 0,
            changes: Vec::new(),
        }
    }

    /// Goes by other terms from here on.
    pub const fn set_terms(&mut self, terms: EpisodeTerms) {
        self.terms = terms;
    }

    /// Takes what a call showed at `now`, which must not run backward; says whether an episode begins
    /// with it. Ends are told by [`Episodes::end`].
    pub fn hear(&mut self, subject: Subject, sign: Sign, now: Moment) -> Option<Turn> {
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
    pub fn end(&mut self, now: Moment) -> Vec<Turn> {
        let ends_after = self.terms.ends_after;
        let over = |state: &State| match *state {
            State::Open {
                since,
                well_since: Some(well),
            } if now.since(well) >= ends_after => Some((since, well)),
            State::Open { .. } | State::Suspected { .. } => None,
        };
        let mut turns = Vec::new();
        let changes = &mut self.changes;
        self.subjects.retain(|subject, state| match over(state) {
            None => true,
            Some((since, well_since)) => {
                changes.push(Change::Left(subject.clone()));
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

    /// An episode that needs no failures to begin: what begins it is certain. `None` if it is open
    /// already, or too many are.
    pub fn open(&mut self, subject: Subject, now: Moment) -> Option<Turn> {
        if let Some(State::Open { well_since, .. }) = self.subjects.get_mut(&subject) {
            *well_since = None;
            return None;
        }
        if !self.has_room(&subject) {
            return None;
        }
        self.enter(
            subject.clone(),
            State::Open {
                since: now,
                well_since: None,
            },
        );
        let since = now;
        Some(Turn::Begins { subject, since })
    }

    /// Takes over an episode that an earlier process told of.
    pub fn take_over(&mut self, subject: Subject, since: Moment) {
        let well_since = None;
        self.enter(subject, State::Open { since, well_since });
    }

    /// Follows a subject no more, as if nothing had been seen of it.
    pub fn forget(&mut self, subject: &Subject) {
        if self.subjects.remove(subject).is_some() {
            self.changes.push(Change::Left(subject.clone()));
        }
    }

    /// The episodes that are open, and when each was first seen.
    pub fn all_open(&self) -> impl Iterator<Item = (&Subject, Moment)> {
        self.subjects
            .iter()
            .filter_map(|(subject, state)| match state {
                State::Open { since, .. } => Some((subject, *since)),
                State::Suspected { .. } => None,
            })
    }

    /// The subjects that were entered and left since this was last asked.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Failures that were not followed, since too many episodes were open.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn hear_success(&mut self, subject: &Subject, now: Moment) {
        match self.subjects.get_mut(subject) {
            None => {}
            Some(State::Suspected { .. }) => self.forget(subject),
            Some(State::Open { well_since, .. }) => {
                well_since.get_or_insert(now);
            }
        }
    }

    fn hear_failure(&mut self, subject: Subject, now: Moment) -> Option<Turn> {
        if !self.has_room(&subject) {
            return None;
        }
        let mut known = match self.subjects.entry(subject) {
            Entry::Occupied(known) => known,
            Entry::Vacant(new) => {
                self.changes.push(Change::Entered(new.key().clone()));
                new.insert(State::Suspected {
                    since: now,
                    latest: now,
                    failures: 1,
                });
                return None;
            }
        };
        let terms = self.terms;
        match known.get_mut() {
            // A success that has stood long enough is not undone before its end is told.
            State::Open { well_since, .. } => {
                if well_since.is_none_or(|well| now.since(well) < terms.ends_after) {
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
                if *failures < FAILURES || now.since(since) < terms.begins_after {
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

    fn enter(&mut self, subject: Subject, state: State) {
        if self.subjects.insert(subject.clone(), state).is_none() {
            self.changes.push(Change::Entered(subject));
        }
    }

    /// Whether the subject is followed or can be: the suspected one that has been silent for longest
    /// makes room.
    fn has_room(&mut self, subject: &Subject) -> bool {
        if self.subjects.len() < self.terms.subjects_max || self.subjects.contains_key(subject) {
            return true;
        }
        let silent = self
            .subjects
            .iter()
            .filter_map(|(subject, state)| match state {
                State::Suspected { latest, .. } => Some((latest.instant, subject)),
                State::Open { .. } => None,
            });
        let oldest = silent.min_by_key(|(latest, _)| *latest);
        let oldest = oldest.map(|(_, subject)| subject.clone());
        match oldest {
            Some(oldest) => {
                self.forget(&oldest);
                true
            }
            None => {
                self.left_out += 1;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
