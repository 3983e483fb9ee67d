//! `[upstream]`: how kintone is reached, and what counts as kintone.

use std::path::PathBuf;
use std::time::Duration;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::model::account::is_label;

use super::grant::NamePattern;
use super::name;
use super::network;
use super::read::{Key, Section, Value};
use super::shape::{AccountPolicy, StaticAnswer, Upstream};
use super::source::shown;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

/// Largest `replay`, in bytes: it is held once for each call in flight.
const REPLAY_MAX: u64 = 16 << 20;

/// Reads `[upstream]`.
pub(super) fn read(root: &mut Section<'_>) -> Upstream {
    let mut section = root.section("upstream");
    let zones_default = ["cybozu.com", "kintone.com", "cybozu.cn"]
        .map(str::to_owned)
        .to_vec();
    let zones = section.or("zones", zones_default, zones);
    let policies = [
        ("any", AccountPolicy::Any),
        ("configured", AccountPolicy::Configured),
    ];
    let accounts = section.or("accounts", AccountPolicy::Any, |value| {
        value.word(&policies)
    });
    if accounts == AccountPolicy::Configured && !root.section("account").is_present() {
        section.warn(
            "accounts",
            "is \"configured\" and no account is",
            "add [account.\"DOMAIN\"] tables",
        );
    }
    let allow_networks = section.or("allow_networks", Vec::new(), |value| {
        value.list_of("networks", network::network_v4)
    });
    if allow_networks
        .iter()
        .any(|network| network.prefix_len() == 0)
    {
        section.warn(
            "allow_networks",
            "opens every address, those of this host and its cloud's metadata too",
            "expected only the networks of a laboratory",
        );
    }
    let mut upstream = Upstream {
        ca_file: section
            .get("ca_file")
            .and_then(|value| certificates(&value)),
        connect_timeout: section.or("connect_timeout", 5 * MS * 1000, |value| {
            value.duration(MS..=10 * MINUTE)
        }),
        response_timeout: section.or("response_timeout", 10 * MINUTE, |value| {
            value.duration(MS..=24 * HOUR)
        }),
        pool_idle: section.or("pool_idle", 4 * MS * 1000, |value| {
            value.duration(Duration::ZERO..=HOUR)
        }),
        pool_life: section.or("pool_life", 5 * MINUTE, |value| {
            value.duration(1000 * MS..=24 * HOUR)
        }),
        pool_per_host: section.or("pool_per_host", 100, |value| value.integer(1..=10_000)),
        pool_total: section.or("pool_total", 2000, |value| value.integer(1..=100_000)),
        replay: section.or("replay", 64 << 10, |value| value.size(0..=REPLAY_MAX)),
        resolve: Vec::new(),
        zones,
        accounts,
        allow_networks,
    };
    upstream.resolve = resolve(&section.section("resolve"), &upstream);
    section.finish();
    upstream
}

fn zones(value: &Value<'_>) -> Option<Vec<String>> {
    let mut zones: Vec<String> = Vec::new();
    let entries = value.list("domains")?;
    for entry in &entries {
        let Some(zone) = name::zone(entry) else {
            continue;
        };
        if zones.contains(&zone) {
            entry.fault::<()>(format!("names {zone:?} again"), "each zone stands once");
        } else if let Some(plain) = zones.iter().find(|plain| zone == format!("s.{plain}")) {
            entry.fault::<()>(
                format!("{zone:?} is the client certificate form of {plain:?}"),
                "leave it out: it is reached with its zone",
            );
        } else {
            zones.push(zone);
        }
    }
    if entries.is_empty() {
        return value.fault(
            "has no zone, so nothing could be reached",
            "expected such as [\"cybozu.com\"]",
        );
    }
    // Where every entry has a fault, the default keeps accounts from being judged by no zone at all.
    (!zones.is_empty()).then_some(zones)
}

fn certificates(value: &Value<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    let remedy = "expected a PEM file with the certificates of extra trust anchors";
    let certificates =
        CertificateDer::pem_file_iter(&path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            value.fault(format!("{} has no certificate", path.display()), remedy)
        }
        Ok(certificates) => match certificates.into_iter().try_for_each(check_anchor) {
            Ok(()) => Some(path),
            Err(error) => value.fault(
                format!("{} has a certificate that is none: {error}", path.display()),
                remedy,
            ),
        },
        Err(error) => value.fault(
            format!("{} cannot be read: {error}", path.display()),
            remedy,
        ),
    }
}

/// Whether a certificate can be a trust anchor: told here, with its place, rather than at the start.
fn check_anchor(certificate: CertificateDer<'static>) -> Result<(), rustls::Error> {
    RootCertStore::empty().add(certificate)
}

fn resolve(section: &Section<'_>, upstream: &Upstream) -> Vec<StaticAnswer> {
    let entries = section.entries().into_iter();
    entries
        .filter_map(|(name, key, value)| static_answer(name, &key, &value, upstream))
        .collect()
}

fn static_answer(
    name: &str,
    key: &Key<'_>,
    value: &Value<'_>,
    upstream: &Upstream,
) -> Option<StaticAnswer> {
    let (address, port) = network::answer(value)?;
    let lower = name.to_ascii_lowercase();
    let suffix = lower.strip_prefix("*.");
    let bare = suffix.unwrap_or(&lower);
    if !(bare.contains('.') && name::is_domain(bare)) {
        key.fault(
            format!("{} is not a name", shown(name)),
            format!(
                "expected a name or \"*.{}\"",
                name::example(&upstream.zones)
            ),
        );
        return None;
    }
    if !upstream
        .zones
        .iter()
        .any(|zone| is_reachable(bare, suffix.is_some(), zone))
    {
        key.warn(
            format!(
                "{} is in none of the zones, so it is never asked for",
                shown(name)
            ),
            "expected a name of `zones`",
        );
    }
    if !network::is_global(address)
        && !upstream
            .allow_networks
            .iter()
            .any(|net| net.contains(&address))
    {
        value.warn(
            format!("{address} is not global, so every call there is refused"),
            format!("add \"{address}/32\" or its network to `allow_networks`"),
        );
    }
    let pattern = match suffix {
        Some(suffix) => NamePattern::Below(format!(".{suffix}")),
        None => NamePattern::Exact(lower),
    };
    Some(StaticAnswer {
        pattern,
        address,
        port,
    })
}

/// Whether a call may go to the name, or to one below it.
fn is_reachable(name: &str, is_suffix: bool, zone: &str) -> bool {
    if is_suffix && (name == zone || zone.ends_with(&format!(".{name}"))) {
        return true;
    }
    let before = name
        .strip_suffix(zone)
        .and_then(|before| before.strip_suffix('.'));
    match before {
        Some("s") => true,
        Some(before) => is_label(before.strip_suffix(".s").unwrap_or(before)) && !is_suffix,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_answers_are_for_names_that_calls_go_to() {
        let exact = |name| is_reachable(name, false, "cybozu.com");
        assert!(exact("acme.cybozu.com"));
        assert!(exact("acme.s.cybozu.com"));
        assert!(exact("s.cybozu.com"), "an account may be called so");
        assert!(!exact("cybozu.com"));
        assert!(!exact("a.b.cybozu.com"));
        assert!(!exact("acme.example.com"));
        assert!(!exact("acmecybozu.com"));
        let below = |suffix| is_reachable(suffix, true, "cybozu.com");
        assert!(below("cybozu.com"));
        assert!(below("s.cybozu.com"));
        assert!(!below("acme.cybozu.com"));
        assert!(!below("example.com"));
    }
}
