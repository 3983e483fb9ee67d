//! What the hosts of a fleet tell each other of failures, so that they come to the same episodes and one
//! of them tells people. Pure.
//!
//! Each host tells of every subject that it follows how many failures it has seen, when it saw the last
//! one and the last success, and whether people were told. The others take what is new of that as if
//! they had seen it themselves, in the order in which it happened.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::episode::{FAILURES, Sign};
use super::matter::Subject;
use super::memory::{Row, Told};
use super::moment::Moment;

/// What this host has seen, and what it has heard of others.
#[derive(Debug, Default)]
pub(super) struct Company {
    own: HashMap<Subject, Tally>,
    heard: HashMap<(String, Subject), Tally>,
}

/// What a host has seen of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    failures: u64,
    failed_at: Option<Timestamp>,
    well_at: Option<Timestamp>,
}

/// What a host tells of a subject. `row` has when it was first seen, if it is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Word {
    row: Row,
    is_open: bool,
    is_told: bool,
    tally: Tally,
}

/// What is new in the word of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) subject: Subject,
    pub(super) signs: Vec<Sign>,
    /// People were told of it, and when it was first seen.
    pub(super) told: Option<(Timestamp, Told)>,
}

/// An open episode, for the others to know.
pub(super) struct Standing {
    pub(super) since: Timestamp,
    /// Who was told; `None`: nobody yet.
    pub(super) told: Option<Told>,
}

impl Company {
    /// A call of this host showed that.
    pub(super) fn note(&mut self, subject: &Subject, sign: Sign, at: Moment) {
        match sign {
            Sign::Failure => {
                let tally = self.own.entry(subject.clone()).or_default();
                tally.failures = tally.failures.saturating_add(1);
                tally.failed_at = Some(at.wall);
            }
            Sign::Success => {
                if let Some(tally) = self.own.get_mut(subject) {
                    tally.well_at = Some(at.wall);
                }
            }
        }
    }

    /// A success of this host counts for this subject from here on, although it saw no failure of it.
    pub(super) fn follow(&mut self, subject: &Subject) {
        self.own.entry(subject.clone()).or_default();
    }

    /// It is followed no more.
    pub(super) fn leave(&mut self, subject: &Subject) {
        self.own.remove(subject);
    }

    /// What this host tells, in at most so many bytes: what is open first. `open` says how a subject
    /// stands.
    pub(super) fn word(
        &self,
        bytes_max: usize,
        open: impl Fn(&Subject) -> Option<Standing>,
    ) -> Vec<u8> {
        let words = self.own.iter().map(|(subject, tally)| {
            let standing = open(subject);
            let known = standing.as_ref();
            let since = known.map_or(Timestamp::UNIX_EPOCH, |it| it.since);
            let told = known.and_then(|it| it.told);
            Word {
                row: Row::new(subject, since, told.unwrap_or_default()),
                is_open: known.is_some(),
                is_told: told.is_some(),
                tally: *tally,
            }
        });
        let mut words: Vec<Word> = words.collect();
        words.sort_by_key(|word| !word.is_open);
        let mut content = vec![b'['];
        for word in words {
            let Ok(bytes) = serde_json::to_vec(&word) else {
                continue;
            };
            if content.len() + bytes.len() + 2 > bytes_max {
                break;
            }
            if content.len() > 1 {
                content.push(b',');
            }
            content.extend(bytes);
        }
        content.push(b']');
        content
    }

    /// What is new in the word of `host`. What it saw longer than `fresh` ago is old: it was told before
    /// this host listened.
    pub(super) fn hear(
        &mut self,
        host: &str,
        content: &[u8],
        now: Moment,
        fresh: Duration,
    ) -> Result<Vec<Heard>, serde_json::Error> {
        let words: Vec<Word> = serde_json::from_slice(content)?;
        let mut news = Vec::new();
        let mut still = HashMap::new();
        for word in words {
            let Some(subject) = word.row.subject() else {
                continue;
            };
            let key = (host.to_owned(), subject.clone());
            let before = self.heard.get(&key).copied().unwrap_or_default();
            let signs = new_signs(before, word.tally, now, fresh);
            let told = (word.is_open && word.is_told).then_some((word.row.since, word.row.told));
            if !signs.is_empty() || told.is_some() {
                news.push(Heard {
                    subject,
                    signs,
                    told,
                });
            }
            still.insert(key, word.tally);
        }
        self.heard.retain(|(known, _), _| known != host);
        self.heard.extend(still);
        Ok(news)
    }
}

