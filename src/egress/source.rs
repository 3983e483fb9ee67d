//! Which of our addresses a call leaves from, and whether it is there to leave from.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::dial;
use super::snapshot::{AddressSnapshot, Presence};
use super::verify::{Gate, Seen};
use crate::config::{AddressState, EgressAddress};
use crate::model::{Bind, Denial, Detail, Published};

/// The address that a call leaves from. `Egress::choose` makes it; whether its bind is usable
/// is judged again when it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// What customers see.
    pub published: Published,
    /// What is bound on this host.
    pub bind: Bind,
}

/// What leaves from an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// Calls: from one that is in use.
    Calls,
    /// A probe, which asks an account whether it takes the address: also from one that is planned.
    Probe,
}

/// The addresses that have a bind on this host.
#[derive(Debug)]
pub struct Addresses {
    list: Vec<Arc<Address>>,
    turn: AtomicUsize,
}

/// One connection to kintone that is open; dropping it says that it is closed.
#[derive(Debug)]
pub struct OpenConnection(Arc<Address>);

#[derive(Debug)]
pub(super) struct Address {
    source: Source,
    /// Its place in [`AddressState::ALL`].
    state: AtomicU8,
    is_up: AtomicBool,
    gate: Gate,
    /// Connections made before, in milliseconds since `born`, may leave as another address.
    distrusted_ms: AtomicU64,
    /// When it was looked last, in milliseconds since `born`.
    looked_ms: AtomicU64,
    born: Instant,
    since: Mutex<Instant>,
    open: AtomicUsize,
}

/// How long a look is good for, in milliseconds: one costs a few microseconds, and a call that
/// leaves on an old one may be lost.
const LOOK_GOOD_FOR_MS: u64 = 10;

/// What keeps an address from being used, what is nearest to usable last: that is what has to be put
/// right.
const HINDRANCES: [Detail; 4] = [
    Detail::NoAddress,
    Detail::AddressAbsent,
    Detail::AddressUnverified,
    Detail::AddressMismatch,
];

impl Addresses {
    /// Looks once which of them are on this host, by binding a socket to each; nothing is sent.
    #[must_use]
    pub fn new(configured: &[EgressAddress]) -> Self {
        Self::gated(configured, Gate::open)
    }

    /// The same, each used only once it was seen from outside as published.
    pub(super) fn unproven(configured: &[EgressAddress]) -> Self {
        Self::gated(configured, Gate::shut)
    }

