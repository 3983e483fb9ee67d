//! Who calls, and what that caller may do.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::options::{Options, OptionsError};
use crate::config::{AccountPolicy, Anonymous, Caller, Callers, Config, TokenHash};
use crate::model::{
    Account, CallerName, Client, Credential, Denial, Detail, Mode, Priority, Purpose, Table, Tenant,
};

/// Longest credentials that are looked at, decoded. Tokens have 256 bits; nobody needs more.
const CREDENTIALS_SIZE_MAX: usize = 1024;

/// How many purposes of a caller are told apart.
const PURPOSES_MAX: usize = 16;

/// Everybody who may call.
#[derive(Debug)]
pub(crate) struct Directory {
    named: Table<CallerName, Arc<KnownCaller>>,
    by_network: Vec<Arc<KnownCaller>>,
    anonymous: Option<(Anonymous, Arc<KnownCaller>)>,
}

/// A caller with what was seen of it.
#[derive(Debug)]
pub(crate) struct KnownCaller {
    rule: Caller,
    purposes: Mutex<BTreeSet<Purpose>>,
}

/// A caller that proved who it is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) caller: Arc<KnownCaller>,
    /// `None` for an anonymous one.
    pub(crate) credential: Option<Credential>,
    /// What the proxy user name says.
    pub(crate) options: Options,
}

/// Why a caller was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityError {
    /// 407.
    Unauthenticated(Detail),
    /// The user name's options are malformed.
    Options(OptionsError),
}

impl Directory {
    pub(crate) fn new(callers: &Callers) -> Self {
        let known: Vec<_> = callers
            .named
            .iter()
            .cloned()
            .map(KnownCaller::new)
            .collect();
        Self {
            named: known
                .iter()
                .map(|caller| (caller.rule.name.clone(), Arc::clone(caller)))
                .collect(),
            by_network: known
                .iter()
                .filter(|caller| caller.rule.is_known_by_network())
                .map(Arc::clone)
                .collect(),
            anonymous: callers
                .anonymous
                .clone()
                .map(|rule| (rule, KnownCaller::anonymous())),
        }
    }

    /// Finds out who calls: by `Proxy-Authorization`, else by the network it calls from, else
    /// anonymous where that is allowed. Wrong credentials are refused even where none are needed.
    pub(crate) fn identify(
        &self,
        headers: &HeaderMap,
        client: Client,
    ) -> Result<Identity, IdentityError> {
        let mut credentials = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        match (credentials.next(), credentials.next()) {
            (Some(value), None) => self.by_credentials(value.as_bytes(), client),
            (Some(_), Some(_)) => Err(IdentityError::Unauthenticated(
                Detail::CredentialsUnreadable,
            )),
            (None, _) => self.by_address(client),
        }
    }

    fn by_credentials(&self, header: &[u8], client: Client) -> Result<Identity, IdentityError> {
        let refused = |detail| Err(IdentityError::Unauthenticated(detail));
        let mut buffer = [0; CREDENTIALS_SIZE_MAX];
        let Some((user, token)) = decode_basic(header, &mut buffer) else {
            return refused(Detail::CredentialsUnreadable);
        };
        let (name, options) = Options::from_user(user).map_err(IdentityError::Options)?;
        let offered = TokenHash(Sha256::digest(token).into());
        let Some(caller) = self.named.get(name) else {
            return refused(Detail::UnknownCaller);
        };
        let credential = if caller.rule.tokens.is_empty() {
            let here = caller
                .rule
                .networks
                .iter()
                .any(|network| network.contains(&client.0.ip()));
            let proves = caller.rule.is_known_by_network() && here && token.is_empty();
            proves.then_some(Credential::Network)
        } else {
            matching_token(&caller.rule.tokens, offered).map(Credential::Token)
        };
        match credential {
            Some(credential) => Ok(Identity {
                caller: Arc::clone(caller),
                credential: Some(credential),
                options,
            }),
            None => refused(Detail::WrongToken),
        }
    }

