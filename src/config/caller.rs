//! `[[caller]]` and `[callers]`: who may call, how we know them, and what they may do.

use std::time::Duration;

use crate::model::{CallerName, Mode, Priority};

use super::grant::{Anonymous, Caller, Callers, NamePattern, TenantRule, TokenHash};
use super::name;
use super::network;
use super::read::{Section, Value};
use super::shape::Listen;
use super::source::shown;
use super::token::hash_token;

/// Most tokens of one caller: the log tells them apart by a small number.
const TOKENS_MAX: usize = 16;

/// Longest `max_wait`.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Reads `[[caller]]` and `[callers]`; `listen` and `zones` were read before.
pub(super) fn read(root: &mut Section<'_>, listen: &Listen, zones: &[String]) -> Callers {
    let anonymous = anonymous(root.section("callers"), listen);
    let mut named: Vec<Caller> = Vec::new();
    let value = root.get("caller");
    let entries = value
        .as_ref()
        .and_then(|value| value.list("[[caller]] tables"));
    for section in entries.iter().flatten().filter_map(Value::table) {
        if let Some(caller) = caller(section, zones, &named) {
            named.push(caller);
        }
    }
    let is_empty = entries.as_ref().is_none_or(Vec::is_empty);
    // A `caller` of another type has been told already.
    if is_empty && anonymous.is_none() && (value.is_none() || entries.is_some()) {
        root.fault(
            "caller",
            "nobody may call",
            "expected a [[caller]], or [callers] anonymous = true",
        );
    }
    Callers { named, anonymous }
}

fn anonymous(mut section: Section<'_>, listen: &Listen) -> Option<Anonymous> {
    let is_on = section.or("anonymous", false, Value::flag);
    let networks = section.or("networks", Vec::new(), |value| {
        value.list_of("networks", network::network)
    });
    let mut listeners = listen.proxy.iter().chain(&listen.proxy_tls);
    if !is_on && !networks.is_empty() {
        section.warn(
            "networks",
            "has no effect",
            "set anonymous = true, or leave it out",
        );
    }
    if is_on && networks.is_empty() && !listeners.all(|socket| socket.ip().is_loopback()) {
        section.fault(
            "anonymous",
            "lets in everybody who reaches a listener off loopback",
            "expected networks = [\"10.0.0.0/8\"] beside it",
        );
    }
    section.finish();
    is_on.then_some(Anonymous { networks })
}

fn caller(mut section: Section<'_>, zones: &[String], before: &[Caller]) -> Option<Caller> {
    let name = section.required("name", "expected a name of A-Z a-z 0-9 . _ -");
    let name = name.and_then(|value| caller_name(&value, before));
    let tokens_value = section.get("token_sha256");
    let tokens = tokens_value
        .as_ref()
        .map_or_else(Vec::new, |value| tokens(value, before));
    let certificate = section
        .get("certificate")
        .and_then(|value| certificate(&value, before));
    let networks = section.or("networks", Vec::new(), |value| {
        value.list_of("networks", network::network)
    });
    let by_network = tokens_value.is_none() && section.get("certificate").is_none();
    if by_network && networks.is_empty() {
        section.fault(
            "token_sha256",
            "the caller has neither a token nor a certificate nor networks, so nobody is it",
            "expected token_sha256 = \"64 hex digits\", as `kintone-egress hash-token` prints it",
        );
    }
    let accounts = section.or("accounts", vec![NamePattern::Any], |value| {
        value.list_of("patterns of accounts", |entry| name::accounts(entry, zones))
    });
    let priorities = Priority::ALL.map(|priority| (priority.label(), priority));
    let caller = Caller {
        tenants: section.or("tenants", TenantRule::Any, name::tenants),
        modes: section.or("modes", Mode::ALL.to_vec(), modes),
        priority: section.or("priority", Priority::Interactive, |value| {
            value.word(&priorities)
        }),
        max_wait: section
            .get("max_wait")
            .and_then(|value| value.duration(Duration::ZERO..=WAIT_MAX)),
        enabled: section.or("enabled", true, Value::flag),
        name: name.unwrap_or_else(|| CallerName::parse("unnamed").expect("a valid name")),
        tokens,
        certificate,
        networks,
        accounts,
    };
    if by_network {
        check_networks(&section, &caller, before);
    }
    section.finish();
    Some(caller)
}

