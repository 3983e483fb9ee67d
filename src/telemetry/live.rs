//! The calls under way, for operators who ask what hangs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Account, CallerName, Client, Mode, RequestId, Tenant};

/// The registry. Bounded: calls beyond its capacity run as well, but are not listed.
#[derive(Debug)]
pub struct Live {
    shards: Arc<[Shard]>,
    unlisted: Arc<AtomicU64>,
}

/// A call in the registry; leaves it when dropped.
#[derive(Debug)]
pub struct LiveCall {
    place: Option<Place>,
    unlisted: Arc<AtomicU64>,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for a permit or the rate, or is being judged.
    Waiting,
    /// A connection to kintone is being made.
    Dialling,
    /// It was sent; kintone owes the head of the answer.
    Sent,
    /// The answer is on its way.
    Answering,
    /// A tunnel that is owed nothing.
    Idle,
    /// The caller is gone; the end at kintone has not been seen.
    Settling,
    /// Another host has it, and its permit.
    Handed,
}

/// Who makes a call, once that is known.
#[derive(Clone, Debug, Default)]
pub struct Who {
    /// The caller.
    pub caller: Option<CallerName>,
    /// The account.
    pub account: Option<Account>,
    /// The way in.
    pub mode: Option<Mode>,
    /// The tenant.
    pub tenant: Option<Tenant>,
}

/// Which calls to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct LiveFilter {
    /// Only this account's.
    pub account: Option<String>,
    /// Only this caller's.
    pub caller: Option<String>,
    /// Only those at least this old.
    pub older_than: Option<Duration>,
}

/// A call under way.
#[derive(Clone, Debug)]
pub struct LiveSnapshot {
    /// Its identifier.
    pub id: RequestId,
    /// Where it came from.
    pub client: Client,
    /// Time since its head.
    pub age: Duration,
    /// How far it has come.
    pub phase: Phase,
    /// Whose it is.
    pub who: Who,
}

/// How many calls are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnderWay {
    /// Those that have a permit.
    pub in_flight: u32,
    /// Those that wait for one.
    pub waiting: u32,
}

#[derive(Debug, Default)]
struct Shard {
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<u32>,
    capacity: usize,
}

#[derive(Debug)]
struct Place {
    shards: Arc<[Shard]>,
    shard: usize,
    slot: u32,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: RequestId,
    client: Client,
    started: Instant,
    phase: AtomicU8,
    who: OnceLock<Who>,
}

/// Enough that two cores seldom meet at one lock.
const SHARDS: usize = 16;

impl Live {
    /// A registry of at most about `capacity` calls.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shard = || Shard {
            slots: Mutex::new(Slots {
                capacity: capacity.div_ceil(SHARDS),
                ..Slots::default()
            }),
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            unlisted: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Lists at most about `capacity` calls from here on; those listed already stay.
    pub fn set_capacity(&self, capacity: usize) {
        for shard in self.shards.iter() {
            shard.lock().capacity = capacity.div_ceil(SHARDS);
        }
    }

    /// Enters a call that began at `started`, in [`Phase::Waiting`].
    #[must_use]
    pub fn enter(&self, id: RequestId, client: Client, started: Instant) -> LiveCall {
        let entry = Arc::new(Entry {
            id,
            client,
            started,
            phase: AtomicU8::new(Phase::Waiting as u8),
            who: OnceLock::new(),
        });
        // Identifiers are random, so their first character spreads the calls.
        let shard = id.as_str().bytes().next().map_or(0, usize::from) % SHARDS;
        let slot = self.shards[shard].lock().insert(&entry);
        if slot.is_none() {
            self.unlisted.fetch_add(1, Ordering::Relaxed);
        }
        LiveCall {
            place: slot.map(|slot| Place {
                shards: Arc::clone(&self.shards),
                shard,
                slot,
                entry,
            }),
            unlisted: Arc::clone(&self.unlisted),
        }
    }

    /// The calls that `filter` lets through, the oldest first, at most `limit`; and how many it
    /// lets through in all.
    #[must_use]
    pub fn snapshot(&self, filter: &LiveFilter, limit: usize) -> (Vec<LiveSnapshot>, usize) {
        let now = Instant::now();
        let mut found: Vec<Arc<Entry>> = Vec::new();
        for shard in self.shards.iter() {
            let slots = shard.lock();
            found.extend(slots.entries.iter().flatten().map(Arc::clone));
        }
        found.retain(|entry| filter.lets_through(entry, now));
        found.sort_by_key(|entry| entry.started);
        let total = found.len();
        found.truncate(limit);
        let calls = found.iter().map(|entry| entry.snapshot(now)).collect();
        (calls, total)
    }