    fn by_address(&self, client: Client) -> Result<Identity, IdentityError> {
        let address = client.0.ip();
        let here = |networks: &[ipnet::IpNet]| networks.iter().any(|net| net.contains(&address));
        if let Some(caller) = self
            .by_network
            .iter()
            .find(|caller| here(&caller.rule.networks))
        {
            return Ok(Identity {
                caller: Arc::clone(caller),
                credential: Some(Credential::Network),
                options: Options::default(),
            });
        }
        match &self.anonymous {
            Some((rule, caller)) if rule.networks.is_empty() || here(&rule.networks) => {
                Ok(Identity {
                    caller: Arc::clone(caller),
                    credential: None,
                    options: Options::default(),
                })
            }
            Some(_) | None => Err(IdentityError::Unauthenticated(Detail::NoCredentials)),
        }
    }
}

impl Identity {
    /// The caller's priority; a call can only lower it.
    pub(crate) fn priority(&self, options: &Options) -> Priority {
        match (self.caller.rule.priority, options.priority) {
            (Priority::Batch, _) | (_, Some(Priority::Batch)) => Priority::Batch,
            (Priority::Interactive, Some(Priority::Interactive) | None) => Priority::Interactive,
        }
    }
}

impl KnownCaller {
    fn new(rule: Caller) -> Arc<Self> {
        Arc::new(Self {
            rule,
            purposes: Mutex::default(),
        })
    }

    fn anonymous() -> Arc<Self> {
        Self::new(Caller {
            name: CallerName::parse("anonymous").expect("is a valid name"),
            tokens: Vec::new(),
            certificate: None,
            networks: Vec::new(),
            accounts: vec![crate::config::NamePattern::Any],
            tenants: crate::config::TenantRule::Any,
            modes: Mode::ALL.to_vec(),
            priority: Priority::Interactive,
            max_wait: None,
            enabled: true,
        })
    }

    /// What the configuration says of it.
    pub(crate) const fn rule(&self) -> &Caller {
        &self.rule
    }

    /// The purpose to count a call under: one of the first 16 that this caller named, else `other`.
    pub(crate) fn purpose(&self, named: Purpose) -> Purpose {
        let mut known = self.purposes.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&named) || (known.len() < PURPOSES_MAX && known.insert(named.clone())) {
            named
        } else {
            Purpose::parse("other").expect("is a valid purpose")
        }
    }

    /// Whether this caller may do that.
    ///
    /// # Errors
    /// [`Denial::CallerForbidden`] with which right is missing.
    pub(crate) fn may(
        &self,
        config: &Config,
        client: Client,
        account: &Account,
        tenant: Option<&Tenant>,
        mode: Mode,
    ) -> Result<(), Denial> {
        let rule = &self.rule;
        let settings = config.accounts.get(account);
        let detail = if !rule.enabled {
            Detail::CallerDisabled
        } else if !rule.networks.is_empty()
            && !rule
                .networks
                .iter()
                .any(|network| network.contains(&client.0.ip()))
        {
            Detail::NetworkForbidden
        } else if !rule
            .accounts
            .iter()
            .any(|pattern| pattern.matches(account.as_str()))
        {
            Detail::AccountForbidden
        } else if tenant.is_some_and(|tenant| !rule.tenants.allows(tenant)) {
            Detail::TenantForbidden
        } else if !rule.modes.contains(&mode) {
            Detail::ModeForbidden
        } else if settings.is_some_and(|settings| !settings.enabled) {
            Detail::AccountDisabled
        } else {
            return Ok(());
        };
        Err(Denial::CallerForbidden(detail))
    }
}

/// Whether the configuration lets anybody reach this account.
///
/// # Errors
/// [`Denial::DestinationForbidden`] where only configured accounts are reached and this is none.
pub(crate) fn check_account(config: &Config, account: &Account) -> Result<(), Denial> {
    match config.upstream.accounts {
        AccountPolicy::Any => Ok(()),
        AccountPolicy::Configured if config.accounts.contains_key(account) => Ok(()),
        AccountPolicy::Configured => {
            Err(Denial::DestinationForbidden(Detail::AccountNotConfigured))
        }
    }
}

/// Reads `Basic base64(user:password)`; the scheme in any case (RFC 9110 section 11.1).
fn decode_basic<'a>(header: &[u8], buffer: &'a mut [u8]) -> Option<(&'a str, &'a [u8])> {
    let (scheme, rest) = header.split_at_checked(5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") || rest.first() != Some(&b' ') {
        return None;
    }
    let length = STANDARD.decode_slice(rest.trim_ascii(), buffer).ok()?;
    let decoded = &buffer[..length];
    let colon = decoded.iter().position(|b| *b == b':')?;
    Some((
        std::str::from_utf8(&decoded[..colon]).ok()?,
        &decoded[colon + 1..],
    ))
}

