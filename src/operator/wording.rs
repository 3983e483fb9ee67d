//! What `explain` says of each step: the figure or the key that decided. Nothing here repeats a query
//! string, credentials, or anything of a request that could not be read.

use std::fmt::{Display, Write as _};

use http::Method;

use super::question::Question;
use crate::config::{AccountPolicy, Caller, Config, TenantRule};
use crate::egress::{Addresses, Presence, Preview};
use crate::model::{Account, Client, Credential, Denial, Detail, Host, Mode, Priority};
use crate::proxy::{Identity, Options, Reason, Scheme, Target};
use crate::quota::{Ask, Budget, Terms};

/// Names that one line lists.
const NAMES_MAX: usize = 10;

/// What the head asks for.
pub(super) fn target(method: &Method, target: Target<'_>) -> String {
    match target {
        Target::Forward { scheme, host, port } => {
            let scheme = match scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            };
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{method} in absolute form, {scheme}://{host}{port}")
        }
        Target::Connect { host, port } => format!("CONNECT {host}:{port}"),
        Target::Inside { host } => format!("{method} inside the connection to {host}"),
        Target::Own { .. } => format!("{method} of a page of the gateway's own"),
    }
}

/// How a CONNECT is served, where that is to be told.
pub(super) fn way(question: &Question, mode: Mode) -> Option<&'static str> {
    match (question.mode, mode) {
        (_, Mode::Inspect) => Some("inspected: its TLS is ended here, each call inside is judged"),
        (Some(Mode::Inspect), Mode::Tunnel) => Some(
            "a tunnel, not inspected: [inspect] does not name account and caller, the caller's \
             modes do not have it, or the host has .s.",
        ),
        (_, Mode::Forward | Mode::Tunnel) => None,
    }
}

/// Who calls.
pub(super) fn identity(identity: &Identity, options: &Options) -> String {
    let name = &identity.caller.rule().name;
    let proof = match identity.credential {
        Some(Credential::Token(_)) => "its token is taken as given",
        Some(Credential::Certificate) => "its certificate is taken as given",
        Some(Credential::Network) => "known by its network",
        None => "without credentials",
    };
    let tenant = match &options.tenant {
        Some(tenant) => format!("tenant {tenant}"),
        None => "no tenant, so the caller is the tenant".to_owned(),
    };
    let priority = identity.priority(options).label();
    format!("caller {name}, {proof}; {tenant}; {priority}")
}

/// The rights that let a call through.
pub(super) fn rights(question: &Question, caller: &Caller, client: Client) -> String {
    let from = client.0.ip();
    let assumed = match question.from {
        Some(_) => "",
        None => " (assumed)",
    };
    let modes = caller.modes.iter().map(|mode| mode.label());
    let mut text = format!(
        "accounts {}, tenants {}, modes {}, from {from}{assumed}",
        list(&caller.accounts),
        tenants(&caller.tenants),
        list(modes),
    );
    if !caller.networks.is_empty() {
        let _ = write!(text, " of networks {}", list(&caller.networks));
    }
    text
}

/// What the state directory says of accounts that kintone does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing of this account.
    Nothing,
    /// It cannot be read.
    Unreadable,
}

/// Whether kintone serves the account, as far as that is known without asking.
pub(super) fn circuit(written: Written) -> String {
    let unknown = match written {
        Written::Nothing => "not closed as unknown",
        Written::Unreadable => "whether it is closed as unknown cannot be read from [state] dir",
    };
    format!(
        "no maintenance announced now, {unknown}; what kintone answered of late is not known here"
    )
}

/// The addresses that the call can leave from.
pub(super) fn addresses(addresses: &Addresses) -> String {
    let usable = addresses
        .snapshots()
        .filter(|address| address.is_usable())
        .map(|address| format!("{} (bind {})", address.published, address.bind));
    format!("leaves from {}", list(usable))
}

