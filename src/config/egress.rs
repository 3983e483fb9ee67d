//! `[[egress.address]]`: the published list, and what each host binds for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::model::{Bind, HostName, Published};
use jiff::civil::Date;

use super::network;
use super::public::days;
use super::read::{Section, Value};
use super::shape::{AddressState, EgressAddress, Fleet, Notice};
use super::source::shown;

/// Every bind address of the fleet so far, by host; the value is the published address it serves.
type Binds = BTreeMap<(String, Ipv4Addr), Ipv4Addr>;

/// Reads `[egress]`. `fleet` says which host this is.
pub(super) fn read(root: &mut Section<'_>, fleet: &Fleet) -> (Vec<EgressAddress>, Notice) {
    const ADDRESSES: &str = "[[egress.address]] tables";
    let is_fleet = root.section("fleet").is_present();
    let mut section = root.section("egress");
    let mut addresses: Vec<EgressAddress> = Vec::new();
    let mut binds = Binds::new();
    let entries = section
        .get("address")
        .and_then(|value| value.list(ADDRESSES));
    for entry in entries.iter().flatten().filter_map(Value::table) {
        if let Some(address) = address(entry, fleet, is_fleet, &addresses, &mut binds) {
            addresses.push(address);
        }
    }
    let lacks = |problem: &str| {
        section.fault(
            "address",
            problem,
            "expected an [[egress.address]] with state \"active\" and a bind for this host",
        );
    };
    let is_usable =
        |address: &EgressAddress| address.state == AddressState::Active && address.bind.is_some();
    // A host that is not of the fleet has no bind of its own either, and was told already.
    let is_host_known = fleet.hosts.contains(&fleet.host);
    if entries.as_ref().is_none_or(Vec::is_empty) {
        lacks("no egress address: nothing could leave");
    } else if is_host_known && !addresses.is_empty() && !addresses.iter().any(is_usable) {
        let host = shown(&fleet.host);
        lacks(&format!(
            "no active address has a bind for this host, {host}: nothing could leave"
        ));
    }
    let translated = addresses.iter().find(|address| address.is_translated());
    if let Some(address) = translated.filter(|_| !root.section("verify").is_present()) {
        let bind = address
            .bind
            .map_or_else(String::new, |bind| bind.to_string());
        section.warn(
            "address",
            format!(
                "{} is bound as {bind}, and nobody asks whether it leaves as published",
                address.published
            ),
            "switch [verify] on, which has echoes say so (docs/verify.md)",
        );
    }
    let default = Notice::default();
    let notice = Notice {
        minimum_days: section.or("minimum_notice", default.minimum_days, days),
        overlap_days: section.or("overlap", default.overlap_days, days),
    };
    section.finish();
    (addresses, notice)
}

fn address(
    mut section: Section<'_>,
    fleet: &Fleet,
    is_fleet: bool,
    before: &[EgressAddress],
    binds: &mut Binds,
) -> Option<EgressAddress> {
    let published = section.required("published", "expected the address that customers allow");
    let published_address = published.as_ref().and_then(network::unicast);
    if let (Some(value), Some(address)) = (&published, published_address)
        && before.iter().any(|other| other.published.0 == address)
    {
        value.fault::<()>(
            format!("{address} is published twice"),
            "each address stands once",
        );
    }
    let bind = section.get("bind");
    let by_host = match (&bind, published_address) {
        (Some(value), _) => hosts_of(value, fleet, is_fleet),
        (None, Some(own)) => fleet.hosts.iter().map(|host| (host.clone(), own)).collect(),
        (None, None) => BTreeMap::new(),
    };
    if let Some(own) = published_address {
        note_binds(&section, &by_host, own, binds);
    }
    use AddressState::{Active, Planned, Retiring};
    let states = [Active, Planned, Retiring].map(|state| (state.word(), state));
    let state = section.or("state", Active, |value| value.word(&states));
    let valid_from = section.get("valid_from").and_then(|value| date(&value));
    let retire_after = section.get("retire_after").and_then(|value| date(&value));
    if let (Some(from), Some(after)) = (valid_from, retire_after)
        && from >= after
    {
        section.fault(
            "retire_after",
            format!("is {after}, not later than valid_from, {from}"),
            "expected a later date",
        );
    }
    section.finish();
    let others = fleet.hosts.iter().filter(|host| **host != fleet.host);
    let elsewhere = others.filter(|host| by_host.contains_key(*host));
    Some(EgressAddress {
        published: Published(published_address?),
        bind: by_host.get(&fleet.host).copied().map(Bind),
        elsewhere: elsewhere.map(|host| HostName::new(host)).collect(),
        state,
        valid_from,
        retire_after,
    })
}

/// What each host binds: the same everywhere, or a table by host.
fn hosts_of(value: &Value<'_>, fleet: &Fleet, is_fleet: bool) -> BTreeMap<String, Ipv4Addr> {
    if !value.raw().is_table() {
        let address = network::unicast(value);
        return address
            .into_iter()
            .flat_map(|address| fleet.hosts.iter().map(move |host| (host.clone(), address)))
            .collect();
    }
    let mut by_host = BTreeMap::new();
    for (host, key, value) in value.table().iter().flat_map(Section::entries) {
        if !fleet.hosts.iter().any(|known| known == host) {
            let problem = format!("{} is not one of [fleet] hosts", shown(host));
            if is_fleet {
                key.fault(problem, "add it there, or correct the name");
            } else {
                key.warn(
                    problem,
                    "hosts that share quotas must all stand in [fleet] hosts",
                );
            }
        }
        if let Some(address) = network::unicast(&value) {
            by_host.insert(host.to_owned(), address);
        }
    }
    by_host
}

/// Two published addresses cannot leave one host by one bind address.
fn note_binds(
    section: &Section<'_>,
    by_host: &BTreeMap<String, Ipv4Addr>,
    published: Ipv4Addr,
    binds: &mut Binds,
) {
    let mut is_told = false;
    for (host, bind) in by_host {
        let other = binds.insert((host.clone(), *bind), published);
        if let Some(other) = other.filter(|other| *other != published && !is_told) {
            section.fault(
                "bind",
                format!("{bind} is bound on {host:?} for {other} already"),
                "expected another bind address for each published address of a host",
            );
            is_told = true;
        }
    }
}

/// A date, bare or in quotes.
fn date(value: &Value<'_>) -> Option<Date> {
    const DATE: &str = "a date such as 2027-04-01 (00:00 JST)";
    let text = match value.raw().as_datetime() {
        Some(datetime) => datetime.to_string(),
        None => value.text(DATE)?.to_owned(),
    };
    // Longer texts may be dates with a time of day, which would be dropped in silence.
    let date = text
        .parse()
        .ok()
        .filter(|_| text.len() == "2027-04-01".len());
    date.map_or_else(
        || value.fault(format!("is {}", shown(&text)), format!("expected {DATE}")),
        Some,
    )
}
