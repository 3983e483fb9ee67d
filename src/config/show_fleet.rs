//! Prints `[fleet]` back.

use toml::{Table, Value};

use super::peer::Peer;
use super::shape::Fleet;
use super::table::{count, duration, set, set_some, table};
use super::unit::format_size;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// `[fleet]` with every default.
pub(super) fn fleet(fleet: &Fleet) -> Table {
    let mut section = table([
        ("host", fleet.host.clone().into()),
        ("hosts", fleet.hosts.clone().into()),
    ]);
    set_some(&mut section, "redis", fleet.redis.as_ref().map(|_| HIDDEN));
    let exchange = &fleet.exchange;
    let ca_file = exchange.ca_file.as_ref();
    set_some(
        &mut section,
        "redis_ca_file",
        ca_file.map(|path| path.display().to_string()),
    );
    set(&mut section, "redis_prefix", exchange.prefix.clone());
    for (key, value) in [
        ("redis_connect_timeout", exchange.connect_timeout),
        ("redis_response_timeout", exchange.response_timeout),
        ("beat", exchange.beat),
        ("loan", exchange.loan),
        ("overrun", exchange.overrun),
        ("evict_after", exchange.evict_after),
        ("side_every", exchange.side_every),
    ] {
        set(&mut section, key, duration(value));
    }
    let side_rows = format_size(exchange.side_rows as u64);
    set(&mut section, "side_rows", side_rows);
    set_some(&mut section, "peer", fleet.peer.as_ref().map(peer));
    section
}

fn peer(peer: &Peer) -> Table {
    let listen = peer.listen.iter();
    let listen = listen.map(|(host, address)| (host.clone(), address.to_string().into()));
    let mut section = table([
        ("listen", Value::Table(listen.collect())),
        ("cert", peer.cert.written.clone().into()),
        ("key", HIDDEN.into()),
        ("ca", peer.ca.written.clone().into()),
    ]);
    set(
        &mut section,
        "connect_timeout",
        duration(peer.connect_timeout),
    );
    set(&mut section, "idle", duration(peer.idle));
    set(&mut section, "connections", count(peer.connections));
    section
}
