//! Addresses and networks of the file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::read::Value;
use super::source::shown;

const ADDRESS: &str = "an IPv4 address such as \"18.177.83.94\"";
const NETWORK: &str = "a network such as \"10.0.0.0/8\" or an address";

/// An IPv4 unicast address.
pub(super) fn unicast(value: &Value<'_>) -> Option<Ipv4Addr> {
    let text = value.text(ADDRESS)?;
    let address = match text.parse() {
        Ok(IpAddr::V4(address)) => address,
        Ok(IpAddr::V6(_)) => {
            return value.fault(
                format!("is the IPv6 address {text}"),
                "kintone is reached over IPv4 only",
            );
        }
        Err(_) => return value.fault(format!("is {}", shown(text)), format!("expected {ADDRESS}")),
    };
    if is_unicast(address) {
        Some(address)
    } else {
        value.fault(
            format!("is {address}, which is no host's"),
            format!("expected {ADDRESS}"),
        )
    }
}

/// Whether a host can have it: not of 0.0.0.0/8, multicast, reserved or broadcast.
fn is_unicast(address: Ipv4Addr) -> bool {
    (1..=223).contains(&address.octets()[0])
}

/// Where a listener listens.
pub(super) fn socket(value: &Value<'_>) -> Option<SocketAddr> {
    const SOCKET: &str = "an address with a port such as \"127.0.0.1:3128\"";
    let text = value.text(SOCKET)?;
    match text.parse() {
        Ok(socket) => Some(socket),
        Err(_) => value.fault(
            format!("is {}", shown(text)),
            format!("expected {SOCKET}, not a name"),
        ),
    }
}

/// A network of callers, of either family.
pub(super) fn network(value: &Value<'_>) -> Option<IpNet> {
    let text = value.text(NETWORK)?;
    let host = text.parse::<IpAddr>().map(IpNet::from);
    let Ok(network) = text.parse::<IpNet>().or(host) else {
        return value.fault(format!("is {}", shown(text)), format!("expected {NETWORK}"));
    };
    if network.trunc() != network {
        value.warn(
            format!("{text} has bits behind its prefix"),
            format!("it is read as \"{}\"", network.trunc()),
        );
    }
    Some(network.trunc())
}

/// A network of destinations.
pub(super) fn network_v4(value: &Value<'_>) -> Option<Ipv4Net> {
    match network(value)? {
        IpNet::V4(network) => Some(network),
        IpNet::V6(network) => value.fault(
            format!("is the IPv6 network {network}"),
            "kintone is reached over IPv4 only",
        ),
    }
}

/// A static answer: `IP` or `IP:PORT`.
pub(super) fn answer(value: &Value<'_>) -> Option<(Ipv4Addr, Option<u16>)> {
    const ANSWER: &str = "\"IP\" or \"IP:PORT\" with an IPv4 address and a port from 1 to 65535";
    let text = value.text(ANSWER)?;
    let (address, port) = match text.split_once(':') {
        Some((address, port)) => (address, port.parse().ok().filter(|port| *port != 0)),
        None => (text, None),
    };
    let is_complete = port.is_some() || !text.contains(':');
    let address = address
        .parse()
        .ok()
        .filter(|address| is_complete && is_unicast(*address));
    match address {
        Some(address) => Some((address, port)),
        None => value.fault(format!("is {}", shown(text)), format!("expected {ANSWER}")),
    }
}

/// Whether the internet routes to it: not of the networks that RFC 6890 and its registry (IANA
/// IPv4 Special-Purpose Address Registry) mark as not globally reachable.
pub(super) fn is_global(address: Ipv4Addr) -> bool {
    const LOCAL: [([u8; 4], u8); 12] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
    ];
    let within = |(network, prefix): &([u8; 4], u8)| {
        Ipv4Net::new_assert(Ipv4Addr::from(*network), *prefix).contains(&address)
    };
    is_unicast(address) && !LOCAL.iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_is_what_the_internet_routes() {
        for global in [
            "18.177.83.94",
            "35.73.236.241",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
        ] {
            assert!(is_global(global.parse().expect("address")), "{global}");
        }
        for local in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.0.1",
            "192.168.0.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!is_global(local.parse().expect("address")), "{local}");
        }
    }
}
