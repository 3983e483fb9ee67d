//! What is known of every account, for so many accounts at most.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;

use super::standing::{Standing, State};
use crate::model::{Account, Published, Table};

/// What is known of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// At each address of which anything is known.
    pub lines: Vec<(Published, Standing)>,
    /// When a call of it left this host last.
    pub called: Option<Timestamp>,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Book {
    accounts: RwLock<Table<Account, Arc<Entry>>>,
    /// Accounts that refuse an address, so that nobody looks where there is none. It may be a little
    /// too high: an account may be forgotten while it changes.
    refusing: AtomicUsize,
    max: usize,
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    known: Mutex<Known>,
    refuses: AtomicBool,
}

/// Where there is no room, this part of all accounts goes at once, the longest unseen first: each one
/// that goes costs the same, however many there are.
const PART_FORGOTTEN: usize = 16;

impl Known {
    /// At that address.
    #[must_use]
    pub fn at(&self, address: Published) -> Standing {
        let mut lines = self.lines.iter();
        let line = lines.find(|(of, _)| *of == address);
        line.map(|(_, standing)| *standing).unwrap_or_default()
    }

    /// At that address, to be changed.
    pub fn at_mut(&mut self, address: Published) -> &mut Standing {
        let index = self.lines.iter().position(|(of, _)| *of == address);
        let index = index.unwrap_or_else(|| {
            self.lines.push((address, Standing::default()));
            self.lines.len() - 1
        });
        &mut self.lines[index].1
    }

    /// Whether it has refused an address later than `then`, and has not accepted it since.
    pub(super) fn refuses_since(&self, then: Timestamp) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|(_, line)| line.state() == State::Refused && line.refused > Some(then))
    }

    fn refuses(&self) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|(_, standing)| standing.state() == State::Refused)
    }

    /// When anything was heard of it last.
    fn heard(&self) -> Option<Timestamp> {
        let seen = self.lines.iter().map(|(_, standing)| standing.seen());
        seen.max().flatten().max(self.called)
    }
}

impl Book {
    /// For so many accounts at most.
    pub(super) fn new(max: usize) -> Self {
        Self {
            accounts: RwLock::default(),
            refusing: AtomicUsize::new(0),
            max,
        }
    }

    /// What is known of an account that refuses an address.
    pub(super) fn refusing(&self, account: &Account) -> Option<Known> {
        if self.refusing.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let entry = self.read().get(account).cloned()?;
        let refuses = entry.refuses.load(Ordering::Relaxed);
        refuses.then(|| entry.known().clone())
    }

    /// What is known of one account.
    pub(super) fn of(&self, account: &Account) -> Option<Known> {
        let entry = self.read().get(account).cloned()?;
        let known = entry.known().clone();
        Some(known)
    }

    /// Whether anything is known of it.
    pub(super) fn has(&self, account: &Account) -> bool {
        self.read().contains_key(account)
    }

    /// Shows all to `look`, in no order. It must not come back here.
    pub(super) fn each(&self, look: &mut impl FnMut(&Account, &Known)) {
        for (account, entry) in self.read().iter() {
            look(account, &entry.known());
        }
    }

    /// What is known of all, in no order.
    pub(super) fn all(&self) -> Vec<(Account, Known)> {
        let accounts = self.read();
        let accounts = accounts.iter();
        accounts
            .map(|(account, entry)| (account.clone(), entry.known().clone()))
            .collect()
    }

    /// Changes what is known of an account, which gets a place if it has none.
    pub(super) fn change<T>(&self, account: &Account, change: impl FnOnce(&mut Known) -> T) -> T {
        let entry = self.entry(account);
        let mut known = entry.known();
        let changed = change(&mut known);
        self.count(&entry, known.refuses());
        changed
    }

    fn entry(&self, account: &Account) -> Arc<Entry> {
        if let Some(entry) = self.read().get(account) {
            return Arc::clone(entry);
        }
        let mut accounts = self.write();
        if accounts.len() >= self.max && !accounts.contains_key(account) {
            self.forget(&mut accounts);
        }
        Arc::clone(accounts.entry(account.clone()).or_default())
    }

    fn forget(&self, accounts: &mut Table<Account, Arc<Entry>>) {
        let mut heard: Vec<_> = accounts
            .iter()
            .map(|(account, entry)| (entry.known().heard(), account.clone()))
            .collect();
        let count = (heard.len() / PART_FORGOTTEN).max(1).min(heard.len());
        if let Some(last) = count.checked_sub(1) {
            heard.select_nth_unstable(last);
        }
        for (_, account) in heard.into_iter().take(count) {
            if let Some(entry) = accounts.remove(&account) {
                self.count(&entry, false);
            }
        }
    }

    /// Counts an account as one that refuses an address, or no more.
    fn count(&self, entry: &Entry, refuses: bool) {
        match (entry.refuses.swap(refuses, Ordering::Relaxed), refuses) {
            (false, true) => drop(self.refusing.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.refusing.fetch_sub(1, Ordering::Relaxed)),
            (false, false) | (true, true) => {}
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Table<Account, Arc<Entry>>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table<Account, Arc<Entry>>> {
        self.accounts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::standing::Taken;
    use super::*;

    const ADDRESS: Published = Published(Ipv4Addr::new(192, 0, 2, 1));

    fn account(number: i64) -> Account {
        Account::from_normal(&format!("a{number}.cybozu.com"))
    }

    fn see(book: &Book, number: i64, taken: Taken) {
        let at = Timestamp::from_second(number).unwrap();
        book.change(&account(number), |known| {
            known.at_mut(ADDRESS).see(taken, at)
        });
    }

    #[test]
    fn only_accounts_that_refuse_an_address_are_looked_at() {
        let book = Book::new(9);
        see(&book, 1, Taken::Accepted);
        see(&book, 2, Taken::Refused);
        assert_eq!(book.refusing(&account(1)), None);
        assert_eq!(book.refusing(&account(3)), None);
        let known = book.refusing(&account(2)).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(known.refuses_since(at(1)) && !known.refuses_since(at(2)));
        assert_eq!(known.at(ADDRESS).state(), State::Refused);
        see(&book, 2, Taken::Accepted);
        assert_eq!(book.refusing(&account(2)), None);
        assert_eq!(book.refusing.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn of_too_many_the_longest_unseen_are_forgotten() {
        let book = Book::new(64);
        for number in 0..1000 {
            see(&book, number, Taken::Refused);
            assert!(book.all().len() <= 64);
        }
        let all = book.all();
        assert!(all.len() > 64 - 64 / PART_FORGOTTEN, "{}", all.len());
        assert_eq!(book.refusing.load(Ordering::Relaxed), all.len());
        for number in 940..1000 {
            assert!(book.of(&account(number)).is_some(), "{number}");
        }
        let one = Book::new(1);
        see(&one, 1, Taken::Refused);
        see(&one, 2, Taken::Refused);
        assert_eq!(one.all().len(), 1);
    }
}
