//! Which way a call goes: from an address of this host, or by another host that owns one which its
//! account accepts. What the configuration says of an account (`accepts`) counts before what was
//! learned.

use super::call::Call;
use super::handing::Handing;
use super::shared::Shared;
use crate::config::{AddressState, Config};
use crate::egress::{Known, Source, State, Way};
use crate::handover::{Peers, Unreached};
use crate::kintone::domain::Door;
use crate::model::{Denial, Detail, HostName, Published};

/// Where a call can be handed: at least one place.
pub(crate) struct Elsewhere {
    /// In the order in which they are tried.
    pub(crate) owners: Vec<Owner>,
    /// The line of the published list that a refusal names.
    pub(crate) line: Published,
}

/// A host, and which of its addresses the account accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) host: HostName,
    pub(crate) address: Published,
}

/// The address of this host that `call` leaves from.
///
/// # Errors
/// [`Denial`]: nothing may leave.
pub(crate) fn source(shared: &Shared, call: &Call) -> Result<Source, Denial> {
    let acceptance = shared.egress.acceptance();
    let accepted = call.accepted();
    match call.destination.door {
        Door::Plain if accepted.is_empty() => acceptance.source(&call.destination.account),
        // A host that asks for a client certificate lets its clients in from anywhere.
        Door::Plain | Door::ClientCertificate => acceptance.among(accepted),
    }
}

impl Elsewhere {
    /// Where `call` is to be handed; `None`: it leaves from here, or from nowhere.
    pub(crate) fn of(shared: &Shared, call: &Call) -> Option<Self> {
        let peers = peers(shared, call)?;
        let owners = match call.accepted() {
            [] => learned(shared, call),
            accepted if shared.egress.acceptance().among(accepted).is_ok() => Vec::new(),
            accepted => owners(&call.rules.config, accepted),
        };
        Self::in_order(peers, owners)
    }

    /// Where `call` is to be handed that kintone's edge has refused at the addresses `tried`, where
    /// what was learned of its account leads to `host`; `None`: the refusal stands. No address is
    /// asked that is known to be refused, and none that the configuration does not name.
    pub(crate) fn around(
        shared: &Shared,
        call: &Call,
        host: &HostName,
        tried: &[Published],
    ) -> Option<Self> {
        let peers = peers(shared, call)?;
        let acceptance = shared.egress.acceptance();
        let known = acceptance.of(&call.destination.account);
        let known = known.unwrap_or_default();
        let mut owners = match call.accepted() {
            [] => toward(others(&call.rules.config), &known, host),
            accepted => owners(&call.rules.config, accepted),
        };
        owners.retain(|owner| {
            let is_refused = known.at(owner.address).state() == State::Refused;
            !is_refused && !tried.contains(&owner.address)
        });
        Self::in_order(peers, owners)
    }

    fn in_order(peers: &Peers<Handing>, mut owners: Vec<Owner>) -> Option<Self> {
        // One that could not be reached a moment ago is the last resort.
        owners.sort_by_key(|owner| !peers.is_up(owner.host.as_str()));
        let line = owners.first()?.address;
        Some(Self { owners, line })
    }

    /// What a call is told that no owner takes.
    pub(crate) fn denial(&self, why: &Unreached) -> Denial {
        let line = self.line;
        let detail = match why {
            Unreached::Full => return Denial::Overloaded(Detail::PeerBusy),
            Unreached::Tls(_) => Detail::PeerTls,
            Unreached::NotReady(_) => Detail::PeerNotReady,
            Unreached::Unknown
            | Unreached::Paused
            | Unreached::Connect(_)
            | Unreached::Broken(_)
            | Unreached::Timeout => Detail::PeerUnreachable,
        };
        Denial::LineUnavailable { line, detail }
    }
}

/// Whether another host may carry `call`: none that was handed over already.
pub(crate) fn may_be_handed(shared: &Shared, call: &Call) -> bool {
    peers(shared, call).is_some()
}

/// The other hosts, if one of them may carry `call`.
fn peers<'a>(shared: &'a Shared, call: &Call) -> Option<&'a Peers<Handing>> {
    let is_free = call.wanted.is_none() && call.destination.door != Door::ClientCertificate;
    shared.peers.as_deref().filter(|_| is_free)
}

/// The host to which what was learned of the account leads, and those that are as good.
fn learned(shared: &Shared, call: &Call) -> Vec<Owner> {
    let account = &call.destination.account;
    let acceptance = shared.egress.acceptance();
    let Ok(Way::Elsewhere(host)) = acceptance.way(account) else {
        return Vec::new();
    };
    let known = acceptance.of(account).unwrap_or_default();
    toward(others(&call.rules.config), &known, &host)
}

/// `host`, by the address there that is best known to be accepted; behind it the other `owners` of an
/// address of which the same is known, should `host` not be reached.
fn toward(owners: impl Iterator<Item = Owner>, known: &Known, host: &HostName) -> Vec<Owner> {
    let mut owners: Vec<_> = owners.collect();
    let there = owners.iter().filter(|owner| owner.host == *host);
    let Some(best) = there.map(|owner| rank(known, owner.address)).min() else {
        return Vec::new();
    };
    owners.retain(|owner| rank(known, owner.address) == best);
    owners.sort_by_key(|owner| owner.host != *host);
    owners
}

fn rank(known: &Known, address: Published) -> u8 {
    match known.at(address).state() {
        State::Accepted => 0,
        State::Unknown => 1,
        State::Refused => 2,
    }
}

/// The hosts to which a call can be handed that is to leave from one of the `accepted` addresses, and
/// from which of these.
pub(crate) fn owners(config: &Config, accepted: &[Published]) -> Vec<Owner> {
    let owners = others(config);
    owners
        .filter(|owner| accepted.contains(&owner.address))
        .collect()
}

/// Each address in use with each other host that has it, where calls are handed to others.
fn others(config: &Config) -> impl Iterator<Item = Owner> {
    let addresses = config.addresses.iter();
    let in_use = addresses
        .filter(|address| config.fleet.peer.is_some() && address.state == AddressState::Active);
    in_use.flat_map(|address| {
        address.elsewhere.iter().map(|host| Owner {
            host: host.clone(),
            address: address.published,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use jiff::Timestamp;

    use super::*;
    use crate::egress::Taken;

    #[test]
    fn hosts_that_are_as_good_stand_behind_the_chosen_one() {
        let address = |last| Published(Ipv4Addr::new(192, 0, 2, last));
        let owner = |host: &str, last| Owner {
            host: HostName::new(host),
            address: address(last),
        };
        let all = || {
            let owners = [("gw-a", 1), ("gw-b", 2), ("gw-c", 2), ("gw-c", 3)];
            owners.into_iter().map(|(host, last)| owner(host, last))
        };
        let mut known = Known::default();
        let toward = |known: &Known, host| toward(all(), known, &HostName::new(host));
        let any = [
            owner("gw-b", 2),
            owner("gw-a", 1),
            owner("gw-c", 2),
            owner("gw-c", 3),
        ];
        assert_eq!(toward(&known, "gw-b"), any);
        known
            .at_mut(address(2))
            .see(Taken::Accepted, Timestamp::UNIX_EPOCH);
        known
            .at_mut(address(1))
            .see(Taken::Refused, Timestamp::UNIX_EPOCH);
        assert_eq!(toward(&known, "gw-c"), [owner("gw-c", 2), owner("gw-b", 2)]);
        assert_eq!(toward(&known, "gw-d"), []);
    }
}
