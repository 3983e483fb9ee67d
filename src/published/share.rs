//! What hosts learn of each other's memories: since when customers can read of an address. Pure.
//!
//! Each host judges by its own configuration. But a host that is new, has lost its state or was
//! reloaded later does not know how long an address has been on the list, would hold it back when the
//! others use it, and would date its changes otherwise. So the earliest time that any host knows holds.
//!
//! What is told comes over an untrusted store. It never puts an address on the list, nor a change of
//! one that this host does not know, and nothing of it counts that lies in the future; the worst that
//! it can do is to let a configured address come before its notice is over.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};

use super::memory::{CHANGES_MAX, Change, LAYOUT, Memory, Remembered};

/// How far the clocks of hosts may differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Why what a host has told is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ToldError {
    /// It is no memory.
    #[error(transparent)]
    Nonsense(#[from] serde_json::Error),
    /// It is of another version of the program.
    #[error("its layout is {0}, and this version of the program knows {LAYOUT}")]
    Layout(u32),
    /// It has too many changes.
    #[error("it has {0} changes; {CHANGES_MAX} are the most")]
    Long(usize),
    /// Something in it has not happened yet.
    #[error("something in it is of {0}, which is still to come: compare the clocks of the hosts")]
    Future(Timestamp),
}

impl Memory {
    /// What hosts tell each other.
    #[must_use]
    pub fn told(&self) -> Vec<u8> {
        // Only writers that fail can make it fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what another host has told at `now`.
    ///
    /// # Errors
    /// [`ToldError`].
    pub fn heard(content: &[u8], now: Timestamp) -> Result<Self, ToldError> {
        let memory: Self = serde_json::from_slice(content)?;
        if memory.layout != LAYOUT {
            return Err(ToldError::Layout(memory.layout));
        }
        if memory.changes.len() > CHANGES_MAX {
            return Err(ToldError::Long(memory.changes.len()));
        }
        let addresses = memory.addresses.iter();
        let times = addresses.flat_map(|one| [one.since, one.listed]).flatten();
        let changes = memory.changes.iter().map(|change| change.at);
        let latest = times.chain(changes).chain([memory.changed]).max();
        match latest {
            Some(latest) if latest.duration_since(now) > SKEW => Err(ToldError::Future(latest)),
            Some(_) | None => Ok(memory),
        }
    }

    /// This memory with what another one knows better.
    #[must_use]
    pub fn learned(&self, told: &Self) -> Self {
        let mut learned = self.clone();
        for one in &mut learned.addresses {
            if let Some(told) = told.of(one.address) {
                one.listed = earlier(one.listed, told.listed);
                if one.state == told.state {
                    one.since = earlier(one.since, told.since);
                }
            }
        }
        if self.says_what(told) {
            let is_known = |change: &&Change| self.knows(change.address);
            let news = told.changes.iter().filter(is_known);
            learned.changes = merged(self.changes.iter().chain(news).copied().collect());
            let last = learned.changes.last().map(|change| change.at);
            learned.changed = last.unwrap_or_else(|| self.changed.min(told.changed));
        }
        learned
    }

    /// Whether both say the same of the addresses.
    fn says_what(&self, other: &Self) -> bool {
        let says = |one: &Remembered| {
            let other = other.of(one.address);
            other.is_some_and(|other| {
                (one.state, one.as_change()) == (other.state, other.as_change())
            })
        };
        self.addresses.len() == other.addresses.len() && self.addresses.iter().all(says)
    }

    fn knows(&self, address: Ipv4Addr) -> bool {
        self.of(address).is_some() || self.changes.iter().any(|change| change.address == address)
    }
}

/// The earlier of two times, of which the one that is known beats one that is not.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (Some(known), None) | (None, Some(known)) => Some(known),
        (None, None) => None,
    }
}

/// Changes in order of time, each once: what an address is already is no change.
fn merged(mut changes: Vec<Change>) -> Vec<Change> {
    changes.sort_by_key(|change| change.at);
    let mut kept: Vec<Change> = Vec::new();
    for change in changes {
        let mut before = kept.iter().rev();
        let last = before.find(|one| one.address == change.address);
        if last.is_none_or(|last| last.what != change.what) {
            kept.push(change);
        }
    }
    kept.drain(..kept.len().saturating_sub(CHANGES_MAX));
    kept
}

#[cfg(test)]
mod tests {
    use super::super::judge::judge;
    use super::super::memory::What;
    use super::*;
    use crate::config::AddressState::{Active, Planned};
    use crate::config::{AddressState, EgressAddress, Notice};
    use crate::model::Published;

