//! Which other hosts own an address that an account accepts, where this host has none of those.

use super::call::Call;
use super::shared::Shared;
use crate::config::{AddressState, Config};
use crate::handover::Unreached;
use crate::model::{Denial, Detail, Published};

/// Where a call can be handed: at least one place.
pub(crate) struct Elsewhere<'a> {
    /// In the order in which they are tried.
    pub(crate) owners: Vec<Owner<'a>>,
    /// The line of the published list that a refusal names.
    pub(crate) line: Published,
}

/// A host, and which of its addresses the account accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    pub(crate) host: &'a str,
    pub(crate) address: Published,
}

impl<'a> Elsewhere<'a> {
    /// Where `call` is to be handed; `None`: it leaves from here, or from nowhere.
    pub(crate) fn of(shared: &Shared, call: &'a Call) -> Option<Self> {
        let peers = shared.peers.as_ref()?;
        let accepted = call.accepted();
        let line = *accepted.first()?;
        if call.wanted.is_some() || shared.egress.choose_of(accepted).is_ok() {
            return None;
        }
        let owners = owners(&call.rules.config, accepted).into_iter();
        let mut owners: Vec<_> = owners
            .map(|(address, host)| Owner { host, address })
            .collect();
        // One that could not be reached a moment ago is the last resort.
        owners.sort_by_key(|owner| !peers.is_up(owner.host));
        (!owners.is_empty()).then_some(Self { owners, line })
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

/// The hosts to which a call can be handed that is to leave from one of the `accepted` addresses, and
/// from which of these.
pub(crate) fn owners<'a>(config: &'a Config, accepted: &[Published]) -> Vec<(Published, &'a str)> {
    let fleet = &config.fleet;
    let is_in_use = |address: &&Published| {
        let mut known = config.addresses.iter();
        known.any(|of| of.published == **address && of.state == AddressState::Active)
    };
    let accepted = accepted.iter().filter(is_in_use);
    let owners = accepted.flat_map(|address| {
        let hosts = fleet.owners.get(address).into_iter().flatten();
        hosts.map(|host| (*address, host.as_str()))
    });
    let others = owners.filter(|(_, host)| *host != fleet.host && fleet.peer.is_some());
    others.collect()
}
