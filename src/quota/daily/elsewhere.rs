//! What other hosts have told of their calls of today. Pure.

use std::collections::BTreeMap;

use crate::kintone::day::Day;
use crate::model::{Account, CountedApp, Table};

use super::told::{AppTold, Told, ToldError};

/// What another host has told.
#[derive(Debug, Clone, Copy)]
pub struct Word<'a> {
    /// Which host.
    pub host: &'a str,
    /// Its calls, as [`super::Days::told`] makes them.
    pub content: &'a [u8],
}

/// How many hosts are not heard of, and may go on making calls that nobody tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Those that are not heard of.
    pub silent: u32,
    /// All of them, this one included; at least 1.
    pub hosts: u32,
}

/// Calls of today on other hosts.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// What each has last told of the day. A host that is gone stays: its calls were made.
    hosts: BTreeMap<String, Told>,
    calls: Table<(Account, CountedApp), AppTold>,
}

impl Silence {
    /// Nobody else is there, or everybody is heard.
    pub const NONE: Self = Self {
        silent: 0,
        hosts: 1,
    };

    /// What of `rest` is left to the hosts that are not heard of: each may use an equal part of it.
    pub(super) fn part_of(self, rest: u64) -> u64 {
        let part = u128::from(rest) * u128::from(self.silent);
        let part = part.div_ceil(u128::from(self.hosts.max(1)));
        u64::try_from(part).unwrap_or(rest)
    }

    /// With as many more that are not understood.
    pub(super) fn with(self, more: usize) -> Self {
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let others = self.hosts.saturating_sub(1);
        Self {
            silent: self.silent.saturating_add(more).min(others),
            ..self
        }
    }

    pub(super) const fn packed(self) -> u64 {
        (self.silent as u64) << 32 | self.hosts as u64
    }

    pub(super) const fn unpacked(word: u64) -> Self {
        Self {
            silent: (word >> 32) as u32,
            hosts: word as u32,
        }
    }
}

impl Elsewhere {
    /// What is known when these words have been heard on `day`; and the words that are of no use. Of a
    /// host whose clock shows another day, what it last told of this one stands.
    pub(super) fn hear(&self, words: &[Word<'_>], day: Day) -> (Self, Vec<(String, ToldError)>) {
        let mut hosts = self.hosts.clone();
        let mut bad = Vec::new();
        for word in words {
            match Told::decode(word.content) {
                Ok(told) if told.day == day => {
                    hosts.insert(word.host.to_owned(), told);
                }
                Ok(_) => {}
                Err(error) => bad.push((word.host.to_owned(), error)),
            }
        }
        let mut calls: Table<_, AppTold> = Table::default();
        for (of, told) in hosts.values().flat_map(|told| &told.apps) {
            let sum = calls.entry(of.clone()).or_default();
            sum.requests = sum.requests.saturating_add(told.requests);
            sum.warned = sum.warned.max(told.warned);
        }
        (Self { hosts, calls }, bad)
    }

    /// An app's calls.
    pub(super) fn of(&self, app: &(Account, CountedApp)) -> AppTold {
        self.calls.get(app).copied().unwrap_or_default()
    }

    /// All apps that were called there.
    pub(super) fn apps(&self) -> impl Iterator<Item = (&(Account, CountedApp), AppTold)> {
        self.calls.iter().map(|(of, told)| (of, *told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AppId;

    fn app() -> (Account, CountedApp) {
        let account = Account::from_normal("acme.cybozu.com");
        (account, CountedApp::Known(AppId(7)))
    }

    fn content(day: Day, requests: u64) -> Vec<u8> {
        let told = AppTold {
            requests,
            warned: 80,
        };
        let apps = vec![(app(), told)];
        Told { day, apps }.encode(4096).0
    }

    fn hear(elsewhere: &Elsewhere, host: &str, content: &[u8], today: Day) -> Elsewhere {
        let (heard, bad) = elsewhere.hear(&[Word { host, content }], today);
        assert!(bad.is_empty(), "{bad:?}");
        heard
    }

    #[test]
    fn the_last_words_of_all_hosts_add_up_and_those_of_another_day_do_not_count() {
        let today = Day::from_number(20_783).expect("a day");
        let tomorrow = today.after(1);
        let mut elsewhere = Elsewhere::default();
        for (host, day, requests, expected) in [
            ("gw-b", today, 10, 10),
            ("gw-c", today, 5, 15),
            ("gw-b", today, 20, 25),
            // Its clock is ahead: what it told of today stands.
            ("gw-b", tomorrow, 1, 25),
            ("gw-c", today.before(1), 900, 25),
        ] {
            elsewhere = hear(&elsewhere, host, &content(day, requests), today);
            assert_eq!(elsewhere.of(&app()).requests, expected);
        }
        let word = Word {
            host: "gw-c",
            content: b"garbage",
        };
        let (heard, bad) = elsewhere.hear(&[word], today);
        assert_eq!((heard.of(&app()).requests, bad.len()), (25, 1));
    }

    #[test]
    fn hosts_that_are_not_heard_of_may_use_their_parts_of_what_is_left() {
        let of = |silent, hosts| Silence { silent, hosts };
        assert_eq!(Silence::NONE.part_of(u64::MAX), 0);
        assert_eq!(of(1, 2).part_of(100), 50);
        assert_eq!(of(1, 2).part_of(101), 51);
        assert_eq!(of(2, 3).part_of(100), 67);
        assert_eq!(of(1, 2).part_of(u64::MAX), u64::MAX / 2 + 1);
        let some = of(3, 9);
        assert_eq!(Silence::unpacked(some.packed()), some);
    }

    #[test]
    fn two_hosts_that_do_not_hear_each_other_together_use_what_is_left_and_no_more() {
        for (budget, here, there) in [(100, 0, 0), (100, 70, 10), (101, 33, 1), (100, 60, 60)] {
            let base = here + there;
            let kept = Silence {
                silent: 1,
                hosts: 2,
            }
            .part_of(u64::saturating_sub(budget, base));
            let most = |own: u64, other: u64| own.max(budget.saturating_sub(other + kept));
            let together = most(here, there) + most(there, here);
            assert!(together <= budget.max(base), "{together} of {budget}");
            assert!(together + 1 >= budget, "{together} of {budget}");
        }
    }
}
