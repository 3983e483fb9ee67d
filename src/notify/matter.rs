//! What people are told of, and who is.

use crate::model::{Account, Cause, Code, Published, Tenant};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matter {
    /// The customer's kintone refuses one of the published addresses. It concerns the whole account.
    AddressRefused(Published),
    /// kintone refuses the credentials of a tenant's calls.
    CredentialsRefused(Option<Tenant>),
    /// An app's calls of the day are near their budget.
    BudgetNear,
    /// The account's limit has been full for long.
    LimitFull(Option<Tenant>),
    /// kintone does not know the account.
    AccountUnknown(Option<Tenant>),
    /// kintone is in maintenance for the account.
    Maintenance,
    /// A published address is refused while it is not seen to be right here.
    AddressWrong(Published),
    /// Calls fail in the gateway, or on the way to kintone.
    Broken(Code),
}

/// What an episode is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The customer's kintone; `None`: it concerns them all.
    pub account: Option<Account>,
    /// What is wrong with it.
    pub matter: Matter,
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// The contacts of the tenant or of the account.
    Customers,
    /// The people who run this gateway.
    Operators,
}

impl Matter {
    /// Whether customers are told: only of what they can mend. The rest is the operators' to know.
    #[must_use]
    pub const fn concerns_customers(&self) -> bool {
        match self {
            Self::AddressRefused(_)
            | Self::CredentialsRefused(_)
            | Self::BudgetNear
            | Self::LimitFull(_)
            | Self::AccountUnknown(_) => true,
            Self::Maintenance | Self::AddressWrong(_) | Self::Broken(_) => false,
        }
    }

    /// The cause, as it is spelled elsewhere in the gateway.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match self {
            Self::AddressRefused(_) => Cause::IpNotAllowlisted.label(),
            Self::CredentialsRefused(_) => Cause::Authentication.label(),
            Self::BudgetNear => "daily-budget",
            Self::LimitFull(_) => "limit-full",
            Self::AccountUnknown(_) => Cause::AccountUnknown.label(),
            Self::Maintenance => Cause::Maintenance.label(),
            Self::AddressWrong(_) => "address-wrong",
            Self::Broken(code) => code.label(),
        }
    }

    /// Whose calls it concerns; `None`: the whole account's, or those of nobody in particular.
    #[must_use]
    pub const fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::CredentialsRefused(tenant)
            | Self::LimitFull(tenant)
            | Self::AccountUnknown(tenant) => tenant.as_ref(),
            Self::AddressRefused(_)
            | Self::BudgetNear
            | Self::Maintenance
            | Self::AddressWrong(_)
            | Self::Broken(_) => None,
        }
    }

    /// Which of the published addresses it concerns.
    #[must_use]
    pub const fn address(&self) -> Option<Published> {
        match self {
            Self::AddressRefused(address) | Self::AddressWrong(address) => Some(*address),
            Self::CredentialsRefused(_)
            | Self::BudgetNear
            | Self::LimitFull(_)
            | Self::AccountUnknown(_)
            | Self::Maintenance
            | Self::Broken(_) => None,
        }
    }
}

impl Matter {
    /// The matter that [`Matter::cause`], [`Matter::tenant`] and [`Matter::address`] spell; `None`: none.
    #[must_use]
    pub fn of(cause: &str, tenant: Option<Tenant>, address: Option<Published>) -> Option<Self> {
        let named = |matter: &Self| matter.cause() == cause;
        let with_address = address.map(|it| [Self::AddressRefused(it), Self::AddressWrong(it)]);
        let others = [
            Self::CredentialsRefused(tenant.clone()),
            Self::LimitFull(tenant.clone()),
            Self::AccountUnknown(tenant),
            Self::BudgetNear,
            Self::Maintenance,
        ];
        let mut all = with_address
            .into_iter()
            .flatten()
            .chain(others)
            .chain(Code::ALL.into_iter().map(Self::Broken));
        all.find(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matter_is_what_its_parts_spell() {
        let address = Published([192, 0, 2, 1].into());
        let tenant = Tenant::parse("one").ok();
        let mut matters = vec![
            Matter::AddressRefused(address),
            Matter::CredentialsRefused(tenant.clone()),
            Matter::CredentialsRefused(None),
            Matter::BudgetNear,
            Matter::LimitFull(tenant.clone()),
            Matter::AccountUnknown(tenant),
            Matter::Maintenance,
            Matter::AddressWrong(address),
        ];
        matters.push(Matter::Broken(Code::UpstreamTls));
        for matter in matters {
            let again = Matter::of(matter.cause(), matter.tenant().cloned(), matter.address());
            assert_eq!(again.as_ref(), Some(&matter));
        }
        assert_eq!(Matter::of("weather", None, None), None);
    }
}