/// What happened between two tallies, in its order; of many failures no more than make an episode.
fn new_signs(before: Tally, now: Tally, moment: Moment, fresh: Duration) -> Vec<Sign> {
    let fresh = SignedDuration::try_from(fresh).unwrap_or(SignedDuration::MAX);
    let is_fresh =
        |at: Option<Timestamp>| at.is_some_and(|at| moment.wall.duration_since(at) <= fresh);
    // A host that was started again counts anew.
    let new = match now.failures.checked_sub(before.failures) {
        Some(new) => new,
        None => now.failures,
    };
    let failures = if is_fresh(now.failed_at) { new } else { 0 };
    let failures = failures.min(u64::from(FAILURES));
    let mut signs: Vec<Sign> = (0..failures).map(|_| Sign::Failure).collect();
    if now.well_at > before.well_at && is_fresh(now.well_at) {
        if now.well_at >= now.failed_at {
            signs.push(Sign::Success);
        } else {
            signs.insert(0, Sign::Success);
        }
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Account, Tenant};
    use crate::notify::matter::Matter;

    const FRESH: Duration = Duration::from_mins(1);

    fn subject() -> Subject {
        Subject {
            account: Some(Account::from_normal("acme.cybozu.com")),
            matter: Matter::CredentialsRefused(Tenant::parse("one").ok()),
        }
    }

    fn later(moment: Moment, seconds: u64) -> Moment {
        let time = Duration::from_secs(seconds);
        Moment {
            instant: moment.instant + time,
            wall: moment.wall + time,
        }
    }

    fn quiet(_: &Subject) -> Option<Standing> {
        None
    }

    fn signs(other: &mut Company, word: &[u8], now: Moment) -> Vec<Sign> {
        let news = other.hear("gw-a", word, now, FRESH).unwrap();
        news.into_iter().flat_map(|heard| heard.signs).collect()
    }

    #[test]
    fn what_one_host_saw_another_hears_once_and_in_order() {
        let (mut one, mut other) = (Company::default(), Company::default());
        let now = Moment::now();
        for _ in 0..100 {
            one.note(&subject(), Sign::Failure, now);
        }
        let word = one.word(1000, quiet);
        assert_eq!(signs(&mut other, &word, now), [Sign::Failure; 3]);
        assert_eq!(signs(&mut other, &word, now), []);
        one.note(&subject(), Sign::Success, later(now, 1));
        one.note(&subject(), Sign::Failure, later(now, 2));
        let word = one.word(1000, quiet);
        let expected = [Sign::Success, Sign::Failure];
        assert_eq!(signs(&mut other, &word, later(now, 3)), expected);
    }

    #[test]
    fn what_is_old_is_not_heard_by_a_host_that_has_just_come() {
        let mut one = Company::default();
        let now = Moment::now();
        one.note(&subject(), Sign::Failure, now);
        let word = one.word(1000, quiet);
        assert_eq!(signs(&mut Company::default(), &word, later(now, 61)), []);
    }

    #[test]
    fn that_people_were_told_is_heard_and_an_episode_that_is_not_told_says_nothing() {
        let mut one = Company::default();
        let now = Moment::now();
        one.note(&subject(), Sign::Failure, now);
        let told = Told {
            customers: true,
            operators: true,
        };
        for is_told in [false, true] {
            let word = one.word(1000, |_| {
                Some(Standing {
                    since: now.wall,
                    told: is_told.then_some(told),
                })
            });
            let news = Company::default().hear("gw-a", &word, now, FRESH).unwrap();
            let expected = is_told.then_some((now.wall, told));
            assert_eq!(news[0].told, expected);
        }
    }

    #[test]
    fn a_word_has_no_more_bytes_than_there_is_room_for_and_what_is_open_comes_first() {
        let mut one = Company::default();
        let now = Moment::now();
        let of = |number: u32| Subject {
            account: Some(Account::from_normal(&format!("a{number}.cybozu.com"))),
            matter: Matter::Maintenance,
        };
        for number in 0..100 {
            one.note(&of(number), Sign::Failure, now);
        }
        let word = one.word(1000, |subject| {
            (*subject == of(42)).then_some(Standing {
                since: now.wall,
                told: Some(Told::default()),
            })
        });
        assert!(word.len() <= 1000, "{}", word.len());
        let news = Company::default().hear("gw-a", &word, now, FRESH).unwrap();
        assert_eq!(news[0].subject, of(42));
        assert!((2..10).contains(&news.len()), "{}", news.len());
        assert!(Company::default().hear("gw-a", b"{", now, FRESH).is_err());
    }
}
