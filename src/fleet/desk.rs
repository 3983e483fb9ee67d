//! The quota as the ledger sees it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::moment::Moment;
use super::share::{Foreign, Part, Permits, Share, TenantPortion, TenantUse, Usage};
use crate::model::{Account, Tenant};
use crate::quota::{self, PartOf, Portion, Quotas};

/// A quota at the ledger's service.
#[derive(Debug)]
pub(super) struct Desk {
    quotas: Quotas,
    /// The tenants that were told of last, by account: who each of the ledger's is.
    tenants: BTreeMap<Account, Vec<(u32, Tenant)>>,
}

impl Desk {
    /// A desk for these quotas.
    pub(super) const fn new(quotas: Quotas) -> Self {
        Self {
            quotas,
            tenants: BTreeMap::new(),
        }
    }
}

impl Permits for Desk {
    fn active(&mut self) -> BTreeMap<Account, Usage> {
        self.tenants.clear();
        let mut active = BTreeMap::new();
        for (account, usage) in self.quotas.usages() {
            let names = usage.tenants.iter().map(|one| one.tenant.clone());
            let names: Vec<_> = names.map(|name| (id_of(&name), name)).collect();
            active.insert(account.clone(), usage_of(&usage, &names));
            // One alone competes with nobody.
            if names.len() > 1 {
                self.tenants.insert(account, names);
            }
        }
        active
    }

    fn total(&mut self, account: &Account) -> Option<u32> {
        self.quotas.total_of(account)
    }

    fn set(&mut self, account: &Account, share: &Share) -> u32 {
        let loans = share.loans.iter().map(|loan| quota::Loan {
            permits: loan.permits,
            until: loan.until.since_boot(),
        });
        let share = quota::Share {
            own: share.own,
            loans: loans.collect(),
        };
        self.quotas.set_share(account, share)
    }

    fn set_portions(&mut self, account: &Account, portions: &[TenantPortion]) {
        let names = self.tenants.get(account);
        let name_of = |id: u32| {
            names?
                .iter()
                .find(|(one, _)| *one == id)
                .map(|(_, name)| name)
        };
        let portions = portions.iter().filter_map(|portion| {
            Some(quota::TenantPortion {
                tenant: name_of(portion.id)?.clone(),
                portion: Portion::of(portion.here, portion.everywhere),
            })
        });
        self.quotas
            .set_portions(account, &portions.collect::<Vec<_>>());
    }

    fn unset(&mut self, account: &Account) {
        self.quotas.unset_share(account);
    }

    fn set_part(&mut self, part: &Part) {
        let part = part.clone();
        self.quotas
            .set_part(&PartOf::new(move |total| part.of(total)));
    }
}

fn usage_of(usage: &quota::Usage, names: &[(u32, Tenant)]) -> Usage {
    let tenants = usage.tenants.iter().zip(names);
    let tenants = tenants.map(|(tenant, (id, _))| TenantUse {
        id: *id,
        weight: tenant.weight,
        demand: tenant.demand,
    });
    Usage {
        in_use: usage.in_use,
        queued: usage.queued,
        tenants: tenants.collect(),
        foreign: usage.foreign.map(|foreign| Foreign {
            sent_at: Moment::from_boot(foreign.sent_after),
            calls: foreign.calls,
        }),
    }
}

/// The same on every host, and of no use to who reads the store: a tenant's name is nobody's business
/// there.
fn id_of(tenant: &Tenant) -> u32 {
    let digest = Sha256::digest(tenant.as_str().as_bytes());
    let (bytes, _) = digest.split_first_chunk().expect("32 bytes");
    u32::from_be_bytes(*bytes)
}
