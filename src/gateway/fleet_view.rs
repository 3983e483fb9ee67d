//! What the admin listener sees of the fleet, and what it orders.

use super::state::Running;
use crate::admin::FleetOrder;
use crate::config::Config;
use crate::fleet::FleetView as View;
use crate::fleet::ledger::{Access, AccountView, PeerView};
use crate::telemetry::{
    FleetAccountView, FleetPeerView, FleetPermits, FleetSideView, FleetStoreView, FleetView,
    PEER_UP_BEATS,
};

/// How this host stands now.
pub(super) fn fleet(running: &Running) -> FleetView {
    let config = running.config.load();
    let alone = FleetView {
        host: config.fleet.host.clone(),
        hosts: config.fleet.hosts.clone(),
        in_force: true,
        ..FleetView::default()
    };
    match running.fleet.get() {
        None => alone,
        Some(fleet) => shared(alone, &config, fleet.view()),
    }
}

/// Carries out what an operator orders about another host.
pub(super) fn order(running: &Running, order: &FleetOrder) -> Result<(), String> {
    let Some(fleet) = running.fleet.get() else {
        return Err("this host shares nothing: [fleet] redis is not set".to_owned());
    };
    let done = match order {
        FleetOrder::Evict(host) => {
            let after = running.config.load().fleet.exchange.evict_after;
            fleet.evict(host, after)
        }
        FleetOrder::Admit(host) => fleet.admit(host),
    };
    done.map_err(|error| error.to_string())
}

fn shared(alone: FleetView, config: &Config, view: View) -> FleetView {
    let View {
        ledger,
        store,
        side,
    } = view;
    let mut permits = FleetPermits::default();
    for account in &ledger.accounts {
        let of_account = permits_of(account);
        permits.own += of_account.own;
        permits.lent += of_account.lent;
        permits.borrowed += of_account.borrowed;
        permits.stranded += of_account.stranded;
    }
    let peers = ledger.peers.iter();
    let peers = peers.map(|peer| {
        let bad = store.bad_rows.iter().filter(|(host, _)| *host == peer.host);
        let mut side = side.peers.iter().filter(|side| side.host == peer.host);
        FleetPeerView {
            side_age: side.next().map(|side| side.age),
            ..peer_view(peer, config, bad.map(|(_, why)| why.clone()).collect())
        }
    });
    FleetView {
        shares: true,
        access: Some(match ledger.access {
            Access::Open => "open",
            Access::Unproven => "unproven",
            Access::Superseded => "superseded",
        }),
        doubt: ledger.doubt,
        evicted: ledger.members.evicted,
        in_force: ledger.is_in_force,
        peers: peers.collect(),
        side: FleetSideView {
            age: side.age,
            error: side.last_error,
            failures: side.failures,
            bytes: side.bytes,
            left_out: side.left_out.iter().map(|topic| topic.name()).collect(),
            bad_rows: side.bad_reads,
        },
        store: FleetStoreView {
            up: store.is_up,
            age: store.age,
            error: store.last_error,
            beats: store.beats,
            failures: store.failures,
        },
        permits,
        accounts: ledger
            .accounts
            .iter()
            .map(|account| FleetAccountView {
                account: account.account.clone(),
                total: account.total,
                part: account.part,
                permits: permits_of(account),
                inflight: account.in_use,
                queued: account.queued,
            })
            .collect(),
        ..alone
    }
}

const fn permits_of(account: &AccountView) -> FleetPermits {
    FleetPermits {
        own: account.own,
        lent: account.lent,
        borrowed: account.borrowed,
        stranded: account.stranded,
    }
}

fn peer_view(peer: &PeerView, config: &Config, mut differs: Vec<String>) -> FleetPeerView {
    let silence_max = config.fleet.exchange.beat * PEER_UP_BEATS;
    if peer.has_other_hosts && differs.is_empty() {
        differs.push("its [fleet] hosts are not those of this host".to_owned());
    }
    differs.extend(
        peer.other_limits.iter().map(|account| {
            format!("its limit for {account} is another one: the smaller one counts")
        }),
    );
    FleetPeerView {
        host: peer.host.clone(),
        up: peer.age.is_some_and(|age| age <= silence_max),
        age: peer.age,
        side_age: None,
        evicted: peer.is_evicted,
        differs,
    }
}
