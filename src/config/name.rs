//! Names of the file: zones, accounts, patterns of them, hosts, tenants, mail addresses.

use crate::model::Tenant;
use crate::model::account::is_label;

use super::grant::{NamePattern, TenantPattern, TenantRule};
use super::read::Value;
use super::source::shown;

/// A zone: a domain of at least two labels, lower case.
pub(super) fn zone(value: &Value<'_>) -> Option<String> {
    const ZONE: &str = "a domain such as \"cybozu.com\"";
    let text = value.text(ZONE)?;
    let lower = text.to_ascii_lowercase();
    let bare = lower.trim_start_matches("*.").trim_matches('.');
    if !(bare.contains('.') && is_domain(bare)) {
        return value.fault(format!("is {}", shown(text)), format!("expected {ZONE}"));
    }
    if bare != text {
        return value.fault(
            format!("is {}, not in normal form", shown(text)),
            format!("write {bare:?}"),
        );
    }
    Some(lower)
}

/// The account that `text` means in its normal form, and whether it stands in that form: lower
/// case, without the `.s` of hosts that ask for a client certificate, one label before a zone.
pub(super) fn account(text: &str, zones: &[String]) -> Result<(), AccountFault> {
    let lower = text.to_ascii_lowercase();
    let account = zones.iter().find_map(|zone| {
        let label = lower.strip_suffix(zone.as_str())?.strip_suffix('.')?;
        let label = label.strip_suffix(".s").unwrap_or(label);
        is_label(label).then(|| format!("{label}.{zone}"))
    });
    match account {
        None => Err(AccountFault::NotInAZone),
        Some(normal) if normal != text => Err(AccountFault::NotNormal(normal)),
        Some(_) => Ok(()),
    }
}

/// Why a text is not an account.
pub(super) enum AccountFault {
    NotInAZone,
    NotNormal(String),
}

/// A pattern of accounts: `*`, `*.zone`, or an account.
pub(super) fn accounts(value: &Value<'_>, zones: &[String]) -> Option<NamePattern> {
    let text = value.text("a pattern of accounts")?;
    let allowed = || {
        format!(
            "expected \"*\", \"*.{0}\" or an account such as \"acme.{0}\"",
            example(zones)
        )
    };
    if text == "*" {
        return Some(NamePattern::Any);
    }
    if let Some(zone) = text.strip_prefix("*.") {
        return match zones.iter().any(|known| known == zone) {
            true => Some(NamePattern::Below(format!(".{zone}"))),
            false => value.fault(
                format!("is {}, which is not one of the zones", shown(text)),
                allowed(),
            ),
        };
    }
    match account(text, zones) {
        Ok(()) => Some(NamePattern::Exact(text.to_owned())),
        Err(AccountFault::NotNormal(normal)) => value.fault(
            format!("is {}, not in normal form", shown(text)),
            format!("write {normal:?}"),
        ),
        Err(AccountFault::NotInAZone) => value.fault(
            format!("is {}, not an account of a zone", shown(text)),
            allowed(),
        ),
    }
}

/// The zone that examples are made with.
pub(super) fn example(zones: &[String]) -> &str {
    zones.first().map_or("cybozu.com", String::as_str)
}

/// Which tenants may be named: a list of `*`, `prefix*` and names.
pub(super) fn tenants(value: &Value<'_>) -> Option<TenantRule> {
    const TENANTS: &str = "\"*\", \"prefix*\" or names of A-Z a-z 0-9 . _ -";
    let entries = value.list(TENANTS)?;
    let mut patterns = Vec::with_capacity(entries.len());
    let mut is_any = false;
    for entry in &entries {
        let text = entry.text(TENANTS)?;
        let prefix = text.strip_suffix('*');
        let Ok(tenant) = Tenant::parse(prefix.filter(|prefix| !prefix.is_empty()).unwrap_or(text))
        else {
            is_any |= text == "*";
            if text != "*" {
                entry.fault::<()>(format!("is {}", shown(text)), format!("expected {TENANTS}"));
            }
            continue;
        };
        patterns.push(match prefix {
            Some(prefix) => TenantPattern::Prefix(prefix.to_owned()),
            None => TenantPattern::Exact(tenant),
        });
    }
    Some(if is_any {
        TenantRule::Any
    } else {
        TenantRule::Only(patterns)
    })
}

/// The name of a host of the fleet.
pub(super) fn host(value: &Value<'_>) -> Option<String> {
    const HOST: &str = "a host name of A-Z a-z 0-9 . _ -, at most 64";
    let text = value.text(HOST)?;
    if is_host(text) {
        Some(text.to_owned())
    } else {
        value.fault(format!("is {}", shown(text)), format!("expected {HOST}"))
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// A mail address.
pub(super) fn mail(value: &Value<'_>) -> Option<String> {
    const MAIL: &str = "a mail address such as \"sre@example.com\"";
    let text = value.text(MAIL)?;
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>,;".contains(c);
    let parts = text.rsplit_once('@').filter(|_| text.chars().all(is_plain));
    match parts {
        Some((local, domain)) if !local.is_empty() && is_domain(domain) => Some(text.to_owned()),
        _ => value.fault(format!("is {}", shown(text)), format!("expected {MAIL}")),
    }
}

/// Whether `text` is labels with dots between them (RFC 1123 section 2.1), at most 253 bytes.
pub(super) fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}
