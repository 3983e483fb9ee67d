//! How calls that end reach the desk, without ever waiting for it.
//!
//! A failure is always told, as long as there is room. A success is told only where a failure was
//! seen before: of an account that is followed, or while something that concerns all of them is.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use foldhash::fast::FixedState;
use tokio::sync::mpsc;

use super::episode::Change;
use super::moment::Moment;
use super::sign::Seen;
use crate::model::Account;

/// Places for the accounts that are followed; two that share one are told of together.
const PLACES: usize = 1024;

/// The way from calls to the desk. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    calls: mpsc::Sender<(Seen, Moment)>,
    is_on: AtomicBool,
    /// How many subjects are followed, by account.
    followed: Box<[AtomicU32]>,
    /// How many are followed that concern every account.
    followed_everywhere: AtomicU32,
    lost: AtomicU64,
}

impl Feed {
    /// A feed with room for so many calls, and its other end.
    #[must_use]
    pub fn new(signs_max: usize) -> (Self, mpsc::Receiver<(Seen, Moment)>) {
        let (calls, heard) = mpsc::channel(signs_max.max(1));
        let shared = Shared {
            calls,
            is_on: AtomicBool::new(false),
            followed: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            followed_everywhere: AtomicU32::new(0),
            lost: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        (Self { shared }, heard)
    }

    /// Whether anybody is told of anything.
    pub fn switch(&self, on: Switch) {
        self.shared.is_on.store(on == Switch::On, Ordering::Relaxed);
    }

    /// Whether anybody is told of anything.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.is_on.load(Ordering::Relaxed)
    }

    /// Whether something is followed that a success of this account may end.
    #[must_use]
    pub fn is_followed(&self, account: &Account) -> bool {
        self.shared.followed_everywhere.load(Ordering::Relaxed) > 0
            || self.shared.followed[place_of(account)].load(Ordering::Relaxed) > 0
    }

    /// Tells of a call. It never waits: what finds no room is lost, and counted.
    pub fn tell(&self, seen: Seen) {
        let is_told = seen.failure().is_some() || self.is_followed(&seen.account);
        if is_told && self.shared.calls.try_send((seen, Moment::now())).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Follows the accounts of these subjects, or no more.
    pub(super) fn note(&self, changes: &[Change]) {
        for change in changes {
            let (Change::Entered(subject) | Change::Left(subject)) = change;
            let count = match &subject.account {
                Some(account) => &self.shared.followed[place_of(account)],
                None => &self.shared.followed_everywhere,
            };
            match change {
                Change::Entered(_) => count.fetch_add(1, Ordering::Relaxed),
                Change::Left(_) => count.fetch_sub(1, Ordering::Relaxed),
            };
        }
    }

    /// Calls that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

/// Whether people are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// They are.
    On,
    /// They are not.
    Off,
}

fn place_of(account: &Account) -> usize {
    // Which accounts share a place matters to nobody: the hash need not be secret.
    let hash = FixedState::default().hash_one(account);
    usize::try_from(hash % PLACES as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cause, Mode, Outcome};
    use crate::notify::sign::{Sender, Waited};

    fn seen(account: &str, cause: Option<Cause>) -> Seen {
        Seen {
            account: Account::from_normal(account),
            tenant: None,
            mode: Mode::Forward,
            address: None,
            outcome: match cause {
                Some(_) => Outcome::KintoneError,
                None => Outcome::Ok,
            },
            cause,
            waited: Waited::No,
            sender: Sender::Caller,
        }
    }

    #[tokio::test]
    async fn successes_are_told_only_where_something_is_followed() {
        let (feed, mut heard) = Feed::new(2);
        feed.tell(seen("acme.cybozu.com", None));
        assert!(heard.try_recv().is_err());
        let wrong = seen("acme.cybozu.com", Some(Cause::Authentication));
        feed.tell(wrong.clone());
        assert!(heard.try_recv().is_ok());
        let entered = Change::Entered(wrong.failure().unwrap());
        feed.note(std::slice::from_ref(&entered));
        feed.tell(seen("acme.cybozu.com", None));
        assert!(heard.try_recv().is_ok());
        feed.note(&[Change::Left(wrong.failure().unwrap())]);
        feed.tell(seen("acme.cybozu.com", None));
        assert!(heard.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_full_feed_makes_nobody_wait() {
        let (feed, _heard) = Feed::new(2);
        for _ in 0..10 {
            feed.tell(seen("acme.cybozu.com", Some(Cause::Authentication)));
        }
        assert_eq!(feed.lost(), 8);
    }
}
