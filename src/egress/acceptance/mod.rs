//! Which accounts take which published address, and which way a call goes therefore.
//!
//! It is learned from answers, of calls and of probes: kintone's own mark says that its edge let the
//! call in, a refusal of the edge that it did not. The newest answer counts. An account that refuses no
//! address costs one look at a counter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};

use super::snapshot::Presence;
use super::source::{Addresses, Source};
use crate::config::{AddressState, Config};
use crate::model::{Account, Denial, HostName, Published};

pub use book::Known;
pub use choice::Way;
pub use due::Pace;
pub use standing::{Standing, State, Taken};

mod book;
mod choice;
mod due;
pub mod file;
mod standing;

use book::Book;
use choice::{Candidate, Choice, Place};

/// Which accounts take which address.
#[derive(Debug)]
pub struct Acceptance {
    addresses: Arc<Addresses>,
    list: Vec<Listed>,
    book: Book,
    turn: AtomicUsize,
    /// More is known than what was last saved.
    is_changed: AtomicBool,
}

/// A published address.
#[derive(Debug)]
struct Listed {
    published: Published,
    /// The other hosts that bind it.
    elsewhere: Vec<HostName>,
    is_active: AtomicBool,
}

/// A refusal that nobody has seen for so long is tried again: probes may be switched off.
const REFUSAL_STANDS: SignedDuration = SignedDuration::from_hours(24);

/// So often at most a call that was refused elsewhere is tried at an address that was refused before.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);

impl Acceptance {
    /// Of the addresses of `config`; `addresses` are those of them that have a bind on this host.
    pub(super) fn new(config: &Config, addresses: Arc<Addresses>) -> Self {
        let list = config.addresses.iter().map(|address| Listed {
            published: address.published,
            elsewhere: address.elsewhere.clone(),
            is_active: AtomicBool::new(address.state == AddressState::Active),
        });
        Self {
            addresses,
            list: list.collect(),
            book: Book::new(config.acceptance.accounts),
            turn: AtomicUsize::new(0),
            is_changed: AtomicBool::new(false),
        }
    }

    /// Which way the next call to `account` goes: by an address that it accepts, on this host or on
    /// another; else by one of which nothing is known. An account that accepts all, or none, goes by any.
    ///
    /// # Errors
    /// [`Denial::EgressUnavailable`] if none can be used, [`Denial::AddressRefused`] if none can be used
    /// that the account accepts. Then nothing may leave.
    pub fn way(&self, account: &Account) -> Result<Way, Denial> {
        let any = || self.addresses.choose().map(Way::Here);
        let now = Timestamp::now();
        let known = self.book.refusing(account);
        let Some(known) = known.filter(|known| known.refuses_since(now - REFUSAL_STANDS)) else {
            return any();
        };
        match self.choose(&known, &[]) {
            Choice::Way(way) => Ok(way),
            Choice::Any => any(),
            Choice::Denied(denial) => Err(denial),
        }
    }

    /// The same for a host that hands no call over: where another one has what the account accepts, the
    /// call leaves from any address, so that kintone's own refusal says what is missing.
    ///
    /// # Errors
    /// As of [`Acceptance::way`].
    pub fn source(&self, account: &Account) -> Result<Source, Denial> {
        match self.way(account)? {
            Way::Here(source) => Ok(source),
            Way::Elsewhere(_) => self.addresses.choose(),
        }
    }

    /// The next usable address, in turn, of those that are `accepted`, as the configuration has it; of
    /// all where none is named.
    ///
    /// # Errors
    /// [`Denial::LineUnavailable`], or [`Denial::EgressUnavailable`] where none is named.
    pub fn among(&self, accepted: &[Published]) -> Result<Source, Denial> {
        self.addresses.choose_of(accepted)
    }

    /// Another way for a call that kintone's edge has refused at the addresses `tried`; `None` where
    /// none is known to be better.
    #[must_use]
    pub fn way_around(&self, account: &Account, tried: &[Published]) -> Option<Way> {
        let known = self.book.of(account).unwrap_or_default();
        match self.choose(&known, tried) {
            Choice::Way(way) => Some(way),
            Choice::Any | Choice::Denied(_) => None,
        }
    }

    /// Takes note of what an answer says of an account at an address.
    pub fn saw(&self, account: &Account, published: Published, taken: Taken) {
        let now = Timestamp::now();
        let is_changed = self.book.change(account, |known| {
            known.called = Some(now);
            known.at_mut(published).see(taken, now)
        });
        self.tell(account, published, taken, is_changed);
    }

    /// The same of a probe; `None`: its answer says nothing.
    pub fn asked(&self, account: &Account, published: Published, taken: Option<Taken>) {
        let now = Timestamp::now();
        let is_changed = self.book.change(account, |known| {
            let standing = known.at_mut(published);
            standing.asked = Some(now);
            taken.is_some_and(|taken| standing.see(taken, now))
        });
        self.set_changed();
        if let Some(taken) = taken {
            self.tell(account, published, taken, is_changed);
        }
    }

