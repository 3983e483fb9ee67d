//! `[account."DOMAIN"]` and its tenants.

use std::collections::BTreeMap;

use crate::model::{Account, Published, Tenant};

use super::grant::{AccountSettings, QuotaSettings, TenantSettings};
use super::name::{self, AccountFault};
use super::network;
use super::quota;
use super::read::{Key, Section, Value};
use super::shape::{AddressState, EgressAddress};
use super::source::shown;

/// Largest `weight`.
const WEIGHT_MAX: u64 = 1000;

/// Reads every `[account."DOMAIN"]`, merged with `base`, what `[quota]` says.
pub(super) fn read(
    root: &mut Section<'_>,
    base: &QuotaSettings,
    zones: &[String],
    hosts: usize,
    addresses: &[EgressAddress],
) -> BTreeMap<Account, AccountSettings> {
    let mut accounts = BTreeMap::new();
    for (domain, key, value) in root.section("account").entries() {
        let account = account(domain, &key, zones);
        let settings = value
            .table()
            .map(|section| settings(section, base, hosts, addresses));
        accounts.extend(account.zip(settings));
    }
    accounts
}

fn account(domain: &str, key: &Key<'_>, zones: &[String]) -> Option<Account> {
    match name::account(domain, zones) {
        Ok(()) => return Some(Account::from_normal(domain)),
        Err(AccountFault::NotNormal(normal)) => key.fault(
            "is not the account's normal form",
            format!("write [account.{normal:?}]"),
        ),
        Err(AccountFault::NotInAZone) => key.fault(
            format!("{} is not an account of a zone", shown(domain)),
            format!(
                "expected one label before a zone, such as [account.\"acme.{}\"]",
                name::example(zones)
            ),
        ),
    }
    None
}

fn settings(
    mut section: Section<'_>,
    base: &QuotaSettings,
    hosts: usize,
    addresses: &[EgressAddress],
) -> AccountSettings {
    let quota = quota::read(&mut section, base, hosts);
    let tenants = tenants(&section.section("tenant"), &quota);
    let settings = AccountSettings {
        enabled: section.or("enabled", true, Value::flag),
        accepts: section.or("accepts", Vec::new(), |value| accepted(value, addresses)),
        probe: section.get("probe").and_then(|value| value.flag()),
        contacts: section.or("contacts", Vec::new(), contacts),
        quota,
        tenants,
    };
    section.finish();
    settings
}

fn tenants(section: &Section<'_>, quota: &QuotaSettings) -> BTreeMap<Tenant, TenantSettings> {
    let mut tenants = BTreeMap::new();
    for (name, key, value) in section.entries() {
        let tenant = Tenant::parse(name);
        if let Err(error) = &tenant {
            key.fault(
                format!("{} is not a tenant", shown(name)),
                error.to_string(),
            );
        }
        let settings = value.table().map(|section| tenant_settings(section, quota));
        tenants.extend(tenant.ok().zip(settings));
    }
    tenants
}

fn tenant_settings(mut section: Section<'_>, quota: &QuotaSettings) -> TenantSettings {
    let settings = TenantSettings {
        weight: section.or("weight", 1, |value| value.integer(1..=WEIGHT_MAX)),
        concurrency: section
            .get("concurrency")
            .and_then(|value| value.integer(1..=100_000)),
        contacts: section.or("contacts", Vec::new(), contacts),
    };
    if let Some(ceiling) = settings
        .concurrency
        .filter(|ceiling| *ceiling > quota.concurrency)
    {
        section.warn(
            "concurrency",
            format!(
                "is {ceiling}, above the account's {}, so it has no effect",
                quota.concurrency
            ),
            "expected less, or leave it out",
        );
    }
    section.finish();
    settings
}

/// Addresses of the published list that are in use, at least one.
fn accepted(value: &Value<'_>, addresses: &[EgressAddress]) -> Option<Vec<Published>> {
    const EXPECTED: &str = "expected active addresses of the published list";
    let accepted = value.list_of("published addresses", |entry| {
        let address = Published(network::unicast(entry)?);
        let known = addresses.iter().find(|known| known.published == address);
        match known.map(|known| known.state) {
            Some(AddressState::Active) => Some(address),
            Some(state) => {
                let problem = format!("{address} is {}, so nothing leaves from it", state.word());
                entry.warn(problem, EXPECTED);
                Some(address)
            }
            None => entry.fault(format!("{address} is not published"), EXPECTED),
        }
    })?;
    match accepted.is_empty() {
        true => value.fault("is empty, so nothing could leave", EXPECTED),
        false => Some(accepted),
    }
}

fn contacts(value: &Value<'_>) -> Option<Vec<String>> {
    value.list_of("mail addresses", name::mail)
}
