//! Whether so many accounts fail for one cause that the cause may be ours. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use super::moment::Moment;
use crate::config::BrakeTerms;
use crate::model::Account;

/// The accounts whose episodes began of late, by cause, and the causes whose mails are held.
#[derive(Debug, Default)]
pub struct Brake {
    begun: HashMap<&'static str, VecDeque<(Moment, Account)>>,
    held: HashSet<String>,
}

impl Brake {
    /// An episode begins; whether the mails of its cause are held from now on and were not before.
    /// `active` is how many accounts have called of late.
    pub fn begins(
        &mut self,
        cause: &'static str,
        account: &Account,
        terms: BrakeTerms,
        active: usize,
        now: Moment,
    ) -> bool {
        let begun = self.begun.entry(cause).or_default();
        while begun
            .front()
            .is_some_and(|(at, _)| now.since(*at) > terms.window)
        {
            begun.pop_front();
        }
        if !begun.iter().any(|(_, known)| known == account) {
            begun.push_back((now, account.clone()));
        }
        let many = begun.len();
        let is_too_many = many > terms.accounts
            && many.saturating_mul(100) > terms.percent.saturating_mul(active);
        is_too_many && self.held.insert(cause.to_owned())
    }

    /// Whether the mails of a cause are held.
    #[must_use]
    pub fn holds(&self, cause: &str) -> bool {
        self.held.contains(cause)
    }

    /// Holds the mails of a cause: an earlier process did.
    pub fn hold(&mut self, cause: String) {
        self.held.insert(cause);
    }

    /// Holds the mails of a cause no more, and begins to count anew; whether they were held.
    pub fn let_go(&mut self, cause: &str) -> bool {
        self.begun.remove(cause);
        self.held.remove(cause)
    }

    /// How many accounts' episodes of a cause began of late.
    #[must_use]
    pub fn accounts(&self, cause: &str) -> usize {
        self.begun.get(cause).map_or(0, VecDeque::len)
    }

    /// The causes whose mails are held.
    pub fn causes(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `accounts` begin before the mails are held, if so many are active.
    fn held_at(accounts: usize, active: usize) -> Option<usize> {
        let mut brake = Brake::default();
        let now = Moment::now();
        let begins = |number: usize| {
            let account = Account::from_normal(&format!("a{number}.cybozu.com"));
            let terms = BrakeTerms::default();
            let mut begins = || brake.begins("authentication", &account, terms, active, now);
            let first = begins();
            assert!(!(first && begins()), "it is said once");
            first
        };
        (1..=accounts)
            .map(begins)
            .position(|held| held)
            .map(|at| at + 1)
    }

    #[test]
    fn more_than_five_accounts_and_five_percent_are_too_many() {
        assert_eq!(held_at(5, 5), None);
        assert_eq!(held_at(6, 6), Some(6));
        assert_eq!(held_at(6, 119), Some(6));
        assert_eq!(held_at(6, 120), None);
        assert_eq!(held_at(1000, 1000), Some(51));
    }

    #[test]
    fn one_account_again_and_again_is_one() {
        let mut brake = Brake::default();
        let account = Account::from_normal("acme.cybozu.com");
        for _ in 0..100 {
            let now = Moment::now();
            assert!(!brake.begins("authentication", &account, BrakeTerms::default(), 1, now));
        }
    }

    #[test]
    fn those_of_long_ago_do_not_count() {
        let mut brake = Brake::default();
        let mut now = Moment::now();
        for number in 0..100 {
            let account = Account::from_normal(&format!("a{number}.cybozu.com"));
            now.instant += BrakeTerms::default().window / 4;
            assert!(!brake.begins("authentication", &account, BrakeTerms::default(), 10, now));
        }
    }
}
