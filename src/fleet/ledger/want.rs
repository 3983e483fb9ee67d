//! Who should have how many permits: policy alone, no safety hangs on it.
//!
//! Permits go to tenants by weight, wherever their calls are, up to what they want (max-min fairness);
//! a tenant's go to the hosts in proportion to its calls there.

use std::collections::BTreeMap;

use crate::fleet::row::TenantRow;

/// One host, as far as an account goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Station {
    /// Permits in use and wanted.
    pub(super) demand: u32,
    /// The same by tenant; empty: it is one tenant.
    pub(super) tenants: Vec<TenantRow>,
}

/// A tenant over all hosts.
#[derive(Debug, Default, Clone, Copy)]
struct Claim {
    weight: f64,
    demand: f64,
    gets: f64,
}

/// How many of `total` permits each host should have. What nobody wants is not given out, but for
/// some slack to those that want something.
pub(super) fn targets(total: u32, stations: &[Station]) -> Vec<u32> {
    let mut claims: BTreeMap<u64, Claim> = BTreeMap::new();
    for (host, station) in stations.iter().enumerate() {
        for (id, weight, demand) in station.claims(host) {
            let claim = claims.entry(id).or_default();
            claim.weight = claim.weight.max(weight);
            claim.demand += demand;
        }
    }
    fill(f64::from(total), &mut claims);
    let exact = stations.iter().enumerate().map(|(host, station)| {
        let claims = station.claims(host).map(|(id, _, demand)| {
            let claim = claims.get(&id).copied().unwrap_or_default();
            match claim.demand > 0.0 {
                true => claim.gets * demand / claim.demand,
                false => 0.0,
            }
        });
        claims.sum::<f64>()
    });
    let mut targets = whole(&exact.collect::<Vec<_>>());
    let mut left = total.saturating_sub(targets.iter().sum());
    for (target, station) in targets.iter_mut().zip(stations) {
        if station.demand > 0 {
            let slack = (station.demand / 4 + 2).min(left);
            *target += slack;
            left -= slack;
        }
    }
    targets
}

/// Gives every claim the same for its weight, but not more than it wants.
fn fill(total: f64, claims: &mut BTreeMap<u64, Claim>) {
    let mut order: Vec<u64> = claims.keys().copied().collect();
    order.sort_by(|one, other| {
        let level = |id| {
            let claim: &Claim = &claims[id];
            claim.demand / claim.weight
        };
        level(one).total_cmp(&level(other))
    });
    let mut left = total;
    let mut weight: f64 = claims.values().map(|claim| claim.weight).sum();
    for id in &order {
        if let Some(claim) = claims.get_mut(id) {
            claim.gets = claim.demand.min(left * claim.weight / weight);
            left -= claim.gets;
            weight -= claim.weight;
        }
    }
}

/// Whole numbers of the same sum, by the largest remainders.
fn whole(exact: &[f64]) -> Vec<u32> {
    let mut floors: Vec<u32> = exact.iter().map(|part| (part + 1e-6) as u32).collect();
    let sum = exact.iter().sum::<f64>().round() as u32;
    let mut order: Vec<usize> = (0..exact.len()).collect();
    let rest = |host: usize| exact[host] - f64::from(floors[host]);
    order.sort_by(|one, other| rest(*other).total_cmp(&rest(*one)));
    let left = sum.saturating_sub(floors.iter().sum());
    for host in order.into_iter().take(left as usize) {
        floors[host] += 1;
    }
    floors
}

impl Station {
    /// Its tenants, or itself as one: who, weight, demand.
    fn claims(&self, host: usize) -> impl Iterator<Item = (u64, f64, f64)> {
        let alone = self.tenants.is_empty().then(|| {
            let id = u64::from(u32::MAX) + 1 + host as u64;
            (id, 1.0, f64::from(self.demand))
        });
        let tenants = self.tenants.iter().map(|tenant| {
            let weight = f64::from(tenant.weight.max(1));
            (u64::from(tenant.id), weight, f64::from(tenant.demand))
        });
        tenants.chain(alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(tenants: &[(u32, u32, u32)]) -> Station {
        Station {
            demand: tenants.iter().map(|tenant| tenant.2).sum(),
            tenants: tenants
                .iter()
                .map(|&(id, weight, demand)| TenantRow { id, weight, demand })
                .collect(),
        }
    }

    fn alone(demand: u32) -> Station {
        Station {
            demand,
            tenants: Vec::new(),
        }
    }

    #[test]
    fn permits_follow_tenants_not_hosts() {
        let many: Vec<_> = (0..7).map(|id| (id, 1, 50)).collect();
        let few: Vec<_> = (7..10).map(|id| (id, 1, 50)).collect();
        assert_eq!(targets(100, &[host(&many), host(&few)]), [70, 30]);
        assert_eq!(targets(98, &[alone(500), alone(500)]), [49, 49]);
        let heavy = [host(&[(1, 3, 500)]), host(&[(2, 1, 500)])];
        assert_eq!(targets(100, &heavy), [75, 25]);
    }

    #[test]
    fn a_tenant_on_two_hosts_counts_once() {
        let stations = [host(&[(1, 1, 200), (2, 1, 200)]), host(&[(1, 1, 200)])];
        assert_eq!(targets(100, &stations), [75, 25]);
    }

    #[test]
    fn nobody_gets_more_than_he_wants_but_for_slack() {
        assert_eq!(targets(98, &[alone(10), alone(500)]), [10, 88]);
        assert_eq!(targets(98, &[alone(0), alone(500)]), [0, 98]);
        assert_eq!(targets(98, &[alone(0), alone(20)]), [0, 27]);
        assert_eq!(targets(98, &[alone(0), alone(0)]), [0, 0]);
        assert_eq!(targets(0, &[alone(5), alone(5)]), [0, 0]);
    }

    #[test]
    fn the_whole_is_given_out_when_it_is_wanted() {
        for total in 0..50 {
            for hosts in 1..6 {
                let stations: Vec<_> = (0..hosts).map(|n| alone(n + total)).collect();
                let sum: u32 = targets(total, &stations).iter().sum();
                assert_eq!(sum, total, "{hosts} hosts");
            }
        }
    }
}