/// Which of the configured tokens was offered, counted from 1. Every one is compared, each in
/// constant time.
fn matching_token(tokens: &[TokenHash], offered: TokenHash) -> Option<u8> {
    let mut found = None;
    for (number, token) in (1_u8..).zip(tokens) {
        if bool::from(token.0.ct_eq(&offered.0)) && found.is_none() {
            found = Some(number);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NamePattern, TenantRule};

    fn caller(name: &str, tokens: &[&str], networks: &[&str]) -> Caller {
        Caller {
            name: CallerName::parse(name).unwrap(),
            tokens: tokens
                .iter()
                .map(|t| TokenHash(Sha256::digest(t).into()))
                .collect(),
            certificate: None,
            networks: networks
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            accounts: vec![NamePattern::Any],
            tenants: TenantRule::Any,
            modes: Mode::ALL.to_vec(),
            priority: Priority::Interactive,
            max_wait: None,
            enabled: true,
        }
    }

    fn directory(anonymous: bool) -> Directory {
        Directory::new(&Callers {
            named: vec![
                caller("events", &["old", "new"], &[]),
                caller("lan", &[], &["10.0.0.0/8"]),
            ],
            anonymous: anonymous.then(|| Anonymous {
                networks: Vec::new(),
            }),
        })
    }

    fn basic(userpass: &str) -> HeaderMap {
        let value = format!("bAsIc {}", STANDARD.encode(userpass));
        HeaderMap::from_iter([(header::PROXY_AUTHORIZATION, value.parse().unwrap())])
    }

    fn from(address: &str) -> Client {
        Client(format!("{address}:5000").parse().unwrap())
    }

    #[test]
    fn a_token_proves_a_caller_and_says_which_one_it_was() {
        let directory = directory(false);
        for (token, number) in [("old", 1), ("new", 2)] {
            let identity = directory
                .identify(&basic(&format!("events:{token}")), from("192.0.2.1"))
                .unwrap();
            assert_eq!(identity.credential, Some(Credential::Token(number)));
        }
    }

    #[test]
    fn wrong_credentials_are_refused_even_where_none_are_needed() {
        for directory in [directory(false), directory(true)] {
            for (user, detail) in [
                ("events:bad", Detail::WrongToken),
                ("events:", Detail::WrongToken),
                ("nobody:new", Detail::UnknownCaller),
                ("no-colon", Detail::CredentialsUnreadable),
                ("lan:", Detail::WrongToken),
            ] {
                let error = directory
                    .identify(&basic(user), from("192.0.2.1"))
                    .unwrap_err();
                assert_eq!(error, IdentityError::Unauthenticated(detail), "{user}");
            }
        }
    }

    #[test]
    fn a_network_alone_can_be_a_credential() {
        let directory = directory(false);
        let identity = directory
            .identify(&HeaderMap::new(), from("10.1.2.3"))
            .unwrap();
        assert_eq!(identity.credential, Some(Credential::Network));
        assert_eq!(identity.caller.rule().name.as_str(), "lan");
        let named = directory
            .identify(&basic("lan+t1:"), from("10.1.2.3"))
            .unwrap();
        assert_eq!(named.options.tenant, Tenant::parse("t1").ok());
        let error = directory
            .identify(&HeaderMap::new(), from("192.0.2.1"))
            .unwrap_err();
        assert_eq!(error, IdentityError::Unauthenticated(Detail::NoCredentials));
    }

    #[test]
    fn oversized_credentials_are_unreadable() {
        let error = directory(false)
            .identify(
                &basic(&format!("events:{}", "x".repeat(2000))),
                from("192.0.2.1"),
            )
            .unwrap_err();
        assert_eq!(
            error,
            IdentityError::Unauthenticated(Detail::CredentialsUnreadable)
        );
    }

    #[test]
    fn purposes_are_bounded() {
        let caller = KnownCaller::new(caller("events", &["t"], &[]));
        for letter in 'a'..='z' {
            caller.purpose(Purpose::parse(&letter.to_string()).unwrap());
        }
        assert_eq!(caller.purpose(Purpose::parse("a").unwrap()).as_str(), "a");
        assert_eq!(
            caller.purpose(Purpose::parse("z").unwrap()).as_str(),
            "other"
        );
    }
}
