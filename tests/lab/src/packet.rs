//! What a frame is, and whether the gateway may have sent it. Pure: bytes in, a verdict out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::site::{DEAD, ECHO_PORT, ECHOES, LIAR, NAME_SERVER, PUBLISHED};

/// A frame as far as it must be understood to be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) carries: Carries,
}

/// What is inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    Tcp {
        from_port: u16,
        to_port: u16,
        kind: Tcp,
    },
    Udp {
        to_port: u16,
    },
    Icmp,
    /// Its type.
    IcmpV6(u8),
    /// A later fragment, or a protocol that nobody here speaks; its number.
    Other(u8),
}

/// Where in the life of a TCP connection a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tcp {
    /// The first segment: somebody wants to connect.
    Opening,
    Any,
}

/// What a frame that left the gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Neighbours finding each other; goes no further than the next host.
    Link,
    /// A question to the name server, or a word about its answer.
    Name,
    /// Towards an echo, from a published address.
    Echo,
    /// Towards kintone as customers are promised: IPv4, a published address, port 443.
    Promised(Ipv4Addr),
    /// Anything else.
    Stray(String),
}

const ETHERNET: usize = 14;
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Judges a frame that came out of the gateway's interface towards the internet. What is not
/// understood is a stray.
pub(crate) fn judge(frame: &[u8]) -> Judged {
    let packet = match read(frame) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Judged::Link,
        Err(Unread) => return Judged::Stray(format!("a frame of {} bytes", frame.len())),
    };
    let of_ours = |ip: &Ipv4Addr| PUBLISHED.contains(ip);
    match (packet.from, packet.to, packet.carries) {
        // Router and neighbour discovery, multicast listeners (RFC 4861, RFC 3810).
        (_, IpAddr::V6(_), Carries::IcmpV6(130..=137 | 143)) => Judged::Link,
        (_, to, Carries::Udp { to_port: 53 } | Carries::Tcp { to_port: 53, .. })
            if to == IpAddr::V4(NAME_SERVER) =>
        {
            Judged::Name
        }
        // An answer that came after its question was given up.
        (_, to, Carries::Icmp) if to == IpAddr::V4(NAME_SERVER) => Judged::Name,
        (IpAddr::V4(from), IpAddr::V4(_), Carries::Tcp { to_port: 443, .. }) if of_ours(&from) => {
            Judged::Promised(from)
        }
        (IpAddr::V4(from), IpAddr::V4(to), Carries::Tcp { to_port, .. })
            if of_ours(&from) && to_port == ECHO_PORT && is_echo(&to) =>
        {
            Judged::Echo
        }
        (_, _, _) => Judged::Stray(packet.to_string()),
    }
}

fn is_echo(to: &Ipv4Addr) -> bool {
    ECHOES.contains(to) || [LIAR, DEAD].contains(to)
}

/// A frame that is too short, or of a kind that nobody here sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unread;

/// Reads a frame; `None` for ARP.
pub(crate) fn read(frame: &[u8]) -> Result<Option<Packet>, Unread> {
    let kind = u16_at(frame, ETHERNET - 2)?;
    let packet = frame.get(ETHERNET..).ok_or(Unread)?;
    match kind {
        ARP => Ok(None),
        IPV4 => read_v4(packet).map(Some),
        IPV6 => read_v6(packet).map(Some),
        _ => Err(Unread),
    }
}

fn read_v4(packet: &[u8]) -> Result<Packet, Unread> {
    let header = usize::from(u8_at(packet, 0)? & 0xf) * 4;
    let address = |at| array_at::<4>(packet, at).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let protocol = u8_at(packet, 9)?;
    let later_fragment = u16_at(packet, 6)? & 0x1fff != 0;
    let carries = if later_fragment {
        Carries::Other(protocol)
    } else {
        read_payload(protocol, packet.get(header..).ok_or(Unread)?)?
    };
    Ok(Packet {
        from: address(12)?,
        to: address(16)?,
        carries,
    })
}

