//! What a caller says about a call besides the call itself: tenant, priority, wait, purpose. It
//! stands in headers, or in the proxy user name, since most clients cannot set headers on CONNECT.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::model::{Priority, Purpose, Tenant};

/// Everything that begins so is for the gateway alone and is never forwarded.
pub(crate) const PREFIX: &str = "kintone-egress-";

const TENANT: HeaderName = HeaderName::from_static("kintone-egress-tenant");
const PRIORITY: HeaderName = HeaderName::from_static("kintone-egress-priority");
const MAX_WAIT_MS: HeaderName = HeaderName::from_static("kintone-egress-max-wait-ms");
const PURPOSE: HeaderName = HeaderName::from_static("kintone-egress-purpose");

/// Longest wait that a call can ask for.
pub(crate) const MAX_WAIT_MS_MAX: u64 = 600_000;

/// What a caller said; `None` where it said nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) tenant: Option<Tenant>,
    pub(crate) priority: Option<Priority>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) purpose: Option<Purpose>,
}

/// Why options were not understood; names the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OptionsError {
    #[error("{0} is malformed")]
    Malformed(&'static str),
    #[error("{0} stands more than once")]
    Repeated(&'static str),
    #[error("the tenant in the header is not the one in the user name")]
    TenantsDiffer,
}

impl Options {
    /// Reads the request's headers.
    ///
    /// # Errors
    /// [`OptionsError`] naming the header that is malformed or repeated.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, OptionsError> {
        Ok(Self {
            tenant: read(headers, &TENANT, "Kintone-Egress-Tenant", |text| {
                Tenant::parse(text).ok()
            })?,
            priority: read(
                headers,
                &PRIORITY,
                "Kintone-Egress-Priority",
                Priority::parse,
            )?,
            max_wait: read(
                headers,
                &MAX_WAIT_MS,
                "Kintone-Egress-Max-Wait-Ms",
                parse_wait,
            )?,
            purpose: read(headers, &PURPOSE, "Kintone-Egress-Purpose", Purpose::parse)?,
        })
    }

    /// Splits a proxy user name, `caller+TENANT;priority=batch;wait=2000;purpose=incoming`, into
    /// the caller's name and what it says.
    ///
    /// # Errors
    /// [`OptionsError`] naming the part that is malformed or repeated.
    pub(crate) fn from_user(user: &str) -> Result<(&str, Self), OptionsError> {
        let mut parts = user.split(';');
        let who = parts.next().unwrap_or_default();
        let (caller, tenant) = match who.split_once('+') {
            Some((caller, tenant)) => (caller, Some(tenant)),
            None => (who, None),
        };
        let mut options = Self::default();
        if let Some(tenant) = tenant {
            let place = "the tenant in the proxy user name";
            put(&mut options.tenant, Tenant::parse(tenant).ok(), place)?;
        }
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "priority" => put(
                    &mut options.priority,
                    Priority::parse(value),
                    "priority in the proxy user name",
                )?,
                "wait" => {
                    put(
                        &mut options.max_wait,
                        parse_wait(value),
                        "wait in the proxy user name",
                    )?;
                }
                "purpose" => put(
                    &mut options.purpose,
                    Purpose::parse(value),
                    "purpose in the proxy user name",
                )?,
                _ => return Err(OptionsError::Malformed("an option in the proxy user name")),
            }
        }
        Ok((caller, options))
    }

    /// Joins what a call inside an inspected connection says (`self`) with what its CONNECT said
    /// about all of them: the call wins.
    pub(crate) fn within(self, connect: &Self) -> Self {
        Self {
            tenant: self.tenant.or_else(|| connect.tenant.clone()),
            priority: self.priority.or(connect.priority),
            max_wait: self.max_wait.or(connect.max_wait),
            purpose: self.purpose.or_else(|| connect.purpose.clone()),
        }
    }

    /// Joins what the headers say (`self`) with what the user name says: a header wins, but two
    /// different tenants are a mistake that must not be guessed away.
    ///
    /// # Errors
    /// [`OptionsError::TenantsDiffer`].
    pub(crate) fn or(self, user: Self) -> Result<Self, OptionsError> {
        if let (Some(header), Some(user)) = (&self.tenant, &user.tenant)
            && header != user
        {
            return Err(OptionsError::TenantsDiffer);
        }
        Ok(Self {
            tenant: self.tenant.or(user.tenant),
            priority: self.priority.or(user.priority),
            max_wait: self.max_wait.or(user.max_wait),
            purpose: self.purpose.or(user.purpose),
        })
    }
}

