//! Which way a call goes: from an address of this host, or by another host that owns one which its
//! account accepts. What the configuration says of an account (`accepts`) counts before what was
//! learned.

use super::call::Call;
use super::shared::Shared;
use crate::config::{AddressState, Config};
use crate::egress::{Known, Source, State, Way};
use crate::handover::Unreached;
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
        let peers = shared.peers.as_ref()?;
        if call.wanted.is_some() || call.destination.door == Door::ClientCertificate {
            return None;
        }
        let mut owners = match call.accepted() {
            [] => learned(shared, call),
            accepted if shared.egress.acceptance().among(accepted).is_ok() => Vec::new(),
            accepted => owners(&call.rules.config, accepted),
        };
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

/// The host to which what was learned of the account leads, by the address there that is best known to
/// be accepted.
fn learned(shared: &Shared, call: &Call) -> Vec<Owner> {
    let account = &call.destination.account;
    let acceptance = shared.egress.acceptance();
    let Ok(Way::Elsewhere(host)) = acceptance.way(account) else {
        return Vec::new();
    };
    let known = acceptance.of(account).unwrap_or_default();
    let there = others(&call.rules.config).filter(|owner| owner.host == host);
    let best = there.min_by_key(|owner| rank(&known, owner.address));
    best.into_iter().collect()
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
