//! Who calls: found out by what is offered in proof, or by where the call comes from.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::known::KnownCaller;
use super::options::{Options, OptionsError};
use crate::config::{Anonymous, Callers, TokenHash};
use crate::model::{Account, CallerName, Client, Credential, Detail, Mode, Priority, Table};
use crate::quota::{Ask, Term};

/// Longest credentials that are looked at, decoded. Tokens have 256 bits; nobody needs more.
const CREDENTIALS_SIZE_MAX: usize = 1024;

/// Everybody who may call.
#[derive(Debug)]
pub(crate) struct Directory {
    named: Table<CallerName, Arc<KnownCaller>>,
    by_network: Vec<Arc<KnownCaller>>,
    anonymous: Option<(Anonymous, Arc<KnownCaller>)>,
}

/// What a request offers in proof of who sends it.
#[derive(Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// The credentials in its head, or none.
    Headers(&'a HeaderMap),
    /// Nothing more: it was proved before, by the same rules.
    Known(&'a Identity),
    /// Another host of the fleet says so, which has judged the proof by the same file.
    Handed(&'a CallerName, Option<Credential>),
    /// Nothing: this proxy user name is taken at its word. For those who ask what would be decided,
    /// never for a request.
    Assumed(&'a str),
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

/// The password of Basic credentials.
enum Password<'a> {
    Offered(&'a [u8]),
    Assumed,
}

impl Directory {
    /// Those whom the configuration names. What was seen of a caller under `before` stays with it.
    pub(crate) fn new(callers: &Callers, before: Option<&Self>) -> Self {
        let known: Vec<_> = callers
            .named
            .iter()
            .map(|rule| {
                let before = before.and_then(|before| before.named.get(&rule.name));
                KnownCaller::new(rule.clone(), before.map(Arc::as_ref))
            })
            .collect();
        let nobody = before.and_then(|before| before.anonymous.as_ref());
        Self {
            named: known
                .iter()
                .map(|caller| (caller.rule().name.clone(), Arc::clone(caller)))
                .collect(),
            by_network: known
                .iter()
                .filter(|caller| caller.rule().is_known_by_network())
                .map(Arc::clone)
                .collect(),
            anonymous: callers.anonymous.clone().map(|rule| {
                let before = nobody.map(|(_, caller)| caller.as_ref());
                (rule, KnownCaller::anonymous(before))
            }),
        }
    }

    /// Finds out who calls: by `Proxy-Authorization`, else by the network it calls from, else
    /// anonymous where that is allowed. Wrong credentials are refused even where none are needed.
    pub(crate) fn identify(
        &self,
        proof: Proof<'_>,
        client: Client,
    ) -> Result<Identity, IdentityError> {
        let headers = match proof {
            Proof::Headers(headers) => headers,
            Proof::Known(identity) => return Ok(identity.clone()),
            Proof::Handed(name, credential) => return self.by_word(name, credential),
            Proof::Assumed(user) => return self.by_name(user, &Password::Assumed, client),
        };
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
        let mut buffer = [0; CREDENTIALS_SIZE_MAX];
        match decode_basic(header, &mut buffer) {
            Some((user, token)) => self.by_name(user, &Password::Offered(token), client),
            None => Err(IdentityError::Unauthenticated(
                Detail::CredentialsUnreadable,
            )),
        }
    }

    fn by_name(
        &self,
        user: &str,
        password: &Password<'_>,
        client: Client,
    ) -> Result<Identity, IdentityError> {
        let refused = |detail| Err(IdentityError::Unauthenticated(detail));
        let (name, options) = Options::from_user(user).map_err(IdentityError::Options)?;
        // Hashed before anything is known of the name, so that the time tells nothing of it.
        let offered = match password {
            Password::Offered(token) => Some(TokenHash(Sha256::digest(token).into())),
            Password::Assumed => None,
        };
        let Some(caller) = self.named.get(name) else {
            return refused(Detail::UnknownCaller);
        };
        let rule = caller.rule();
        let is_here = rule.is_known_by_network() && sits_in(client, &rule.networks);
        let credential = match (rule.tokens.is_empty(), password, offered) {
            (true, Password::Offered(token), _) if !token.is_empty() => None,
            (true, ..) => is_here.then_some(Credential::Network),
            (false, _, Some(offered)) => {
                matching_token(&rule.tokens, offered).map(Credential::Token)
            }
            (false, _, None) => Some(Credential::Token(1)),
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

    /// A caller that is taken at another host's word, if this host knows it too.
    fn by_word(
        &self,
        name: &CallerName,
        credential: Option<Credential>,
    ) -> Result<Identity, IdentityError> {
        let nobody = self.anonymous.as_ref().map(|(_, caller)| caller);
        let caller = match credential {
            Some(_) => self.named.get(name),
            None => nobody.filter(|caller| caller.rule().name == *name),
        };
        let unknown = IdentityError::Unauthenticated(Detail::UnknownCaller);
        Ok(Identity {
            caller: Arc::clone(caller.ok_or(unknown)?),
            credential,
            options: Options::default(),
        })
    }

    fn by_address(&self, client: Client) -> Result<Identity, IdentityError> {
        let by_network = self
            .by_network
            .iter()
            .find(|caller| sits_in(client, &caller.rule().networks));
        let nobody = || match &self.anonymous {
            Some((rule, caller)) if rule.networks.is_empty() || sits_in(client, &rule.networks) => {
                Some((caller, None))
            }
            Some(_) | None => None,
        };
        match by_network
            .map(|caller| (caller, Some(Credential::Network)))
            .or_else(nobody)
        {
            Some((caller, credential)) => Ok(Identity {
                caller: Arc::clone(caller),
                credential,
                options: Options::default(),
            }),
            None => Err(IdentityError::Unauthenticated(Detail::NoCredentials)),
        }
    }
}

impl Identity {
    /// The caller's priority; a call can only lower it.
    pub(crate) fn priority(&self, options: &Options) -> Priority {
        match (self.caller.rule().priority, options.priority) {
            (Priority::Batch, _) | (_, Some(Priority::Batch)) => Priority::Batch,
            (Priority::Interactive, Some(Priority::Interactive) | None) => Priority::Interactive,
        }
    }

    /// What a call of this caller to `account` asks of the quota, in a way in by which it is seen.
    pub(crate) fn ask<'a>(
        &'a self,
        options: &'a Options,
        account: &'a Account,
        weight: u32,
    ) -> Ask<'a> {
        let rule = self.caller.rule();
        Ask {
            account,
            mode: Mode::Forward,
            tenant: options.tenant.as_ref(),
            caller: &rule.name,
            priority: self.priority(options),
            caller_wait: rule.max_wait,
            call_wait: options.max_wait,
            weight,
            term: Term::Short,
        }
    }
}

/// Whether a caller sits in one of these networks. An IPv4 address that an IPv6 listener saw is
/// still that address.
pub(crate) fn sits_in(client: Client, networks: &[IpNet]) -> bool {
    let address = client.0.ip().to_canonical();
    networks.iter().any(|network| network.contains(&address))
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
    use crate::config::{Caller, NamePattern, TenantRule};
    use crate::model::{Mode, Tenant};

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
        Directory::new(
            &Callers {
                named: vec![
                    caller("events", &["old", "new"], &[]),
                    caller("lan", &[], &["10.0.0.0/8"]),
                ],
                anonymous: anonymous.then(|| Anonymous {
                    networks: Vec::new(),
                }),
            },
            None,
        )
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
                .identify(
                    Proof::Headers(&basic(&format!("events:{token}"))),
                    from("192.0.2.1"),
                )
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
                    .identify(Proof::Headers(&basic(user)), from("192.0.2.1"))
                    .unwrap_err();
                assert_eq!(error, IdentityError::Unauthenticated(detail), "{user}");
            }
        }
    }

    #[test]
    fn a_network_alone_can_be_a_credential() {
        let directory = directory(false);
        let identity = directory
            .identify(Proof::Headers(&HeaderMap::new()), from("10.1.2.3"))
            .unwrap();
        assert_eq!(identity.credential, Some(Credential::Network));
        assert_eq!(identity.caller.rule().name.as_str(), "lan");
        let named = directory
            .identify(Proof::Headers(&basic("lan+t1:")), from("10.1.2.3"))
            .unwrap();
        assert_eq!(named.options.tenant, Tenant::parse("t1").ok());
        let error = directory
            .identify(Proof::Headers(&HeaderMap::new()), from("192.0.2.1"))
            .unwrap_err();
        assert_eq!(error, IdentityError::Unauthenticated(Detail::NoCredentials));
    }

    #[test]
    fn oversized_credentials_are_unreadable() {
        let error = directory(false)
            .identify(
                Proof::Headers(&basic(&format!("events:{}", "x".repeat(2000)))),
                from("192.0.2.1"),
            )
            .unwrap_err();
        assert_eq!(
            error,
            IdentityError::Unauthenticated(Detail::CredentialsUnreadable)
        );
    }

    #[test]
    fn a_name_that_is_taken_at_its_word_needs_no_token_but_the_network() {
        let directory = directory(false);
        let assumed = |user, address| directory.identify(Proof::Assumed(user), from(address));
        let events = assumed("events+t1", "192.0.2.1").unwrap();
        assert_eq!(events.options.tenant, Tenant::parse("t1").ok());
        assert!(assumed("lan", "10.1.2.3").is_ok());
        for (user, detail) in [
            ("lan", Detail::WrongToken),
            ("nobody", Detail::UnknownCaller),
        ] {
            let error = assumed(user, "192.0.2.1").unwrap_err();
            assert_eq!(error, IdentityError::Unauthenticated(detail), "{user}");
        }
    }

    #[test]
    fn an_ipv4_address_seen_by_an_ipv6_listener_is_that_address() {
        let seen = directory(false).identify(Proof::Headers(&HeaderMap::new()), {
            Client("[::ffff:10.1.2.3]:5000".parse().unwrap())
        });
        assert_eq!(seen.unwrap().credential, Some(Credential::Network));
    }
}
