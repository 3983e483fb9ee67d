//! What a call is about: account, host name, tenant, app.

use std::fmt;
use std::sync::Arc;

/// A customer's kintone environment: its domain in lower case with `.s` removed, such as
/// `acme.cybozu.com`. Quotas are kept per account. Cloning is a reference count.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(Arc<str>);

/// A host name that a connection to kintone carries, in lower case: the account's domain, or the
/// same with `.s` before the zone (`acme.s.cybozu.com`, which asks for a client certificate).
/// Connections are kept per host name, never per account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

/// A company ID on whose behalf a call is made: 1 to 64 of `A-Za-z0-9._-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

/// A kintone app ID within an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub u64);

/// An app as its calls are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountedApp {
    /// That app.
    Known(AppId),
    /// Calls of which it is not known which app they are about.
    Unknown,
    /// Apps that found no room of their own.
    Other,
}

/// Why a string is not a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tenant is 1 to 64 of A-Z a-z 0-9 . _ -")]
pub struct TenantError;

/// Longest tenant name, in bytes.
pub const TENANT_LENGTH_MAX: usize = 64;

/// Longest DNS label, in bytes (RFC 1035 section 2.3.4).
pub const LABEL_LENGTH_MAX: usize = 63;

impl Account {
    /// Wraps a domain that is known to be normal: lower case, `.s` removed, one label before its
    /// zone. [`crate::kintone::domain`] and the configuration make these; nothing else should.
    #[must_use]
    pub fn from_normal(domain: &str) -> Self {
        Self(domain.into())
    }

    /// The domain, such as `acme.cybozu.com`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Host {
    /// Wraps a host name that is known to be normal (lower case, within an allowed zone).
    #[must_use]
    pub fn from_normal(name: &str) -> Self {
        Self(name.into())
    }

    /// The name, such as `acme.s.cybozu.com`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tenant {
    /// Checks and wraps a tenant name.
    ///
    /// # Errors
    /// [`TenantError`] if it is empty, longer than 64 bytes, or has another character than
    /// `A-Za-z0-9._-`.
    pub fn parse(name: &str) -> Result<Self, TenantError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=TENANT_LENGTH_MAX).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.into()))
        } else {
            Err(TenantError)
        }
    }

    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `label` can stand before the zone of a kintone domain: letters, digits and hyphens, no
/// hyphen at either end, not the beginning of an internationalised name (`xn--`), at most 63 bytes.
#[must_use]
pub fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=LABEL_LENGTH_MAX).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
        && !(bytes.len() >= 4 && bytes[..4].eq_ignore_ascii_case(b"xn--"))
}

macro_rules! string_like {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
pub(crate) use string_like;

string_like!(Account, Host, Tenant);

impl CountedApp {
    /// Reads what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "unknown" => Some(Self::Unknown),
            "other" => Some(Self::Other),
            number => number.parse().ok().map(|number| Self::Known(AppId(number))),
        }
    }
}

impl fmt::Display for CountedApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(app) => fmt::Display::fmt(app, f),
            Self::Unknown => f.write_str("unknown"),
            Self::Other => f.write_str("other"),
        }
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_a_closed_alphabet_and_a_length() {
        assert!(Tenant::parse("company-1.A_b").is_ok());
        assert!(Tenant::parse(&"a".repeat(64)).is_ok());
        for bad in ["", "a b", "a;b", "企業", "a+b", &"a".repeat(65)] {
            assert_eq!(Tenant::parse(bad), Err(TenantError), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_plain_dns_labels() {
        for good in ["a", "acme", "ACME-1", "0x"] {
            assert!(is_label(good), "{good:?}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a_b",
            "xn--abc",
            "XN--ABC",
            "a.b",
            "é",
            &"a".repeat(64),
        ] {
            assert!(!is_label(bad), "{bad:?}");
        }
    }
}