    /// The calls under way of one caller by their account; only those of `tenant`, if one is given.
    #[must_use]
    pub fn of_caller(
        &self,
        caller: &CallerName,
        tenant: Option<&Tenant>,
    ) -> BTreeMap<Account, UnderWay> {
        let mut found: BTreeMap<Account, UnderWay> = BTreeMap::new();
        for shard in self.shards.iter() {
            let slots = shard.lock();
            for entry in slots.entries.iter().flatten() {
                let Some(who) = entry.who.get() else { continue };
                let is_wanted = who.caller.as_ref() == Some(caller)
                    && (tenant.is_none() || who.tenant.as_ref() == tenant);
                let Some(account) = who.account.as_ref().filter(|_| is_wanted) else {
                    continue;
                };
                let under_way = match found.get_mut(account) {
                    Some(under_way) => under_way,
                    None => found.entry(account.clone()).or_default(),
                };
                match entry.phase() {
                    Phase::Waiting => under_way.waiting += 1,
                    Phase::Handed => {}
                    Phase::Dialling
                    | Phase::Sent
                    | Phase::Answering
                    | Phase::Idle
                    | Phase::Settling => under_way.in_flight += 1,
                }
            }
        }
        found
    }

    /// Calls under way that found no place in the registry.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.unlisted.load(Ordering::Relaxed)
    }
}

impl LiveCall {
    /// Notes how far it has come.
    pub fn set_phase(&self, phase: Phase) {
        if let Some(place) = &self.place {
            place.entry.phase.store(phase as u8, Ordering::Relaxed);
        }
    }

    /// Notes whose it is; only the first time counts.
    pub fn set_who(&self, who: Who) {
        if let Some(place) = &self.place {
            let _ = place.entry.who.set(who);
        }
    }
}

impl Drop for LiveCall {
    fn drop(&mut self) {
        match self.place.take() {
            Some(place) => place.shards[place.shard].lock().remove(place.slot),
            None => {
                self.unlisted.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Phase {
    /// Every phase, in the order of a call's life.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Dialling,
        Self::Sent,
        Self::Answering,
        Self::Idle,
        Self::Settling,
        Self::Handed,
    ];

    /// The word used in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dialling => "dialling",
            Self::Sent => "sent",
            Self::Answering => "answering",
            Self::Idle => "idle",
            Self::Settling => "settling",
            Self::Handed => "handed",
        }
    }
}

impl LiveFilter {
    fn lets_through(&self, entry: &Entry, now: Instant) -> bool {
        let who = entry.who.get();
        let account = who.and_then(|who| who.account.as_ref());
        let caller = who.and_then(|who| who.caller.as_ref());
        self.account
            .as_deref()
            .is_none_or(|wanted| account.is_some_and(|account| account.as_str() == wanted))
            && self
                .caller
                .as_deref()
                .is_none_or(|wanted| caller.is_some_and(|caller| caller.as_str() == wanted))
            && self
                .older_than
                .is_none_or(|age| now.saturating_duration_since(entry.started) >= age)
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn insert(&mut self, entry: &Arc<Entry>) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.entries[slot as usize] = Some(Arc::clone(entry));
            return Some(slot);
        }
        if self.entries.len() >= self.capacity {
            return None;
        }
        let slot = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Some(Arc::clone(entry)));
        Some(slot)
    }

    fn remove(&mut self, slot: u32) {
        self.entries[slot as usize] = None;
        self.free.push(slot);
    }
}

impl Entry {
    fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    fn snapshot(&self, now: Instant) -> LiveSnapshot {
        LiveSnapshot {
            id: self.id,
            client: self.client,
            age: now.saturating_duration_since(self.started),
            phase: self.phase(),
            who: self.who.get().cloned().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(live: &Live, number: u128) -> LiveCall {
        let client = Client(([127, 0, 0, 1], 4000).into());
        live.enter(RequestId::from_random(number), client, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_listed_while_they_live_the_oldest_first() {
        let live = Live::new(100);
        let first = call(&live, 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        let second = call(&live, 2);
        second.set_phase(Phase::Settling);
        second.set_who(Who {
            account: Some(Account::from_normal("acme.cybozu.com")),
            ..Who::default()
        });

        let (all, total) = live.snapshot(&LiveFilter::default(), 10);
        assert_eq!(total, 2);
        assert_eq!(all[0].age, Duration::from_secs(2));
        assert_eq!(all[1].phase, Phase::Settling);

        let old = LiveFilter {
            older_than: Some(Duration::from_secs(1)),
            ..LiveFilter::default()
        };
        assert_eq!(live.snapshot(&old, 10).1, 1);
        let of_acme = LiveFilter {
            account: Some("acme.cybozu.com".into()),
            ..LiveFilter::default()
        };
        assert_eq!(
            live.snapshot(&of_acme, 10).0[0].id,
            RequestId::from_random(2)
        );

        drop(first);
        drop(second);
        assert_eq!(live.snapshot(&LiveFilter::default(), 10).1, 0);
    }

    #[test]
    fn a_full_registry_lists_no_more_and_recovers() {
        let live = Live::new(SHARDS);
        // One place a shard: the same identifier falls into the same shard.
        let calls: Vec<_> = (0..10).map(|_| call(&live, 7)).collect();
        assert_eq!(live.snapshot(&LiveFilter::default(), 100).1, 1);
        assert_eq!(live.unlisted(), 9);
        drop(calls);
        assert_eq!(live.unlisted(), 0);
        let _again = call(&live, 7);
        assert_eq!(live.snapshot(&LiveFilter::default(), 100).1, 1);
    }
}