/// The limits that apply, a line each.
pub(super) fn quota(
    config: &Config,
    ask: &Ask<'_>,
    terms: &Terms,
    mode: Mode,
    h2_weight: u32,
) -> Vec<String> {
    let Terms {
        concurrency,
        headroom,
        hosts,
        permits,
        ..
    } = terms;
    let mut first = format!(
        "permits: this host has {permits} of kintone's {concurrency}, {headroom} are left to others"
    );
    if *hosts > 1 {
        let _ = write!(first, ", {hosts} hosts share the rest");
        if config.fleet.redis.is_some() {
            first.push_str(
                "; that is its fixed part, and what it has lent or borrowed of late is in \
                 /api/v1/fleet of the gateway that runs",
            );
        }
    }
    if ask.priority == Priority::Batch {
        let _ = write!(first, "; batch leaves {} alone", terms.reserve);
    }
    let _ = write!(first, "; tenant weight {}", terms.weight);
    if let Some(ceiling) = terms.ceiling {
        let _ = write!(first, ", at most {ceiling} at once");
    }
    if mode == Mode::Tunnel {
        let taken = ask.weight.min(*permits);
        let _ = match h2_weight {
            0 => write!(first, "; a tunnel takes 1, one that offers h2 is refused"),
            1 => write!(first, "; a tunnel takes 1"),
            _ => write!(first, "; a tunnel takes {taken}, 1 if it offers no h2"),
        };
    }
    let rate = match terms.rate {
        Some(rate) => format!("rate: {rate} a second, {} at once", terms.burst),
        None => "rate: none".to_owned(),
    };
    let wait = format!(
        "wait: at most {} ms for a permit and the rate; at most {} calls wait",
        terms.wait.as_millis(),
        terms.queue
    );
    vec![first, rate, wait]
}

/// What an app may do a day.
pub(super) fn budget(config: &Config, budget: Budget, priority: Priority, mode: Mode) -> String {
    let part = budget.part;
    let whose = match (&config.fleet.redis, config.fleet.hosts.len()) {
        (_, ..=1) => "",
        (Some(_), _) => " on all hosts together, as far as they hear of each other",
        (None, _) => " on this host, its part",
    };
    match (mode, budget.limit(priority)) {
        (Mode::Tunnel, _) => {
            "calls a day: those in a tunnel are not seen and not counted".to_owned()
        }
        (Mode::Forward | Mode::Inspect, None) => {
            format!("calls a day: {part} an app{whose}, warned of and not refused")
        }
        (Mode::Forward | Mode::Inspect, Some(limit)) => {
            let mut text = format!("calls a day: {part} an app{whose}, refused beyond");
            if priority == Priority::Batch {
                let _ = write!(text, "; batch from {limit} on");
            }
            text
        }
    }
}

/// Where the host's name leads.
pub(super) fn name(host: &Host, preview: Preview) -> String {
    match preview {
        Preview::Static(to) => format!("{host} is {to} by [upstream.resolve]"),
        Preview::Resolver => {
            format!("{host} is looked up when a call goes, and must lead to a public IPv4 address")
        }
    }
}

/// What exactly stands against it.
pub(super) fn refusal(
    config: &Config,
    question: &Question,
    reason: Reason,
    account: Option<&Account>,
) -> String {
    let Some(detail) = reason.detail() else {
        return reason.code().label().to_owned();
    };
    if let Reason::Options(error) = reason {
        return error.to_string();
    }
    let because = match reason {
        Reason::Denied(Denial::AuthenticationRequired(_)) => credentials(config, detail),
        Reason::Denied(Denial::CallerForbidden(_)) => right(config, question, account, detail),
        Reason::Denied(Denial::DestinationForbidden(_)) => destination(config, detail),
        Reason::Denied(Denial::EgressUnavailable(_)) => unusable(config),
        Reason::Denied(_) | Reason::Failed(_) | Reason::Options(_) => String::new(),
    };
    if because.is_empty() {
        detail.to_string()
    } else {
        format!("{detail}: {because}")
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other details say it all by themselves"
)]
fn credentials(config: &Config, detail: Detail) -> String {
    match detail {
        Detail::UnknownCaller => {
            let names = config.callers.named.iter().map(|caller| &caller.name);
            format!("no [[caller]] has that name; there are {}", list(names))
        }
        Detail::WrongToken => {
            "it has no token, and does not call from one of its networks".to_owned()
        }
        Detail::NoCredentials => "no caller is known by that address, and [callers] anonymous \
             does not let it in"
            .to_owned(),
        _ => String::new(),
    }
}

