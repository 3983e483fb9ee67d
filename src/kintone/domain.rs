//! From a host name to the account it belongs to.
//!
//! kintone's environments are `<account>.<zone>`; with a client certificate (secure access) the
//! same environment is reached as `<account>.s.<zone>`. Nothing else below a zone is an account.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::model::account::is_label;
use crate::model::{Account, Detail, Host};

/// Where a call goes, with its names in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The host name that connections carry.
    pub host: Host,
    /// Whose kintone it is.
    pub account: Account,
    /// Whether the host asks for the client's own certificate.
    pub door: Door,
}

/// Which of an account's two host names was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `<account>.<zone>`.
    Plain,
    /// `<account>.s.<zone>`: TLS asks for a client certificate, so only a tunnel can pass it.
    ClientCertificate,
}

/// Judges a host name against the allowed zones (lower case, without dots at either end).
///
/// # Errors
/// [`Detail::NotAKintoneDomain`] for anything but one label, or one label and `s`, before an
/// allowed zone: address literals, `xn--` names, underscores, trailing dots and further labels
/// among them.
pub fn judge(name: &str, zones: &[String]) -> Result<Destination, Detail> {
    let refused = Detail::NotAKintoneDomain;
    if name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok() {
        return Err(refused);
    }
    let lower;
    let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        lower = name.to_ascii_lowercase();
        lower.as_str()
    } else {
        name
    };
    let (stem, zone) = zones
        .iter()
        .find_map(|zone| Some((name.strip_suffix(zone.as_str())?.strip_suffix('.')?, zone)))
        .ok_or(refused)?;
    match stem.strip_suffix(".s") {
        Some(label) if is_label(label) => Ok(Destination {
            host: Host::from_normal(name),
            account: Account::from_normal(&format!("{label}.{zone}")),
            door: Door::ClientCertificate,
        }),
        None if is_label(stem) => Ok(Destination {
            host: Host::from_normal(name),
            account: Account::from_normal(name),
            door: Door::Plain,
        }),
        Some(_) | None => Err(refused),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zones() -> Vec<String> {
        ["cybozu.com", "kintone.com", "cybozu.cn"]
            .map(String::from)
            .to_vec()
    }

    #[test]
    fn both_doors_lead_to_one_account() {
        let plain = judge("ACME.cybozu.com", &zones()).unwrap();
        let secure = judge("acme.s.cybozu.com", &zones()).unwrap();
        assert_eq!(plain.account, secure.account);
        assert_eq!(plain.account.as_str(), "acme.cybozu.com");
        assert_eq!(plain.host.as_str(), "acme.cybozu.com");
        assert_eq!(secure.host.as_str(), "acme.s.cybozu.com");
        assert_eq!(
            (plain.door, secure.door),
            (Door::Plain, Door::ClientCertificate)
        );
    }

    #[test]
    fn an_account_may_be_called_s() {
        assert_eq!(judge("s.cybozu.com", &zones()).unwrap().door, Door::Plain);
        assert_eq!(
            judge("s.s.cybozu.com", &zones()).unwrap().account.as_str(),
            "s.cybozu.com"
        );
    }

    #[test]
    fn nothing_else_is_an_account() {
        for name in [
            "",
            "cybozu.com",
            ".cybozu.com",
            "acme.cybozu.com.",
            "a.b.cybozu.com",
            "a.b.s.cybozu.com",
            "a_b.cybozu.com",
            "xn--a.cybozu.com",
            "acmecybozu.com",
            "acme.cybozu.com.evil.example",
            "acme.example.com",
            "127.0.0.1",
            "::1",
            "-a.cybozu.com",
            ".s.cybozu.com",
            "acme..cybozu.com",
            "acme%2e.cybozu.com",
        ] {
            assert_eq!(
                judge(name, &zones()),
                Err(Detail::NotAKintoneDomain),
                "{name:?}"
            );
        }
    }
}
