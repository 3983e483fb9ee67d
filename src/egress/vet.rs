//! Which destinations may be dialled: only those of the public internet.
//!
//! The table is the IANA IPv4 Special-Purpose Address Registry (RFC 6890, with later entries) and
//! multicast. It is pure and total: every address has exactly one class.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// What an IPv4 address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Reachable by everybody.
    Global,
    /// 0.0.0.0/8, this network (RFC 791 section 3.2).
    ThisNetwork,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918).
    Private,
    /// 100.64.0.0/10, behind a carrier's address translation (RFC 6598).
    Shared,
    /// 127.0.0.0/8 (RFC 1122 section 3.2.1.3).
    Loopback,
    /// 169.254.0.0/16, cloud metadata services among them (RFC 3927).
    LinkLocal,
    /// 192.0.0.0/24 without its two global addresses (RFC 6890 section 2.1).
    ProtocolAssignments,
    /// 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 (RFC 5737).
    Documentation,
    /// 192.88.99.0/24, once the anycast of 6to4 relays (RFC 7526).
    SixToFourRelay,
    /// 198.18.0.0/15 (RFC 2544).
    Benchmarking,
    /// 224.0.0.0/4 (RFC 5771).
    Multicast,
    /// 240.0.0.0/4 (RFC 1112 section 4).
    Reserved,
    /// 255.255.255.255 (RFC 919).
    Broadcast,
}

/// The first line that contains an address decides.
const TABLE: [(Ipv4Net, Class); 18] = [
    (net(0, 0, 0, 0, 8), Class::ThisNetwork),
    (net(10, 0, 0, 0, 8), Class::Private),
    (net(100, 64, 0, 0, 10), Class::Shared),
    (net(127, 0, 0, 0, 8), Class::Loopback),
    (net(169, 254, 0, 0, 16), Class::LinkLocal),
    (net(172, 16, 0, 0, 12), Class::Private),
    // Port Control Protocol and TURN anycast (RFC 7723, RFC 8155).
    (net(192, 0, 0, 9, 32), Class::Global),
    (net(192, 0, 0, 10, 32), Class::Global),
    (net(192, 0, 0, 0, 24), Class::ProtocolAssignments),
    (net(192, 0, 2, 0, 24), Class::Documentation),
    (net(192, 88, 99, 0, 24), Class::SixToFourRelay),
    (net(192, 168, 0, 0, 16), Class::Private),
    (net(198, 18, 0, 0, 15), Class::Benchmarking),
    (net(198, 51, 100, 0, 24), Class::Documentation),
    (net(203, 0, 113, 0, 24), Class::Documentation),
    (net(224, 0, 0, 0, 4), Class::Multicast),
    (net(255, 255, 255, 255, 32), Class::Broadcast),
    (net(240, 0, 0, 0, 4), Class::Reserved),
];

/// The class of an address.
#[must_use]
pub fn classify(address: Ipv4Addr) -> Class {
    TABLE
        .iter()
        .find(|(network, _)| network.contains(&address))
        .map_or(Class::Global, |(_, class)| *class)
}

/// Whether an address may be dialled: a global one, or one of `allow_networks`.
#[must_use]
pub fn is_allowed(address: Ipv4Addr, allow_networks: &[Ipv4Net]) -> bool {
    classify(address) == Class::Global || is_within(address, allow_networks)
}

/// Whether an address is in one of `networks`.
#[must_use]
pub fn is_within(address: Ipv4Addr, networks: &[Ipv4Net]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

const fn net(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Class {
        classify(address.parse().unwrap())
    }

    #[test]
    fn every_special_network_is_known_to_its_edges() {
        let edges = [
            ("0.0.0.0", "0.255.255.255", Class::ThisNetwork),
            ("10.0.0.0", "10.255.255.255", Class::Private),
            ("100.64.0.0", "100.127.255.255", Class::Shared),
            ("127.0.0.0", "127.255.255.255", Class::Loopback),
            ("169.254.0.0", "169.254.255.255", Class::LinkLocal),
            ("172.16.0.0", "172.31.255.255", Class::Private),
            ("192.0.0.0", "192.0.0.8", Class::ProtocolAssignments),
            ("192.0.0.11", "192.0.0.255", Class::ProtocolAssignments),
            ("192.0.2.0", "192.0.2.255", Class::Documentation),
            ("192.88.99.0", "192.88.99.255", Class::SixToFourRelay),
            ("192.168.0.0", "192.168.255.255", Class::Private),
            ("198.18.0.0", "198.19.255.255", Class::Benchmarking),
            ("198.51.100.0", "198.51.100.255", Class::Documentation),
            ("203.0.113.0", "203.0.113.255", Class::Documentation),
            ("224.0.0.0", "239.255.255.255", Class::Multicast),
            ("240.0.0.0", "255.255.255.254", Class::Reserved),
            ("255.255.255.255", "255.255.255.255", Class::Broadcast),
        ];
        for (first, last, expected) in edges {
            assert_eq!(class(first), expected, "{first}");
            assert_eq!(class(last), expected, "{last}");
        }
    }

    #[test]
    fn what_lies_beside_them_is_global() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "191.255.255.255",
            "192.0.0.9",
            "192.0.0.10",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.114.0",
            "223.255.255.255",
            "18.177.83.94",
        ] {
            assert_eq!(class(address), Class::Global, "{address}");
        }
    }

    #[test]
    fn only_global_addresses_and_configured_networks_may_be_dialled() {
        let allow = ["127.0.0.0/30".parse().unwrap()];
        assert!(is_allowed(Ipv4Addr::new(127, 0, 0, 1), &allow));
        assert!(!is_allowed(Ipv4Addr::new(127, 0, 0, 4), &allow));
        assert!(!is_allowed(Ipv4Addr::new(10, 0, 0, 1), &allow));
        assert!(!is_allowed(Ipv4Addr::new(127, 0, 0, 1), &[]));
        assert!(is_allowed(Ipv4Addr::new(103, 79, 12, 1), &[]));
    }
}
