//! When a probe is to be sent. Pure.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::book::Known;
use super::standing::State;
use crate::config::AddressState;
use crate::model::{Account, Published};

/// How often probes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Where nobody has seen an answer for so long.
    pub interval: Duration,
    /// While an account that is called refuses the address.
    pub open_interval: Duration,
}

/// An account that was not called for so long is asked no more, but for addresses that are planned.
const CALLED_LATELY: SignedDuration = SignedDuration::from_hours(24);

/// While calls are so recent, a refusal is looked after closely.
const CALLED_NOW: SignedDuration = SignedDuration::from_hours(1);

/// Probes come later than they are due by up to this part of their interval, each pair of account and
/// address by its own, so that they do not come at once.
const SPREAD: u32 = 10;

/// Whether `account` is to be asked at `address`, which is published as `state`.
pub(super) fn is_due(
    account: &Account,
    known: &Known,
    (address, state): (Published, AddressState),
    pace: Pace,
    now: Timestamp,
) -> bool {
    let standing = known.at(address);
    // A time that is to come is one of a clock that was set back.
    let is_older = |at: Option<Timestamp>, than: SignedDuration| {
        at.is_none_or(|at| at > now || now.duration_since(at) >= than)
    };
    let wait = |interval: Duration| {
        let late = spread(account, address, interval);
        SignedDuration::try_from(interval + late).unwrap_or(SignedDuration::MAX)
    };
    let is_called = |lately| known.called.is_some() && !is_older(known.called, lately);
    match (state, standing.state()) {
        (AddressState::Retiring, _) => false,
        (AddressState::Active, State::Refused) if is_called(CALLED_NOW) => {
            is_older(standing.asked, wait(pace.open_interval))
        }
        (AddressState::Active, _) if !is_called(CALLED_LATELY) => false,
        (AddressState::Active | AddressState::Planned, _) => {
            is_older(standing.asked.max(standing.seen()), wait(pace.interval))
        }
    }
}

fn spread(account: &Account, address: Published, interval: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (account, address).hash(&mut hasher);
    let per_mille = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
    interval / SPREAD * per_mille / 1000
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::standing::Taken;
    use super::*;

    const ADDRESS: Published = Published(Ipv4Addr::new(192, 0, 2, 1));
    const PACE: Pace = Pace {
        interval: Duration::from_hours(6),
        open_interval: Duration::from_mins(5),
    };

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    /// The first minute of ten days in which a probe is due.
    fn due(known: &Known, state: AddressState) -> Option<i64> {
        let account = Account::from_normal("acme.cybozu.com");
        let due = |minute: &i64| is_due(&account, known, (ADDRESS, state), PACE, at(*minute));
        (0..14_400).find(due)
    }

    fn called(minute: i64) -> Known {
        Known {
            called: Some(at(minute)),
            ..Known::default()
        }
    }

    #[test]
    fn only_accounts_that_are_called_are_asked_and_rarely() {
        use AddressState::{Active, Planned, Retiring};
        assert_eq!(due(&Known::default(), Active), None);
        assert_eq!(due(&called(0), Active), Some(0));
        assert_eq!(due(&called(0), Retiring), None);
        assert_eq!(due(&Known::default(), Planned), Some(0));
        let mut seen = called(0);
        seen.at_mut(ADDRESS).see(Taken::Accepted, at(0));
        let first = due(&seen, Active).unwrap();
        assert!((360..=396).contains(&first), "6 h, and a tenth: {first}");
        seen.at_mut(ADDRESS).asked = Some(at(100));
        let account = Account::from_normal("acme.cybozu.com");
        let is_due = |minute| is_due(&account, &seen, (ADDRESS, Active), PACE, at(minute));
        assert!(!(100..460).any(is_due) && (460..=496).any(is_due));
    }

    #[test]
    fn a_refusal_is_looked_at_at_once_and_then_every_five_minutes_while_calls_come() {
        let mut refused = called(0);
        refused.at_mut(ADDRESS).see(Taken::Refused, at(0));
        assert_eq!(due(&refused, AddressState::Active), Some(0));
        refused.at_mut(ADDRESS).asked = Some(at(0));
        let next = due(&refused, AddressState::Active).unwrap();
        assert!((5..=6).contains(&next), "{next}");
        refused.called = Some(at(-120));
        let rare = due(&refused, AddressState::Active).unwrap();
        assert!((360..=396).contains(&rare), "{rare}");
    }
}
