//! How much of a tenant is on this host, where hosts share an account.
//!
//! A tenant that calls by several hosts would have its whole share on each. So on each it competes
//! with as much of its weight as it has of its calls there.

use crate::model::Tenant;

/// The part of a tenant's calls over all hosts that is on this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion(u16);

/// A tenant of which a portion is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantPortion {
    /// Which.
    pub tenant: Tenant,
    /// How much of it.
    pub portion: Portion,
}

impl Portion {
    /// All of its calls come by this host.
    pub const WHOLE: Self = Self(256);
    /// It never has less, however many calls it has elsewhere.
    const LEAST: u16 = Self::WHOLE.0 / 16;

    /// The portion of a tenant that wants so much here, of what it wants on all hosts.
    #[must_use]
    pub fn of(here: u32, everywhere: u32) -> Self {
        let whole = u64::from(Self::WHOLE.0);
        let everywhere = u64::from(everywhere.max(here).max(1));
        let part = (u64::from(here) * whole + everywhere / 2) / everywhere;
        Self((part as u16).clamp(Self::LEAST, Self::WHOLE.0))
    }

    /// What a tenant of this weight competes with, where another one is whole of another weight.
    pub(super) fn of_weight(self, weight: u16) -> u64 {
        u64::from(weight) * u64::from(self.0)
    }
}

impl TenantPortion {
    /// How much of a tenant is here by these portions.
    pub(super) fn of(portions: &[Self], tenant: &Tenant) -> Portion {
        let its = portions.iter().find(|portion| portion.tenant == *tenant);
        its.map_or(Portion::WHOLE, |its| its.portion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_is_a_part_of_the_whole_with_a_floor() {
        let of_one = |here, everywhere| Portion::of(here, everywhere).of_weight(1);
        assert_eq!(of_one(40, 40), 256);
        assert_eq!(of_one(40, 80), 128);
        assert_eq!((of_one(60, 80), of_one(20, 80)), (192, 64));
        assert_eq!((of_one(1, 1_000), of_one(0, 9)), (16, 16));
        assert_eq!((of_one(0, 0), of_one(9, 0)), (16, 256));
        assert_eq!(of_one(u32::MAX, u32::MAX), 256);
    }

    #[test]
    fn portions_of_all_hosts_are_the_whole_but_for_the_floor() {
        for hosts in [[10, 30, 24], [7, 7, 7], [40, 40, 1], [9, 400, 100]] {
            let sum: u32 = hosts.iter().sum();
            let portions = hosts.map(|here| Portion::of(here, sum).of_weight(1));
            let all: u64 = portions.iter().sum();
            let floors = portions.iter().filter(|portion| **portion == 16).count() as u64;
            let most = 258 + 16 * floors;
            assert!((254..=most).contains(&all), "{hosts:?}: {portions:?}");
        }
    }
}