    /// A call has left for `account` whose answer tells nothing, or is seen by nobody here.
    pub fn called(&self, account: &Account) {
        let now = Timestamp::now();
        self.book.change(account, |known| known.called = Some(now));
    }

    fn tell(&self, account: &Account, published: Published, taken: Taken, is_changed: bool) {
        if is_changed {
            self.set_changed();
        }
        match (is_changed, taken) {
            (true, Taken::Accepted) => {
                tracing::debug!(%account, %published, "the account takes the address");
            }
            (true, Taken::Refused) => {
                tracing::info!(%account, %published, "the account does not take the address");
            }
            (false, Taken::Accepted | Taken::Refused) => {}
        }
    }

    /// How many accounts take each published address, and how many refuse it.
    #[must_use]
    pub fn counts(&self) -> Vec<(Published, &'static str, usize)> {
        let states = [State::Accepted, State::Refused];
        let listed = self.list.iter();
        let mut counts: Vec<_> = listed
            .flat_map(|listed| states.map(|state| (listed.published, state, 0)))
            .collect();
        self.book.each(&mut |_, known| {
            for (address, state, count) in &mut counts {
                *count += usize::from(known.at(*address).state() == *state);
            }
        });
        counts
            .into_iter()
            .map(|(address, state, count)| (address, state.word(), count))
            .collect()
    }

    /// Whom to ask from which address of this host: accounts that are called, and for planned
    /// addresses also those of `more`, as far as `may_ask` says yes.
    #[must_use]
    pub fn due(
        &self,
        more: &[Account],
        pace: Pace,
        may_ask: impl Fn(&Account) -> bool,
    ) -> Vec<(Account, Source)> {
        let now = Timestamp::now();
        let here: Vec<_> = self.addresses.snapshots().collect();
        let mut due = Vec::new();
        let mut look = |account: &Account, known: &Known| {
            for address in here.iter().filter(|it| it.presence == Presence::Up) {
                let at = (address.published, address.state);
                if due::is_due(account, known, at, pace, now) && may_ask(account) {
                    let source = Source {
                        published: address.published,
                        bind: address.bind,
                    };
                    due.push((account.clone(), source));
                }
            }
        };
        self.book.each(&mut look);
        let unknown = more.iter().filter(|account| !self.book.has(account));
        unknown.for_each(|account| look(account, &Known::default()));
        due
    }

    /// Adds what was kept or what others have seen, the newest answers winning. Addresses that are not
    /// published any more are left out.
    pub fn take_over(&self, accounts: &[(Account, Known)]) {
        let now = Timestamp::now();
        let is_listed =
            |address: Published| self.list.iter().any(|listed| listed.published == address);
        for (account, other) in accounts {
            self.book.change(account, |known| {
                known.called = known.called.max(other.called.map(|called| called.min(now)));
                let lines = other.lines.iter();
                for (address, standing) in lines.filter(|(address, _)| is_listed(*address)) {
                    if known.at_mut(*address).learn(standing, now) {
                        self.set_changed();
                    }
                }
            });
        }
    }

    /// Whether more is known than when this was asked last.
    pub fn take_changed(&self) -> bool {
        self.is_changed.swap(false, Ordering::Relaxed)
    }

    /// More is known than what was saved.
    pub fn set_changed(&self) {
        self.is_changed.store(true, Ordering::Relaxed);
    }

    /// What is known of an account.
    #[must_use]
    pub fn of(&self, account: &Account) -> Option<Known> {
        self.book.of(account)
    }

    /// What is known of all accounts, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(Account, Known)> {
        self.book.all()
    }

    /// Goes by the addresses that are published as active from here on, and by no other.
    pub(super) fn obey(&self, states: &[(Published, AddressState)]) {
        for listed in &self.list {
            let state = states.iter().find(|(of, _)| *of == listed.published);
            if let Some((_, state)) = state {
                let is_active = *state == AddressState::Active;
                listed.is_active.store(is_active, Ordering::Relaxed);
            }
        }
    }

    fn choose(&self, known: &Known, tried: &[Published]) -> Choice {
        let now = Timestamp::now();
        let candidates: Vec<_> = self
            .list
            .iter()
            .filter(|listed| listed.is_active.load(Ordering::Relaxed))
            .filter(|listed| !tried.contains(&listed.published))
            .map(|listed| Candidate {
                published: listed.published,
                standing: known.at(listed.published),
                place: self.place(listed),
                is_stale: !tried.is_empty() && is_stale(known.at(listed.published), now),
            })
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        choice::choose(&candidates, turn)
    }

    fn place<'a>(&self, listed: &'a Listed) -> Place<'a> {
        match self.addresses.here(listed.published) {
            Some(source) => Place::Here(source),
            None if listed.elsewhere.is_empty() => Place::Nowhere,
            None => Place::Elsewhere(&listed.elsewhere),
        }
    }
}

fn is_stale(standing: Standing, now: Timestamp) -> bool {
    let refused = standing.refused;
    refused.is_some_and(|refused| now.duration_since(refused).abs() >= TRY_AGAIN)
}
