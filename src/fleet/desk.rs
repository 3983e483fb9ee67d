//! The quota as the ledger sees it.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::moment::Moment;
use super::share::{Foreign, Part, Permits, Share, TenantUse, Usage};
use crate::model::{Account, Tenant};
use crate::quota::{self, PartOf, Quotas};

/// A quota at the ledger's service.
#[derive(Debug)]
pub(super) struct Desk(pub(super) Quotas);

impl Permits for Desk {
    fn active(&mut self) -> BTreeMap<Account, Usage> {
        let usages = self.0.usages().into_iter();
        usages
            .map(|(account, usage)| (account, usage_of(&usage)))
            .collect()
    }

    fn total(&mut self, account: &Account) -> Option<u32> {
        self.0.total_of(account)
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
        self.0.set_share(account, share)
    }

    fn unset(&mut self, account: &Account) {
        self.0.unset_share(account);
    }

    fn set_part(&mut self, part: &Part) {
        let part = part.clone();
        self.0.set_part(&PartOf::new(move |total| part.of(total)));
    }
}

fn usage_of(usage: &quota::Usage) -> Usage {
    let tenants = usage.tenants.iter().map(|tenant| TenantUse {
        id: id_of(&tenant.tenant),
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
