//! `[listen]`: where we listen, for whom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::network;
use super::read::{Section, Value};
use super::shape::{Listen, ListenTls};

const PROXY_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3128);
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// A listener that is taken, and its key.
type Taken = Vec<(SocketAddr, String)>;

/// Reads `[listen]`.
pub(super) fn read(root: &mut Section<'_>) -> Listen {
    let mut section = root.section("listen");
    let mut taken = Taken::new();
    for (key, default) in [("proxy", PROXY_DEFAULT), ("admin", ADMIN_DEFAULT)] {
        if section.get(key).is_none() {
            taken.push((default, format!("the default of listen.{key}")));
        }
    }
    let proxy = section.or("proxy", vec![PROXY_DEFAULT], |value| {
        sockets(value, &mut taken, Clear::Proxy)
    });
    let proxy_tls = section.or("proxy_tls", Vec::new(), |value| {
        sockets(value, &mut taken, Clear::No)
    });
    let admin = section.or("admin", ADMIN_DEFAULT, |value| {
        socket(value, &mut taken, Clear::Admin)
    });
    let metrics = section
        .get("metrics")
        .and_then(|value| socket(&value, &mut taken, Clear::No));
    let public = section
        .get("public")
        .and_then(|value| socket(&value, &mut taken, Clear::No));
    let tls = section
        .get("tls")
        .and_then(|value| value.table())
        .and_then(tls);
    if proxy.is_empty() && proxy_tls.is_empty() {
        section.fault(
            "proxy",
            "is empty, so nobody can call",
            "expected at least one address with a port",
        );
    }
    if !proxy_tls.is_empty() && tls.is_none() {
        section.fault(
            "proxy_tls",
            "has no [listen.tls]",
            "expected [listen.tls] with cert and key",
        );
    }
    section.finish();
    Listen {
        proxy,
        admin,
        metrics,
        public,
        proxy_tls,
        tls,
    }
}

/// What would be sent in clear if the listener were off loopback.
#[derive(Clone, Copy)]
enum Clear {
    Proxy,
    Admin,
    No,
}

fn sockets(value: &Value<'_>, taken: &mut Taken, clear: Clear) -> Option<Vec<SocketAddr>> {
    value.list_of("addresses with ports", |entry| socket(entry, taken, clear))
}

fn socket(value: &Value<'_>, taken: &mut Taken, clear: Clear) -> Option<SocketAddr> {
    let socket = network::socket(value)?;
    if let Some((other, key)) = taken.iter().find(|(other, _)| collide(*other, socket)) {
        return value.fault(
            format!("{socket} collides with {key} = {other}"),
            "expected a port of its own for each listener",
        );
    }
    taken.push((socket, value.key.clone()));
    match clear {
        Clear::Proxy if !socket.ip().is_loopback() => value.warn(
            format!("{socket} is off loopback: tokens and calls pass in clear"),
            "keep it to a trusted network",
        ),
        Clear::Admin if !socket.ip().is_loopback() => value.warn(
            format!("{socket} is off loopback, and this listener is for operators only"),
            "offer `metrics` to Prometheus and load balancers instead",
        ),
        Clear::Proxy | Clear::Admin | Clear::No => {}
    }
    Some(socket)
}

/// Whether the second could not be bound while the first is; port 0 is any free one.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let any_of_both = |ip: IpAddr| ip == IpAddr::from([0_u16; 8]);
    let overlap = a.ip() == b.ip()
        || any_of_both(a.ip())
        || any_of_both(b.ip())
        || a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified());
    a.port() != 0 && a.port() == b.port() && overlap
}

fn tls(mut section: Section<'_>) -> Option<ListenTls> {
    let cert = section
        .required("cert", "expected the path of a PEM file")
        .and_then(|value| value.path());
    let key = section
        .required("key", "expected the path of a PEM file")
        .and_then(|value| value.path());
    let client_ca = section.get("client_ca").and_then(|value| value.path());
    section.finish();
    Some(ListenTls {
        cert: cert?,
        key: key?,
        client_ca,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_take_their_port_everywhere() {
        let collides =
            |a: &str, b: &str| collide(a.parse().expect("socket"), b.parse().expect("socket"));
        assert!(collides("127.0.0.1:80", "127.0.0.1:80"));
        assert!(collides("0.0.0.0:80", "127.0.0.1:80"));
        assert!(collides("[::]:80", "127.0.0.1:80"));
        assert!(!collides("0.0.0.0:80", "[::1]:80"));
        assert!(!collides("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!collides("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!collides("127.0.0.1:0", "127.0.0.1:0"));
    }
}