fn right(
    config: &Config,
    question: &Question,
    account: Option<&Account>,
    detail: Detail,
) -> String {
    let name = question.user.split(['+', ';']).next().unwrap_or_default();
    let named = config.callers.named.iter();
    let caller = named.clone().find(|caller| caller.name.as_str() == name);
    let account = account.map(ToString::to_string).unwrap_or_default();
    match (detail, caller) {
        (Detail::CallerDisabled, _) => "[[caller]] enabled = false".to_owned(),
        (Detail::AccountDisabled, _) => format!("[account.\"{account}\"] enabled = false"),
        (Detail::NetworkForbidden, Some(caller)) => {
            let networks = list(&caller.networks);
            format!(
                "{} is in none of networks {networks}",
                question.client(config)
            )
        }
        (Detail::AccountForbidden, Some(caller)) => {
            format!("{account} is none of accounts {}", list(&caller.accounts))
        }
        (Detail::TenantForbidden, Some(caller)) => {
            format!("it is none of tenants {}", tenants(&caller.tenants))
        }
        (Detail::ModeForbidden, Some(caller)) => {
            let modes = caller.modes.iter().map(|mode| mode.label());
            format!("it is none of modes {}", list(modes))
        }
        _ => String::new(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other details say it all by themselves"
)]
fn destination(config: &Config, detail: Detail) -> String {
    match detail {
        Detail::NotAKintoneDomain => {
            let zones = &config.upstream.zones;
            format!(
                "only ACCOUNT.ZONE and ACCOUNT.s.ZONE of zones {}",
                list(zones)
            )
        }
        Detail::PortForbidden => {
            "https and CONNECT go to port 443, http to none, 80 or 443".to_owned()
        }
        Detail::AccountNotConfigured => {
            debug_assert_eq!(config.upstream.accounts, AccountPolicy::Configured);
            "[upstream] accounts = \"configured\", and it has no [account] table".to_owned()
        }
        Detail::ClientCertificateHost => {
            "hosts with .s. ask for a client certificate: use a tunnel".to_owned()
        }
        Detail::AddressForbidden => {
            "[upstream.resolve] leads to an address that is not public and not in [upstream] \
             allow_networks"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Why no address can be used.
fn unusable(config: &Config) -> String {
    let addresses = Addresses::new(&config.addresses);
    let known = addresses.snapshots().map(|address| {
        let presence = match address.presence {
            Presence::Up => "not active",
            Presence::Absent => "not on this host",
        };
        format!(
            "{} (bind {}) is {presence}",
            address.published, address.bind
        )
    });
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        "no [[egress.address]] has a bind for this host".to_owned()
    } else {
        list(known)
    }
}

fn tenants(rule: &TenantRule) -> String {
    match rule {
        TenantRule::Any => "*".to_owned(),
        TenantRule::Only(patterns) => list(patterns),
    }
}

/// The first few, with commas.
fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let mut items = items.into_iter();
    let first: Vec<_> = items
        .by_ref()
        .take(NAMES_MAX)
        .map(|it| it.to_string())
        .collect();
    let more = if items.next().is_some() { ", …" } else { "" };
    if first.is_empty() {
        return "none".to_owned();
    }
    format!("{}{more}", first.join(", "))
}
