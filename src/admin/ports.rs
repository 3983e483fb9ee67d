//! How many local ports of each bind address are in use.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Published;
use crate::telemetry::AddressView;

/// The kernel's table of TCP sockets over IPv4, those in TIME_WAIT included.
const TABLE: &str = "/proc/net/tcp";

/// The ports that the kernel hands out to connections, the first and the last.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Sockets that are looked at; beyond, the count is a lower bound. The kernel needs some 10 ms
/// for as many.
const SOCKETS_MAX: usize = 200_000;

/// How long a count is good: reading the table costs the whole host, and several may scrape.
const FRESH: Duration = Duration::from_secs(10);

/// A listening socket's state in the table; it takes no port away from connections to kintone.
const LISTEN: &str = "0A";

/// Counts local ports, at most once in ten seconds.
#[derive(Debug)]
pub struct PortCount {
    table: PathBuf,
    last: Mutex<Option<(Instant, HashMap<Ipv4Addr, u32>)>>,
}

impl Default for PortCount {
    fn default() -> Self {
        Self::from_table(TABLE)
    }
}

impl PortCount {
    /// Counts in a table of the format of `/proc/net/tcp`.
    #[must_use]
    pub fn from_table(table: impl Into<PathBuf>) -> Self {
        Self {
            table: table.into(),
            last: Mutex::new(None),
        }
    }

    /// Local ports in use on the bind address of each of `addresses`; nothing if the table cannot
    /// be read.
    #[must_use]
    pub fn count(&self, addresses: &[AddressView]) -> Vec<(Published, u32)> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let fresh = last.as_ref().filter(|(at, counts)| {
            now.saturating_duration_since(*at) < FRESH
                && addresses.iter().all(|it| counts.contains_key(&it.bind.0))
        });
        if fresh.is_none() {
            *last = self.read(addresses).map(|counts| (now, counts));
        }
        let Some((_, counts)) = last.as_ref() else {
            return Vec::new();
        };
        addresses
            .iter()
            .filter_map(|it| Some((it.published, *counts.get(&it.bind.0)?)))
            .collect()
    }

    /// Local ports that the kernel hands out per address; `None` if it does not say.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        width(&std::fs::read_to_string(RANGE).ok()?)
    }

    fn read(&self, addresses: &[AddressView]) -> Option<HashMap<Ipv4Addr, u32>> {
        let mut table = BufReader::new(File::open(&self.table).ok()?);
        // One bit a port: several connections may share one.
        let mut used: HashMap<Ipv4Addr, Box<[u64]>> = addresses
            .iter()
            .map(|it| (it.bind.0, vec![0_u64; 1024].into_boxed_slice()))
            .collect();
        let mut line = String::new();
        for _ in 0..SOCKETS_MAX {
            line.clear();
            if table.read_line(&mut line).ok()? == 0 {
                break;
            }
            if let Some((address, port)) = local_end(&line)
                && let Some(ports) = used.get_mut(&address)
            {
                ports[usize::from(port / 64)] |= 1 << (port % 64);
            }
        }
        let count = |ports: &[u64]| ports.iter().map(|word| word.count_ones()).sum();
        Some(
            used.iter()
                .map(|(address, ports)| (*address, count(ports)))
                .collect(),
        )
    }
}

/// How many ports there are from the first to the last of `range`.
fn width(range: &str) -> Option<u32> {
    let mut ends = range.split_ascii_whitespace();
    let (first, last): (u32, u32) = (ends.next()?.parse().ok()?, ends.next()?.parse().ok()?);
    last.checked_sub(first).map(|between| between + 1)
}

/// The local address and port of a line of the table (`proc(5)`): the address is four bytes of
/// memory shown as one hexadecimal number of the host's byte order.
fn local_end(line: &str) -> Option<(Ipv4Addr, u16)> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    if state == LISTEN {
        return None;
    }
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((Ipv4Addr::from(address.to_ne_bytes()), port))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::model::Bind;
    use crate::telemetry::Presence;

    fn address(bind: [u8; 4]) -> AddressView {
        AddressView {
            published: Published(Ipv4Addr::new(192, 0, 2, 1)),
            bind: Bind(bind.into()),
            state: "active",
            presence: Presence::Up,
            since: None,
            verification: None,
            connections: 0,
            pooled: 0,
        }
    }

    #[test]
    fn open_connections_of_the_bind_address_are_counted_and_listeners_are_not() {
        let listener = TcpListener::bind("127.77.3.9:0").unwrap();
        let to = listener.local_addr().unwrap();
        let connect = |from: [u8; 4]| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let from = std::net::SocketAddr::from((from, 0));
            socket.bind(&from.into()).unwrap();
            socket.connect(&to.into()).unwrap();
            TcpStream::from(socket)
        };
        let from = [127, 77, 3, 10];
        let _open: Vec<_> = (0..3).map(|_| connect(from)).collect();

        let counted = PortCount::default().count(&[address(from)]);
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].1, 3);
        // The listener's port is shared by what it has accepted; none was accepted yet by us, but
        // the kernel has: one port for the three.
        let of_listener = PortCount::default().count(&[address([127, 77, 3, 9])]);
        assert_eq!(of_listener[0].1, 1);
    }

    #[test]
    fn a_range_has_both_its_ends() {
        assert_eq!(width("32768\t60999\n"), Some(28_232));
        assert_eq!(width("60999 32768"), None);
        assert_eq!(width("32768"), None);
        assert!(PortCount::default().limit().is_some());
    }

    #[test]
    fn without_a_table_nothing_is_said() {
        let count = PortCount::from_table("/nowhere/at/all");
        assert!(count.count(&[address([127, 0, 0, 1])]).is_empty());
    }
}