fn read_v6(packet: &[u8]) -> Result<Packet, Unread> {
    const HEADER: usize = 40;
    const HOP_BY_HOP: u8 = 0;
    let address = |at| array_at::<16>(packet, at).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    let (mut next, mut at) = (u8_at(packet, 6)?, HEADER);
    if next == HOP_BY_HOP {
        next = u8_at(packet, at)?;
        at += 8 * (usize::from(u8_at(packet, at + 1)?) + 1);
    }
    Ok(Packet {
        from: address(8)?,
        to: address(24)?,
        carries: read_payload(next, packet.get(at..).ok_or(Unread)?)?,
    })
}

fn read_payload(protocol: u8, payload: &[u8]) -> Result<Carries, Unread> {
    const SYN_WITHOUT_ACK: u8 = 0b0000_0010;
    Ok(match protocol {
        1 => Carries::Icmp,
        6 => Carries::Tcp {
            from_port: u16_at(payload, 0)?,
            to_port: u16_at(payload, 2)?,
            kind: if u8_at(payload, 13)? & 0b0001_0010 == SYN_WITHOUT_ACK {
                Tcp::Opening
            } else {
                Tcp::Any
            },
        },
        17 => Carries::Udp {
            to_port: u16_at(payload, 2)?,
        },
        58 => Carries::IcmpV6(u8_at(payload, 0)?),
        other => Carries::Other(other),
    })
}

