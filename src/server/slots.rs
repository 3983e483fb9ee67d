//! How many connections callers may hold: in all, and from one network address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// The count of callers' connections over all listeners.
///
/// Nothing is accepted while no place is free, so that a connection without a place waits in the
/// kernel's backlog and costs nothing here. The map holds only addresses with connections, and is
/// bounded by their number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    held: Mutex<Held>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among all connections, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    slots: Arc<Slots>,
}

/// A place among all connections and among those of one network address, given back on drop.
#[derive(Debug)]
pub(super) struct Slot {
    place: Place,
    address: IpAddr,
}

impl Slots {
    /// Takes a place if fewer than `limit` are held.
    pub(super) fn try_place(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let mut held = self.held();
        if held.all >= limit {
            return None;
        }
        held.all += 1;
        Some(Place {
            slots: Arc::clone(self),
        })
    }

    /// Completes when a place was given back. The future must exist before one looks for a place:
    /// it hears what happens from then on.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Lets those who wait for a place look again: the limit has changed.
    pub(super) fn look_again(&self) {
        self.freed.notify_waiters();
    }

    /// Places held.
    pub(super) fn len(&self) -> usize {
        self.held().all
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No code under the lock can panic half way, so that a poisoned count is still right.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the connection for its network address too, if that has fewer than `limit`; else the
    /// place is given back.
    pub(super) fn of(self, address: IpAddr, limit: usize) -> Option<Slot> {
        let address = address.to_canonical();
        {
            let mut held = self.slots.held();
            let count = held.by_address.entry(address).or_insert(0);
            if *count < limit {
                *count += 1;
            } else {
                if *count == 0 {
                    held.by_address.remove(&address);
                }
                drop(held);
                return None;
            }
        }
        Some(Slot {
            place: self,
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.held().all -= 1;
        self.slots.freed.notify_waiters();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.place.slots.held();
        if let Some(count) = held.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn places_end_at_the_limit_and_come_back() {
        let slots = Arc::new(Slots::default());
        let first = slots.try_place(2).unwrap();
        let second = slots.try_place(2).unwrap();
        assert!(slots.try_place(2).is_none());
        drop(first);
        assert!(slots.try_place(2).is_some());
        drop(second);
        assert_eq!(slots.len(), 0);
    }

    #[test]
    fn an_address_at_its_limit_gives_the_place_back_and_leaves_others_alone() {
        let slots = Arc::new(Slots::default());
        let one = slots.try_place(10).unwrap().of(A, 1).unwrap();
        assert!(slots.try_place(10).unwrap().of(A, 1).is_none());
        assert_eq!(slots.len(), 1);
        let other = slots.try_place(10).unwrap().of(B, 1).unwrap();
        drop(one);
        let again = slots.try_place(10).unwrap().of(A, 1).unwrap();
        drop((other, again));
        assert_eq!(slots.len(), 0);
        assert!(slots.held().by_address.is_empty());
    }

    #[test]
    fn a_limit_of_nothing_leaves_no_trace() {
        let slots = Arc::new(Slots::default());
        assert!(slots.try_place(10).unwrap().of(A, 0).is_none());
        assert!(slots.held().by_address.is_empty());
    }

    #[test]
    fn an_address_is_the_same_in_both_spellings() {
        let slots = Arc::new(Slots::default());
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let _one = slots.try_place(10).unwrap().of(A, 1).unwrap();
        assert!(slots.try_place(10).unwrap().of(mapped, 1).is_none());
    }
}