/// Writes what a call says into headers that say nothing of it.
pub(crate) fn write(options: &Options, headers: &mut HeaderMap) {
    let Options {
        tenant,
        priority,
        max_wait,
        purpose,
    } = options;
    let said = [
        (TENANT, tenant.as_ref().map(ToString::to_string)),
        (PRIORITY, priority.map(|of| of.label().to_owned())),
        (
            MAX_WAIT_MS,
            max_wait.map(|wait| wait.as_millis().to_string()),
        ),
        (PURPOSE, purpose.as_ref().map(ToString::to_string)),
    ];
    for (name, value) in said {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
    }
}

fn read<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    place: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, OptionsError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(OptionsError::Repeated(place));
    }
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or(OptionsError::Malformed(place))
}

fn put<T>(slot: &mut Option<T>, value: Option<T>, place: &'static str) -> Result<(), OptionsError> {
    if slot.is_some() {
        return Err(OptionsError::Repeated(place));
    }
    *slot = Some(value.ok_or(OptionsError::Malformed(place))?);
    Ok(())
}

fn parse_wait(text: &str) -> Option<Duration> {
    let digits = (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let wait_ms = text
        .parse()
        .ok()
        .filter(|wait_ms| digits && *wait_ms <= MAX_WAIT_MS_MAX)?;
    Some(Duration::from_millis(wait_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_user_name_carries_every_option() {
        let (caller, options) =
            Options::from_user("call-events+company-1;priority=batch;wait=2000;purpose=incoming")
                .unwrap();
        assert_eq!(caller, "call-events");
        assert_eq!(options.tenant, Tenant::parse("company-1").ok());
        assert_eq!(options.priority, Some(Priority::Batch));
        assert_eq!(options.max_wait, Some(Duration::from_secs(2)));
        assert_eq!(options.purpose, Purpose::parse("incoming"));
        assert_eq!(
            Options::from_user("plain").unwrap(),
            ("plain", Options::default())
        );
    }

    #[test]
    fn malformed_options_are_named() {
        for user in [
            "a+",
            "a+b+c",
            "a;",
            "a;wait=",
            "a;wait=-1",
            "a;wait=600001",
            "a;tenant=x",
        ] {
            assert!(Options::from_user(user).is_err(), "{user}");
        }
        let twice = Options::from_user("a;wait=1;wait=2").unwrap_err();
        assert_eq!(twice, OptionsError::Repeated("wait in the proxy user name"));
        for (name, value) in [
            ("kintone-egress-tenant", "a b"),
            ("kintone-egress-priority", "urgent"),
            ("kintone-egress-max-wait-ms", "1s"),
            ("kintone-egress-max-wait-ms", "+5"),
            ("kintone-egress-purpose", "Incoming"),
        ] {
            let error = Options::from_headers(&headers(&[(name, value)])).unwrap_err();
            assert!(
                error.to_string().to_ascii_lowercase().contains(name),
                "{error}"
            );
        }
    }

    #[test]
    fn a_header_wins_but_tenants_must_agree() {
        let header = Options::from_headers(&headers(&[
            ("kintone-egress-tenant", "t1"),
            ("kintone-egress-max-wait-ms", "0"),
        ]))
        .unwrap();
        let (_, same) = Options::from_user("a+t1;wait=5").unwrap();
        let (_, other) = Options::from_user("a+t2").unwrap();
        assert_eq!(
            header.clone().or(same).unwrap().max_wait,
            Some(Duration::ZERO)
        );
        assert_eq!(header.or(other), Err(OptionsError::TenantsDiffer));
    }
}