    fn gated(configured: &[EgressAddress], gate: fn() -> Gate) -> Self {
        let list = configured.iter().filter_map(|address| {
            let source = Source {
                published: address.published,
                bind: address.bind?,
            };
            Some(Arc::new(Address::new(source, address.state, gate())))
        });
        Self {
            list: list.collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The next usable address, in turn.
    ///
    /// # Errors
    /// [`Denial::EgressUnavailable`] if none is in use, or none of those is on this host and seen from
    /// outside as published.
    pub fn choose(&self) -> Result<Source, Denial> {
        self.choose_of(&[])
    }

    /// The next usable address, in turn, of those that are `accepted`; of all where none is named.
    ///
    /// # Errors
    /// As [`Self::choose`]; [`Denial::LineUnavailable`] where some are named.
    pub fn choose_of(&self, accepted: &[Published]) -> Result<Source, Denial> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let is_accepted =
            |address: &Address| accepted.is_empty() || accepted.contains(&address.source.published);
        let usable = |address: &&Arc<Address>| is_accepted(address) && address.is_usable();
        let count = self.list.iter().filter(usable).count();
        if count > 0
            && let Some(address) = self.list.iter().filter(usable).nth(turn % count)
        {
            return Ok(address.source);
        }
        let candidates = self.list.iter().filter(|address| is_accepted(address));
        let hindrances = candidates.filter_map(|address| address.hindrance());
        let nearest = hindrances.max_by_key(|detail| HINDRANCES.iter().position(|it| it == detail));
        let detail = nearest.unwrap_or(Detail::NoAddress);
        Err(match accepted.first() {
            None => Denial::EgressUnavailable(detail),
            Some(line) => Denial::LineUnavailable {
                line: *line,
                detail,
            },
        })
    }

    /// What customers see as `published`, if it may be used from this host at this instant.
    pub(super) fn here(&self, published: Published) -> Option<Source> {
        let mut sources = self.list.iter().filter(|address| address.is_usable());
        sources
            .find(|address| address.source.published == published)
            .map(|address| address.source)
    }

    /// The address behind `bind`, if it may be used at this instant.
    pub(super) fn usable(&self, bind: Bind) -> Result<&Arc<Address>, Denial> {
        let mut of_bind = self.list.iter().filter(|it| it.source.bind == bind);
        of_bind
            .clone()
            .find(|address| address.is_usable())
            .ok_or_else(|| {
                let hindrance = of_bind.find_map(|address| address.hindrance());
                let detail = hindrance.filter(|detail| *detail != Detail::NoAddress);
                Denial::EgressUnavailable(detail.unwrap_or(Detail::AddressAbsent))
            })
    }

    /// As [`Self::usable`] and [`Self::usable_now`], for that usage.
    pub(super) fn usable_for(&self, bind: Bind, usage: Usage) -> Result<&Arc<Address>, Denial> {
        let planned = self.list.iter().find(|address| {
            address.source.bind == bind && address.state() == AddressState::Planned
        });
        let (Usage::Probe, Some(address)) = (usage, planned) else {
            return self.usable_now(bind);
        };
        address.look_again();
        match address.hindrance_but_state() {
            None => Ok(address),
            Some(detail) => Err(Denial::EgressUnavailable(detail)),
        }
    }

    /// Whether a connection from `bind` that was made at `born` may be kept for another call.
    pub(super) fn may_keep(&self, bind: Bind, born: Instant) -> bool {
        self.usable(bind).is_ok_and(|address| address.trusts(born))
    }

    /// Whether calls can leave as `published` from this host at this instant.
    pub(super) fn is_usable(&self, published: Published) -> bool {
        let mut of = self.list.iter();
        of.any(|address| address.source.published == published && address.is_usable())
    }

    /// Has the echoes asked soon how the internet sees `source`.
    pub(super) fn doubt(&self, source: Source) {
        let mut of = self.list.iter();
        of.find(|it| it.source == source)
            .into_iter()
            .for_each(|it| it.gate.doubt());
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Address>> {
        self.list.clone()
    }

    /// Connections from `bind` that were made until now may leave as another address.
    pub(super) fn distrust(&self, bind: Bind) {
        let of_bind = self.list.iter().filter(|it| it.source.bind == bind);
        of_bind.for_each(|address| {
            let now = address.age_ms(Instant::now());
            address.distrusted_ms.store(now, Ordering::Release);
        });
    }

    /// The same for a call that is about to leave from it: it is looked whether the address is
    /// still here. On a connection whose address has left, a call would wait in vain, and so would
    /// all that come after it, until they hold every permit.
    pub(super) fn usable_now(&self, bind: Bind) -> Result<&Arc<Address>, Denial> {
        self.usable(bind)?.look_again();
        self.usable(bind)
    }

    /// Gives each the state that is published from here on; tells those that are in use no more.
    pub(super) fn obey(&self, states: &[(Published, AddressState)]) -> Vec<Bind> {
        let mut left = Vec::new();
        for address in &self.list {
            let Source { published, bind } = address.source;
            let state = states.iter().find(|(of, _)| *of == published);
            let Some((_, state)) = state else { continue };
            let before = address.set_state(*state);
            if before == AddressState::Active && *state != AddressState::Active {
                left.push(bind);
            }
        }
        left
    }

    /// Whether `ip` is one of them, on this host now or not: what customers see or what is bound.
    pub(super) fn has(&self, ip: Ipv4Addr) -> bool {
        let mut sources = self.list.iter().map(|address| address.source);
        sources.any(|source| source.bind.0 == ip || source.published.0 == ip)
    }

    /// Looks which addresses are on this host; tells those that have left since the last look.
    pub(super) fn look(&self) -> impl Iterator<Item = Bind> {
        self.list.iter().filter_map(|address| {
            let before = address.is_up.load(Ordering::Acquire);
            let presence = dial::probe(address.source.bind);
            address.set(presence);
            (before && presence == Presence::Absent).then_some(address.source.bind)
        })
    }

    /// What is known, `pooled` aside.
    pub fn snapshots(&self) -> impl Iterator<Item = AddressSnapshot> {
        self.list.iter().map(|address| address.snapshot())
    }
}

impl Address {
    fn new(source: Source, state: AddressState, gate: Gate) -> Self {
        Self {
            source,
            gate,
            distrusted_ms: AtomicU64::new(0),
            state: AtomicU8::new(state as u8),
            is_up: AtomicBool::new(dial::probe(source.bind) == Presence::Up),
            looked_ms: AtomicU64::new(0),
            born: Instant::now(),
            since: Mutex::new(Instant::now()),
            open: AtomicUsize::new(0),
        }
    }

    /// Says what was found, at once and for all calls to come.
    pub(super) fn set(&self, presence: Presence) {
        let up = presence == Presence::Up;
        if up && !self.is_up.load(Ordering::Acquire) {
            self.gate.arrive();
        }
        if self.is_up.swap(up, Ordering::AcqRel) == up {
            return;
        }
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let Source { published, bind } = self.source;
        if up {
            tracing::info!(%published, %bind, "the address is on this host again");
        } else {
            tracing::error!(%published, %bind, "the address has left this host");
        }
    }

    /// Looks whether it is on this host, unless that was done a moment ago.
    fn look_again(&self) {
        let now = self.age_ms(Instant::now());
        let looked = self.looked_ms.load(Ordering::Relaxed);
        if now.saturating_sub(looked) >= LOOK_GOOD_FOR_MS {
            self.looked_ms.store(now, Ordering::Relaxed);
            self.set(dial::probe(self.source.bind));
        }
    }

    /// Whether calls leave from it, or probes before its day, and it is on this host: then it is worth
    /// asking how the internet sees it.
    pub(super) fn is_wanted(&self) -> bool {
        self.state() != AddressState::Retiring && self.is_up.load(Ordering::Acquire)
    }

    /// Whether calls leave from it, as far as the list goes.
    pub(super) fn is_in_use(&self) -> bool {
        self.state() == AddressState::Active
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    fn is_usable(&self) -> bool {
        self.is_in_use() && self.is_up.load(Ordering::Acquire) && self.gate.is_open()
    }

    /// Why it cannot be used, if that is so.
    fn hindrance(&self) -> Option<Detail> {
        if self.is_in_use() {
            self.hindrance_but_state()
        } else {
            Some(Detail::NoAddress)
        }
    }

    /// The same, whether it is in use or not.
    fn hindrance_but_state(&self) -> Option<Detail> {
        if !self.is_up.load(Ordering::Acquire) {
            Some(Detail::AddressAbsent)
        } else if self.gate.is_open() {
            None
        } else if let Some(Seen::Other(_)) = self.gate.seen() {
            Some(Detail::AddressMismatch)
        } else {
            Some(Detail::AddressUnverified)
        }
    }

    /// Whether a connection made at `born` is as good as a new one.
    fn trusts(&self, born: Instant) -> bool {
        let distrusted = self.distrusted_ms.load(Ordering::Acquire);
        distrusted == 0 || self.age_ms(born) > distrusted
    }

    /// Milliseconds from its birth to `at`.
    fn age_ms(&self, at: Instant) -> u64 {
        let age = at.saturating_duration_since(self.born);
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }

    fn state(&self) -> AddressState {
        AddressState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    fn set_state(&self, state: AddressState) -> AddressState {
        if state == AddressState::Active && self.state() != state {
            self.gate.arrive();
        }
        AddressState::ALL[usize::from(self.state.swap(state as u8, Ordering::AcqRel))]
    }

    fn snapshot(&self) -> AddressSnapshot {
        AddressSnapshot {
            published: self.source.published,
            bind: self.source.bind,
            state: self.state(),
            presence: if self.is_up.load(Ordering::Acquire) {
                Presence::Up
            } else {
                Presence::Absent
            },
            since: *self.since.lock().unwrap_or_else(PoisonError::into_inner),
            verification: self.gate.verification(),
            open: self.open.load(Ordering::Relaxed),
            pooled: 0,
        }
    }
}

impl OpenConnection {
    pub(super) fn new(address: &Arc<Address>) -> Self {
        address.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(address))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
    const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 78);
    /// Documentation address (RFC 5737), on no host.
    const ABSENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

    fn addresses(of: &[(Ipv4Addr, AddressState)]) -> Addresses {
        let of: Vec<_> = of
            .iter()
            .map(|(ip, state)| EgressAddress {
                published: Published(*ip),
                bind: Some(Bind(*ip)),
                state: *state,
                elsewhere: Vec::new(),
                valid_from: None,
                retire_after: None,
            })
            .collect();
        Addresses::new(&of)
    }

    fn chosen(addresses: &Addresses) -> Vec<Ipv4Addr> {
        let chosen = (0..4).map(|_| addresses.choose().map(|source| source.bind.0));
        chosen.filter_map(Result::ok).collect()
    }

    #[tokio::test]
    async fn active_addresses_of_this_host_take_turns() {
        use AddressState::{Active, Planned, Retiring};
        let third = Ipv4Addr::new(127, 0, 0, 79);
        let of = addresses(&[
            (ABSENT, Active),
            (FIRST, Active),
            (third, Planned),
            (SECOND, Active),
            (third, Retiring),
        ]);
        assert_eq!(chosen(&of), [FIRST, SECOND, FIRST, SECOND]);
        assert!(of.usable(Bind(FIRST)).is_ok());
        assert!(of.usable(Bind(third)).is_err());
        assert!(of.usable(Bind(ABSENT)).is_err());
    }

    #[tokio::test]
    async fn what_is_published_is_obeyed() {
        use AddressState::{Active, Planned, Retiring};
        let of = addresses(&[(FIRST, Active), (SECOND, Active)]);
        let publish = |first, second| {
            of.obey(&[
                (Published(FIRST), first),
                (Published(SECOND), second),
                (Published(ABSENT), Active),
            ])
        };
        assert_eq!(publish(Active, Planned), [Bind(SECOND)]);
        assert_eq!(chosen(&of), [FIRST; 4]);
        assert!(of.usable(Bind(SECOND)).is_err());
        assert_eq!(publish(Retiring, Active), [Bind(FIRST)]);
        assert_eq!(chosen(&of), [SECOND; 4]);
        assert_eq!(of.snapshots().next().unwrap().state, Retiring);
        assert_eq!(publish(Active, Active), []);
        assert_eq!(chosen(&of), [FIRST, SECOND, FIRST, SECOND]);
    }

    #[tokio::test]
    async fn without_a_usable_address_there_is_none() {
        let none = |detail| Err(Denial::EgressUnavailable(detail));
        let absent = addresses(&[(ABSENT, AddressState::Active)]);
        assert_eq!(absent.choose(), none(Detail::AddressAbsent));
        let planned = addresses(&[(FIRST, AddressState::Planned)]);
        assert_eq!(planned.choose(), none(Detail::NoAddress));
        assert_eq!(addresses(&[]).choose(), none(Detail::NoAddress));
    }

    #[tokio::test]
    async fn an_address_that_left_is_not_used_until_it_is_back() {
        let of = addresses(&[
            (FIRST, AddressState::Active),
            (SECOND, AddressState::Active),
        ]);
        of.usable(Bind(FIRST)).unwrap().set(Presence::Absent);
        assert_eq!(chosen(&of), [SECOND; 4]);
        assert_eq!(of.snapshots().next().unwrap().presence, Presence::Absent);
        // Loopback addresses are always there, so the next look finds it.
        assert_eq!(of.look().count(), 0);
        assert_eq!(chosen(&of), [FIRST, SECOND, FIRST, SECOND]);
    }

    #[tokio::test(start_paused = true)]
    async fn before_a_call_leaves_it_is_looked_again() {
        let of = addresses(&[(ABSENT, AddressState::Active)]);
        of.list[0].set(Presence::Up);
        assert!(of.usable_now(Bind(ABSENT)).is_ok(), "looked a moment ago");
        tokio::time::advance(Duration::from_millis(LOOK_GOOD_FOR_MS)).await;
        assert!(of.usable(Bind(ABSENT)).is_ok(), "nobody has looked");
        assert!(of.usable_now(Bind(ABSENT)).is_err());
        assert!(of.choose().is_err(), "the next call knows");
    }

    #[tokio::test]
    async fn a_look_tells_which_addresses_have_left() {
        let of = addresses(&[
            (ABSENT, AddressState::Active),
            (FIRST, AddressState::Active),
        ]);
        of.list[0].set(Presence::Up);
        assert_eq!(of.look().collect::<Vec<_>>(), [Bind(ABSENT)]);
        assert_eq!(of.look().count(), 0, "it is told once");
    }
}
