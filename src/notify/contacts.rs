//! Whom a customer's letter goes to. Pure.

use std::collections::BTreeSet;

use super::matter::Subject;
use crate::config::Config;

/// The contacts of a subject: its tenant's, else its account's; for what concerns a whole account that
/// has none, those of all its tenants. Each gets a mail of its own, and sees no other.
pub(super) fn of(subject: &Subject, config: &Config) -> Vec<String> {
    let account = subject.account.as_ref();
    let Some(settings) = account.and_then(|account| config.accounts.get(account)) else {
        return Vec::new();
    };
    let tenant = subject.matter.tenant();
    let of_tenant = tenant.and_then(|tenant| settings.tenants.get(tenant));
    let of_tenant = of_tenant.map(|tenant| &tenant.contacts);
    let of_tenant = of_tenant.filter(|contacts| !contacts.is_empty());
    let chosen: BTreeSet<&String> = match of_tenant {
        Some(contacts) => contacts.iter().collect(),
        None if !settings.contacts.is_empty() => settings.contacts.iter().collect(),
        None if tenant.is_none() => {
            let tenants = settings.tenants.values();
            tenants.flat_map(|tenant| &tenant.contacts).collect()
        }
        None => BTreeSet::new(),
    };
    chosen.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file::{Environment, parse};
    use crate::model::{Account, Published, Tenant};
    use crate::notify::matter::Matter;

    const CONFIG: &str = r#"
[[egress.address]]
published = "192.0.2.1"
[callers]
anonymous = true
[account."acme.cybozu.com"]
contacts = ["admin@acme.example"]
[account."acme.cybozu.com".tenant.one]
contacts = ["one@acme.example"]
[account."acme.cybozu.com".tenant.two]
[account."bare.cybozu.com".tenant.one]
contacts = ["one@bare.example"]
[account."bare.cybozu.com".tenant.two]
contacts = ["two@bare.example"]
"#;

    fn contacts(account: &str, matter: Matter) -> Vec<String> {
        let path = Path::new("/etc/gateway.toml");
        let config = parse(CONFIG, path, &Environment::default()).unwrap().config;
        let account = Some(Account::from_normal(account));
        of(&Subject { account, matter }, &config)
    }

    fn credentials(tenant: &str) -> Matter {
        Matter::CredentialsRefused(Tenant::parse(tenant).ok())
    }

    #[test]
    fn a_tenants_own_contacts_come_before_the_accounts() {
        let of = |tenant| contacts("acme.cybozu.com", credentials(tenant));
        assert_eq!(of("one"), ["one@acme.example"]);
        assert_eq!(of("two"), ["admin@acme.example"]);
        assert_eq!(of("three"), ["admin@acme.example"]);
    }

    #[test]
    fn one_tenant_never_hears_of_another() {
        assert_eq!(contacts("bare.cybozu.com", credentials("three")), [""; 0]);
        let refused = Matter::AddressRefused(Published([192, 0, 2, 1].into()));
        assert_eq!(
            contacts("bare.cybozu.com", refused.clone()),
            ["one@bare.example", "two@bare.example"],
            "it concerns the whole account"
        );
        assert_eq!(contacts("other.cybozu.com", refused), [""; 0]);
    }
}