    const A: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 94);
    const B: Ipv4Addr = Ipv4Addr::new(35, 73, 236, 241);
    const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

    fn day(of: i64) -> Timestamp {
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        begin + SignedDuration::from_hours(24 * of)
    }

    fn address(ip: Ipv4Addr, state: AddressState) -> EgressAddress {
        EgressAddress {
            published: Published(ip),
            bind: None,
            elsewhere: Vec::new(),
            state,
            valid_from: None,
            retire_after: None,
        }
    }

    /// What a host remembers that has read these lists on these days.
    fn lived(lists: &[(i64, &[(Ipv4Addr, AddressState)])]) -> Memory {
        let mut memory = None;
        for (of, list) in lists {
            let list: Vec<_> = list
                .iter()
                .map(|(ip, state)| address(*ip, *state))
                .collect();
            let judged = judge(&list, memory.as_ref(), Notice::default(), day(*of));
            memory = Some(judged.memory);
        }
        memory.unwrap()
    }

    fn heard(memory: &Memory, now: i64) -> Memory {
        Memory::heard(&memory.told(), day(now)).unwrap()
    }

    #[test]
    fn a_host_that_knows_an_address_for_less_long_counts_its_notice_from_the_first_list() {
        let both = [(A, Active), (B, Active)];
        let a = lived(&[(0, &[(A, Active)]), (1, &both), (60, &both)]);
        assert_eq!(a.of(B).map(|one| one.state), Some(Active));
        let b = lived(&[(0, &[(A, Active)]), (59, &both), (60, &both)]);
        assert_eq!(b.of(B).map(|one| one.state), Some(Planned), "held");
        let b = b.learned(&heard(&a, 60));
        let list = both.map(|(ip, state)| address(ip, state));
        let judged = judge(&list, Some(&b), Notice::default(), day(60));
        assert!(judged.alarms.is_empty(), "{:?}", judged.alarms);
        // Now that both say the same, both say since when.
        let b = judged.memory.learned(&heard(&a, 60));
        let a = a.learned(&heard(&judged.memory, 60));
        assert_eq!(
            b.of(B).map(|one| (one.state, one.listed)),
            Some((Active, Some(day(1))))
        );
        assert_eq!(a.changes, b.changes);
        assert_eq!((a.changed, a.of(B)), (b.changed, b.of(B)));
        assert_eq!(
            a.learned(&heard(&b, 60)),
            a,
            "there is nothing left to learn"
        );
    }

    #[test]
    fn a_host_without_a_past_takes_it_from_the_others() {
        let list: &[_] = &[(A, Active), (B, Planned)];
        let a = lived(&[(0, &[(A, Active)]), (5, list), (9, list)]);
        let c = lived(&[(8, list)]).learned(&heard(&a, 9));
        assert_eq!(c, a);
        assert_eq!(a.learned(&heard(&c, 9)), a);
    }

    #[test]
    fn what_is_forged_puts_nothing_on_the_list_and_moves_no_clock() {
        let own = lived(&[(0, &[(A, Active)]), (5, &[(A, Active), (B, Planned)])]);
        let mut forged = own.clone();
        forged.addresses.push(Remembered {
            address: STRANGER,
            ..own.addresses[0]
        });
        let planned = |address| Change {
            at: day(6),
            address,
            what: What::Planned { from: None },
        };
        forged.changes.push(planned(STRANGER));
        assert_eq!(own.learned(&heard(&forged, 9)), own);
        forged.addresses.pop();
        assert_eq!(own.learned(&heard(&forged, 9)), own);
        for far in [day(10), Timestamp::MAX] {
            let mut forged = own.clone();
            forged.changed = far;
            let error = Memory::heard(&forged.told(), day(9)).unwrap_err();
            assert!(
                matches!(error, ToldError::Future(at) if at == far),
                "{error}"
            );
        }
        for nonsense in ["", "{}", "{\"layout\":1}"] {
            Memory::heard(nonsense.as_bytes(), day(9)).unwrap_err();
        }
        let mut newer = own;
        newer.layout = LAYOUT + 1;
        let error = Memory::heard(&newer.told(), day(9)).unwrap_err();
        assert!(matches!(error, ToldError::Layout(_)), "{error}");
    }

    #[test]
    fn the_same_change_on_two_hosts_is_one_at_the_earlier_time() {
        let change = |at: i64, what| Change {
            at: day(at),
            address: A,
            what,
        };
        let (planned, active) = (What::Planned { from: None }, What::Active { until: None });
        let both = vec![
            change(4, active),
            change(1, planned),
            change(5, active),
            change(2, planned),
            change(9, planned),
        ];
        let expected = [change(1, planned), change(4, active), change(9, planned)];
        assert_eq!(merged(both), expected);
    }
}
