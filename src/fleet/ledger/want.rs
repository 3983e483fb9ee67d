//! Who should have how many permits: policy alone, no safety hangs on it.
//!
//! Permits go to tenants by weight, wherever their calls are, up to what they want (max-min fairness);
//! a tenant's go to the hosts in proportion to its calls there. Within a host it has that proportion
//! of its weight: so it gets on each what came there for it, and on all together its share once.

use std::collections::BTreeMap;

use crate::fleet::row::TenantRow;
use crate::fleet::share::TenantPortion;

/// One host, as far as an account goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Station {
    /// Permits in use and wanted.
    pub(super) demand: u32,
    /// The same by tenant; empty: it is taken for one of its own.
    pub(super) tenants: Vec<TenantRow>,
}

/// Who competes for an account.
#[derive(Debug, Clone, Copy)]
enum Claimant {
    /// The tenants: there are several.
    Tenant,
    /// The hosts: all calls are of one tenant, or nobody knows whose.
    Host,
}

/// The sum of those tenants of a row that have no place of their own there.
pub(super) const REST: u32 = 0;

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
    let claimant = claimant(stations);
    let mut claims: BTreeMap<u64, Claim> = BTreeMap::new();
    for (host, station) in stations.iter().enumerate() {
        for (id, weight, demand) in station.claims(host, claimant) {
            let claim = claims.entry(id).or_default();
            claim.weight = claim.weight.max(weight);
            claim.demand += demand;
        }
    }
    fill(f64::from(total), &mut claims);
    let exact = stations.iter().enumerate().map(|(host, station)| {
        let claims = station.claims(host, claimant).map(|(id, _, demand)| {
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

/// How much of the tenants of `here` is there, of those that one of the `others` has too.
pub(super) fn portions(here: &[TenantRow], others: &[Station]) -> Vec<TenantPortion> {
    if here.len() < 2 {
        return Vec::new();
    }
    let named = here.iter().filter(|tenant| tenant.id != REST);
    let portions = named.map(|tenant| {
        let tenants = others.iter().flat_map(|station| &station.tenants);
        let its = tenants.filter(|other| other.id == tenant.id);
        let everywhere = its.fold(tenant.demand, |sum, other| sum.saturating_add(other.demand));
        TenantPortion {
            id: tenant.id,
            here: tenant.demand,
            everywhere,
        }
    });
    portions
        .filter(|portion| portion.here < portion.everywhere)
        .collect()
}

fn claimant(stations: &[Station]) -> Claimant {
    let tenants = stations.iter().flat_map(|station| &station.tenants);
    let mut ids = tenants.map(|tenant| tenant.id);
    let first = ids.next();
    match ids.all(|id| Some(id) == first) {
        true => Claimant::Host,
        false => Claimant::Tenant,
    }
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
    fn claims(
        &self,
        host: usize,
        claimant: Claimant,
    ) -> impl Iterator<Item = (u64, f64, f64)> + use<'_> {
        let tenants = match claimant {
            Claimant::Tenant => &self.tenants[..],
            Claimant::Host => &[],
        };
        let alone = tenants.is_empty().then(|| {
            let id = u64::from(u32::MAX) + 1 + host as u64;
            (id, 1.0, f64::from(self.demand))
        });
        let tenants = tenants.iter().map(|tenant| {
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
    fn hosts_of_one_tenant_share_alike_and_a_tenant_alone_on_its_host_has_its_weight() {
        let stations = [host(&[(1, 1, 10)]), host(&[(1, 1, 500)])];
        assert_eq!(targets(98, &stations), [10, 88]);
        let stations = [host(&[(1, 1, 500)]), alone(500)];
        assert_eq!(targets(98, &stations), [49, 49]);
        let stations = [host(&[(1, 1, 500), (2, 1, 500)]), host(&[(3, 2, 500)])];
        assert_eq!(targets(100, &stations), [50, 50]);
    }

    fn portion(id: u32, here: u32, everywhere: u32) -> TenantPortion {
        TenantPortion {
            id,
            here,
            everywhere,
        }
    }

    #[test]
    fn a_tenants_portion_is_its_part_of_what_it_wants_everywhere() {
        let here = host(&[(1, 1, 200), (2, 5, 200), (3, 1, 7)]).tenants;
        let others = [host(&[(1, 1, 200)]), host(&[(1, 1, 400), (3, 1, 0)])];
        assert_eq!(portions(&here, &others[..1]), [portion(1, 200, 400)]);
        assert_eq!(portions(&here, &others), [portion(1, 200, 800)]);
    }

    #[test]
    fn a_tenant_is_here_whole_where_others_say_nothing_of_it() {
        let here = host(&[(1, 1, 200), (REST, 9, 200)]).tenants;
        assert_eq!(portions(&here, &[]), []);
        assert_eq!(portions(&here, &[Station::default(), alone(500)]), []);
        let rest = host(&[(2, 1, 10), (REST, 3, 50)]);
        assert_eq!(portions(&here, &[rest]), [], "they are others");
        let alone_here = host(&[(1, 1, 200)]).tenants;
        assert_eq!(portions(&alone_here, &[host(&[(1, 1, 9)])]), []);
    }

    /// What a host with those permits gives each of its tenants by weight and portion.
    fn within(permits: u32, here: &Station, portions: &[TenantPortion]) -> Vec<f64> {
        let part = |id: u32| {
            let portion = portions.iter().find(|portion| portion.id == id);
            portion.map_or(1.0, |portion| {
                f64::from(portion.here) / f64::from(portion.everywhere)
            })
        };
        let claim = |tenant: &TenantRow| Claim {
            weight: f64::from(tenant.weight) * part(tenant.id),
            demand: f64::from(tenant.demand),
            gets: 0.0,
        };
        let tenants = here.tenants.iter();
        let mut claims = tenants
            .map(|tenant| (u64::from(tenant.id), claim(tenant)))
            .collect();
        fill(f64::from(permits), &mut claims);
        claims.values().map(|claim| claim.gets).collect()
    }

    #[test]
    fn within_its_hosts_a_tenant_gets_what_the_permits_came_for() {
        let stations = [host(&[(1, 1, 200), (2, 1, 200)]), host(&[(1, 1, 200)])];
        assert_eq!(targets(100, &stations), [75, 25]);
        let portions = portions(&stations[0].tenants, &stations[1..]);
        assert_eq!(within(75, &stations[0], &portions), [25.0, 50.0]);
    }

    #[test]
    fn one_that_wants_little_here_gets_it_and_weights_count_once() {
        let stations = [
            host(&[(1, 3, 300), (2, 1, 400), (3, 1, 4)]),
            host(&[(1, 3, 100), (3, 1, 4)]),
        ];
        let targets = targets(100, &stations);
        assert_eq!(targets, [79, 21]);
        let portions = portions(&stations[0].tenants, &stations[1..]);
        let gets = within(targets[0], &stations[0], &portions);
        assert!((gets[0] - 51.75).abs() < 0.5, "{gets:?}");
        assert!((gets[1] - 23.0).abs() < 0.5, "{gets:?}");
        assert!((gets[2] - 4.0).abs() < 0.1, "{gets:?}");
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
