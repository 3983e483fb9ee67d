//! Reads `[fleet.peer]`: how the hosts of a fleet hand each other calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::{CertificateDer, DnsName};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::certificate::{CaBundle, CaCertificate};
use super::credential::{pem_text, secret_pem};
use super::network;
use super::read::{Section, Value};
use super::secret::Secret;
use super::source::shown;

/// How long before the end of a certificate operators are told.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(14 * 24);

/// `[fleet.peer]`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where each host takes calls from the others; every host of `[fleet] hosts` has one.
    pub listen: BTreeMap<String, SocketAddr>,
    /// This host's certificate, then those between it and the authority.
    pub cert: CaBundle,
    /// The key of its first one, PEM.
    pub key: Secret,
    /// Who signs the hosts' certificates.
    pub ca: CaBundle,
    /// Longest wait for a connection to another host, TLS included.
    pub connect_timeout: Duration,
    /// How long a connection waits for another call.
    pub idle: Duration,
    /// Most connections to one host, and most that are taken from all.
    pub connections: usize,
}

/// Reads `[fleet.peer]`; `host` is this one.
pub(super) fn read(fleet: &mut Section<'_>, host: &str, hosts: &[String]) -> Option<Peer> {
    let mut section = fleet.section("peer");
    if !section.is_present() {
        return None;
    }
    let listen = section.required(
        "listen",
        "expected an address with a port for each host, such as { gw-a = \"10.0.12.34:3130\" }",
    );
    let listen = listen.and_then(|value| listeners(&value, hosts));
    let now = Timestamp::now();
    let place = section.required(
        "cert",
        "expected this host's certificate, a path or PEM; `kintone-egress ca peers` makes them",
    );
    let cert = place.as_ref().and_then(bundle);
    if let (Some(value), Some(cert)) = (&place, &cert) {
        judge(value, &cert.certificates[0], host, now);
    }
    let key = section.required("key", "expected the certificate's key, a path or PEM");
    let key = key.and_then(|value| {
        let key = secret_pem(&value)?;
        is_key_of(&value, &key, cert.as_ref()).then_some(key)
    });
    let ca = section.required(
        "ca",
        "expected the certificate of who signs the hosts' certificates, a path or PEM",
    );
    let ca = ca.and_then(|value| authority(&value));
    let (short, long) = (Duration::from_millis(50), Duration::from_secs(30));
    let connect_timeout = section.or("connect_timeout", Peer::CONNECT_TIMEOUT, |value| {
        value.duration(short..=long)
    });
    let idle = section.or("idle", Peer::IDLE, |value| {
        value.duration(Duration::ZERO..=Duration::from_secs(60))
    });
    let connections = section.or("connections", Peer::CONNECTIONS, |value| {
        value.integer(1..=100_000)
    });
    section.finish();
    Some(Peer {
        listen: listen?,
        cert: cert?,
        key: key?,
        ca: ca?,
        connect_timeout,
        idle,
        connections,
    })
}

impl Peer {
    /// Longest wait for a connection to another host, unless the file says otherwise.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
    /// How long a connection waits for another call, unless the file says otherwise.
    pub const IDLE: Duration = Duration::from_secs(4);
    /// Most connections, unless the file says otherwise.
    pub const CONNECTIONS: usize = 1000;

    /// When this host's certificate ends: the first of it and those above it.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        let ends = self.cert.certificates.iter().map(|one| one.not_after);
        ends.min().unwrap_or(Timestamp::MIN)
    }
}

/// Where each host listens. A host that is missing could not be handed anything.
fn listeners(value: &Value<'_>, hosts: &[String]) -> Option<BTreeMap<String, SocketAddr>> {
    let section = value.table()?;
    let mut listeners = BTreeMap::new();
    for (host, key, value) in section.entries() {
        if !hosts.iter().any(|known| known == host) {
            key.fault(
                format!("{} is not one of [fleet] hosts", shown(host)),
                "add it there, or correct the name",
            );
        } else if DnsName::try_from(host).is_err() {
            key.fault(
                format!("{} cannot stand in a certificate", shown(host)),
                "expected a host whose name is one in the DNS too, such as \"gw-a\"",
            );
        }
        let Some(socket) = network::socket(&value) else {
            continue;
        };
        if socket.ip().is_unspecified() {
            value.fault::<()>(
                format!("{socket} is no address that other hosts can reach"),
                "expected the address of that host in the fleet's network",
            );
        }
        listeners.insert(host.to_owned(), socket);
    }
    if let Some(missing) = hosts.iter().find(|host| !listeners.contains_key(*host)) {
        return value.fault(
            format!("lacks {}", shown(missing)),
            "expected an address with a port for each of [fleet] hosts",
        );
    }
    Some(listeners)
}

fn bundle(value: &Value<'_>) -> Option<CaBundle> {
    let (written, text) = pem_text(value)?;
    match CaCertificate::read_pem(&text) {
        Ok(certificates) => Some(CaBundle {
            written,
            certificates,
        }),
        Err(fault) => value.fault(fault.to_string(), "expected a certificate in PEM"),
    }
}

fn authority(value: &Value<'_>) -> Option<CaBundle> {
    let bundle = bundle(value)?;
    match bundle.certificates.iter().find(|one| !one.may_sign) {
        None => Some(bundle),
        Some(other) => value.fault(
            format!("{} is no certificate of a CA", shown(&other.subject)),
            "expected basicConstraints CA:TRUE; `kintone-egress ca peers` makes one",
        ),
    }
}

/// What the other hosts will say of this host's certificate. One out of its time is a warning:
/// calls that leave from here must not suffer for it.
fn judge(value: &Value<'_>, own: &CaCertificate, host: &str, now: Timestamp) {
    let names = dns_names(&own.der);
    if !names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        value.fault::<()>(
            format!(
                "is for {}, not for this host, {}",
                shown(&names.join(", ")),
                shown(host)
            ),
            "expected the host's name as a DNS name in subjectAltName; the same path may hold \
             another certificate on each host",
        );
    }
    let (begin, end) = (own.not_before, own.not_after);
    const REMEDY: &str = "make new ones by `kintone-egress ca peers`, then reload every host";
    if end <= now {
        value.warn(format!("has expired at {end}: no host takes it"), REMEDY);
    } else if end.duration_since(now) < EXPIRY_WARNING {
        value.warn(format!("expires at {end}"), REMEDY);
    }
    if begin > now {
        let problem = format!("is not valid before {begin}");
        value.warn(problem, "is the clock of this host right?");
    }
}

/// The DNS names in `subjectAltName`.
fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return Vec::new();
    };
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|found| &found.value.general_names);
    names
        .filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some((*name).to_owned())
            } else {
                None
            }
        })
        .collect()
}

/// Whether `key` can be read and, where the certificate is known, belongs to it.
fn is_key_of(value: &Value<'_>, key: &Secret, cert: Option<&CaBundle>) -> bool {
    let Ok(pair) = KeyPair::from_pem(key.expose()) else {
        let problem = "is no private key in PEM";
        let remedy = "expected an unencrypted PKCS#8, SEC1 or PKCS#1 key: ECDSA, RSA or Ed25519";
        return value.fault::<()>(problem, remedy).is_some();
    };
    let own = cert.map(CaBundle::issuer);
    if own.is_none_or(|own| own.public_key == pair.der_bytes()) {
        return true;
    }
    let problem = "is not the key of the first certificate of `cert`";
    value
        .fault::<()>(problem, "expected the two of one host")
        .is_some()
}