fn u8_at(bytes: &[u8], at: usize) -> Result<u8, Unread> {
    bytes.get(at).copied().ok_or(Unread)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Unread> {
    array_at::<2>(bytes, at).map(u16::from_be_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Unread> {
    let found = bytes.get(at..at + N).ok_or(Unread)?;
    found.try_into().map_err(|_| Unread)
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from, self.to);
        match self.carries {
            Carries::Tcp {
                from_port,
                to_port,
                kind,
            } => {
                let opening = if kind == Tcp::Opening { " SYN" } else { "" };
                write!(f, "TCP{opening} {from}:{from_port} -> {to}:{to_port}")
            }
            Carries::Udp { to_port } => write!(f, "UDP {from} -> {to}:{to_port}"),
            Carries::Icmp => write!(f, "ICMP {from} -> {to}"),
            Carries::IcmpV6(kind) => write!(f, "ICMPv6 type {kind} {from} -> {to}"),
            Carries::Other(protocol) => write!(f, "IP protocol {protocol} {from} -> {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINTONE: Ipv4Addr = Ipv4Addr::new(103, 79, 12, 10);
    const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 95);
    const SYN: u8 = 2;
    const SYN_ACK: u8 = 18;

    fn frame(kind: u16, packet: &[u8]) -> Vec<u8> {
        [&[0; 12][..], &kind.to_be_bytes(), packet].concat()
    }

    fn tcp(to_port: u16, flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[0..2].copy_from_slice(&40_000_u16.to_be_bytes());
        segment[2..4].copy_from_slice(&to_port.to_be_bytes());
        segment[13] = flags;
        segment
    }

    fn v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 20];
        header[0] = 0x45;
        header[9] = protocol;
        header[12..16].copy_from_slice(&from.octets());
        header[16..20].copy_from_slice(&to.octets());
        frame(IPV4, &[&header[..], payload].concat())
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut header = [0; 40];
        header[0] = 0x60;
        header[6] = next;
        frame(IPV6, &[&header[..], payload].concat())
    }

    fn is_stray(frame: &[u8]) -> bool {
        matches!(judge(frame), Judged::Stray(_))
    }

    #[test]
    fn only_a_published_address_and_port_443_are_as_promised() {
        for published in PUBLISHED {
            let frame = v4(published, KINTONE, 6, &tcp(443, SYN));
            assert_eq!(judge(&frame), Judged::Promised(published));
            for port in [80, 442, 444, 8443, 53] {
                assert!(is_stray(&v4(published, KINTONE, 6, &tcp(port, SYN))));
            }
            assert!(is_stray(&v4(published, KINTONE, 17, &tcp(443, 0))));
        }
        let stray = judge(&v4(NEIGHBOUR, KINTONE, 6, &tcp(443, SYN)));
        let told = "TCP SYN 18.177.83.95:40000 -> 103.79.12.10:443";
        assert_eq!(stray, Judged::Stray(told.to_owned()));
    }

    #[test]
    fn every_segment_counts_not_only_the_first() {
        let reply = v4(NEIGHBOUR, KINTONE, 6, &tcp(443, SYN_ACK));
        let told = "TCP 18.177.83.95:40000 -> 103.79.12.10:443";
        assert_eq!(judge(&reply), Judged::Stray(told.to_owned()));
    }

    #[test]
    fn a_header_with_options_is_read_to_its_end() {
        let mut packet = v4(PUBLISHED[0], KINTONE, 6, &[])[ETHERNET..].to_vec();
        packet[0] = 0x46;
        packet.extend([0; 4]);
        packet.extend(tcp(443, SYN));
        assert_eq!(judge(&frame(IPV4, &packet)), Judged::Promised(PUBLISHED[0]));
    }

    #[test]
    fn the_name_server_is_asked_by_any_address_and_nobody_else_is() {
        for protocol in [6, 17] {
            assert_eq!(
                judge(&v4(NEIGHBOUR, NAME_SERVER, protocol, &tcp(53, SYN))),
                Judged::Name
            );
            assert!(is_stray(&v4(NEIGHBOUR, KINTONE, protocol, &tcp(53, SYN))));
        }
        assert_eq!(judge(&v4(NEIGHBOUR, NAME_SERVER, 1, &[3, 3])), Judged::Name);
        assert!(is_stray(&v4(NEIGHBOUR, KINTONE, 1, &[8, 0])));
    }

    #[test]
    fn echoes_are_asked_by_published_addresses_and_by_nobody_else() {
        let to = |from, to, port| judge(&v4(from, to, 6, &tcp(port, SYN)));
        assert_eq!(to(PUBLISHED[0], ECHOES[0], ECHO_PORT), Judged::Echo);
        assert_eq!(to(PUBLISHED[1], DEAD, ECHO_PORT), Judged::Echo);
        for (from, to, port) in [
            (NEIGHBOUR, ECHOES[0], ECHO_PORT),
            (PUBLISHED[0], ECHOES[0], 22),
            (PUBLISHED[0], KINTONE, ECHO_PORT),
        ] {
            assert!(is_stray(&v4(from, to, 6, &tcp(port, SYN))));
        }
    }

    #[test]
    fn ipv6_is_for_neighbours_only() {
        assert_eq!(judge(&v6(58, &[135, 0])), Judged::Link);
        // A multicast listener report stands behind a hop-by-hop header.
        let report = [&[58, 0, 0, 0, 0, 0, 0, 0][..], &[143, 0]].concat();
        assert_eq!(judge(&v6(0, &report)), Judged::Link);
        assert!(is_stray(&v6(58, &[128, 0])), "an echo request");
        assert!(is_stray(&v6(6, &tcp(443, SYN))));
        assert!(is_stray(&v6(17, &tcp(53, 0))));
    }

    #[test]
    fn what_is_not_understood_is_a_stray() {
        assert_eq!(judge(&frame(ARP, &[0; 28])), Judged::Link);
        assert!(is_stray(&frame(0x88cc, &[0; 28])));
        assert!(is_stray(&[0; 9]));
        let whole = v4(PUBLISHED[0], KINTONE, 6, &tcp(443, SYN));
        for length in 0..whole.len() - 6 {
            assert!(is_stray(&whole[..length]), "{length} bytes of it");
        }
        let mut fragment = whole;
        fragment[ETHERNET + 7] = 1;
        assert!(is_stray(&fragment), "a later fragment has no ports");
    }
}