fn caller_name(value: &Value<'_>, before: &[Caller]) -> Option<CallerName> {
    const NAME: &str = "a name of A-Z a-z 0-9 . _ -, at most 64";
    let text = value.text(NAME)?;
    let Some(name) = CallerName::parse(text) else {
        return value.fault(format!("is {}", shown(text)), format!("expected {NAME}"));
    };
    // Names that metrics and logs use for nobody in particular.
    if ["unknown", "anonymous"].contains(&text) {
        return value.fault(
            format!("{text:?} is used for callers without a name"),
            "expected another name",
        );
    }
    if before.iter().any(|other| other.name == name) {
        return value.fault(
            format!("{text:?} is another caller's name"),
            "expected a name of its own",
        );
    }
    Some(name)
}

/// One hash or a list of them. Never shown: what stands there may be the token itself.
fn tokens(value: &Value<'_>, before: &[Caller]) -> Vec<TokenHash> {
    let entries = match value.raw().is_array() {
        true => value.list("hashes").unwrap_or_default(),
        false => vec![value.clone()],
    };
    if entries.is_empty() || entries.len() > TOKENS_MAX {
        value.fault::<()>(
            format!("has {} hashes", entries.len()),
            format!("expected 1 to {TOKENS_MAX}, old and new"),
        );
    }
    let mut tokens: Vec<TokenHash> = Vec::new();
    for entry in &entries {
        let Some(token) = token(entry) else { continue };
        if tokens.contains(&token) {
            entry.fault::<()>("is the same hash again", "expected each token once");
        } else if let Some(other) = before.iter().find(|other| other.tokens.contains(&token)) {
            entry.fault::<()>(
                format!("is the hash of caller {:?} too", other.name),
                "expected a token of its own: `kintone-egress hash-token --generate`",
            );
        } else {
            tokens.push(token);
        }
    }
    tokens
}

fn token(value: &Value<'_>) -> Option<TokenHash> {
    const HASH: &str = "64 hexadecimal digits, as `kintone-egress hash-token` prints them";
    let Some(token) = TokenHash::from_hex(value.text(HASH)?) else {
        return value.fault("is not the SHA-256 of a token", format!("expected {HASH}"));
    };
    if token == hash_token(b"") {
        return value.fault("is the hash of an empty token", format!("expected {HASH}"));
    }
    Some(token)
}

fn certificate(value: &Value<'_>, before: &[Caller]) -> Option<String> {
    let text = value.text("the URI or DNS name of a client certificate, or its CN")?;
    if text.is_empty() {
        return value.fault(
            "is empty",
            "expected the URI or DNS name of a client certificate, or its CN",
        );
    }
    match before
        .iter()
        .find(|other| other.certificate.as_deref() == Some(text))
    {
        Some(other) => value.fault(
            format!("is the certificate of caller {:?} too", other.name),
            "expected a certificate of its own",
        ),
        None => Some(text.to_owned()),
    }
}

fn modes(value: &Value<'_>) -> Option<Vec<Mode>> {
    let words = Mode::ALL.map(|mode| (mode.label(), mode));
    let mut modes = value.list_of("modes", |entry| entry.word(&words))?;
    if value
        .list("modes")
        .is_some_and(|entries| entries.is_empty())
    {
        return value.fault(
            "is empty",
            "expected at least one of forward, inspect, tunnel",
        );
    }
    modes.sort_unstable();
    modes.dedup();
    Some(modes)
}

/// A caller known by its address alone must not be confused with another one, or be everybody.
fn check_networks(section: &Section<'_>, caller: &Caller, before: &[Caller]) {
    if caller
        .networks
        .iter()
        .any(|network| network.prefix_len() == 0)
    {
        section.warn(
            "networks",
            "makes everybody this caller, since it has neither a token nor a certificate",
            "expected narrower networks, or a token",
        );
    }
    for other in before.iter().filter(|other| other.is_known_by_network()) {
        let shared = |network: &&ipnet::IpNet| other.networks.contains(network);
        if let Some(network) = caller.networks.iter().find(shared) {
            section.fault(
                "networks",
                format!("{network} is how caller {:?} is known too", other.name),
                "expected networks of its own, or a token",
            );
        }
    }
}
