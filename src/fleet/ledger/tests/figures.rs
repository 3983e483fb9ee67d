//! How soon permits are where they are needed.

use std::time::Duration;

use super::site::{Site, acme, setup};
use crate::fleet::ledger::{Before, Heard, Kept, Setup};
use crate::fleet::share::{Foreign, TenantPortion, TenantUse};

const AB: [&str; 2] = ["gw-a", "gw-b"];
const BEAT: Duration = Duration::from_millis(200);

/// Both hosts beat every 200 ms, without nudges, for so long; calls end and start all the while.
fn run(site: &mut Site, span: Duration, is_there: bool) {
    let end = site.now + span;
    while site.now < end {
        for host in 0..site.hosts.len() {
            if is_there {
                site.beat(host);
            } else {
                site.beat_alone(host);
            }
            let ended = site.used(host) / 4;
            site.end(host, ended);
        }
        site.fill();
        assert!(site.in_use() <= 98);
        site.pass(BEAT);
    }
}

#[test]
fn one_busy_host_of_two_has_95_within_a_second_without_any_nudge() {
    let mut site = Site::new(&AB, 98);
    run(&mut site, Duration::from_secs(5), true);
    site.queue(0, 100_000);
    run(&mut site, Duration::from_secs(1), true);
    assert_eq!(site.used(0), 95);
}

#[test]
fn two_busy_hosts_use_all() {
    let mut site = Site::new(&AB, 98);
    (0..2).for_each(|host| site.queue(host, 1_000_000));
    run(&mut site, Duration::from_secs(5), true);
    assert_eq!((site.used(0), site.used(1)), (49, 49));
}

#[test]
fn a_dead_hosts_loan_is_back_within_45_seconds_and_its_part_at_once_after_its_eviction() {
    let mut site = Site::new(&AB, 98);
    site.queue(1, 100_000);
    run(&mut site, Duration::from_secs(5), true);
    assert_eq!((site.used(0), site.used(1)), (0, 95));
    site.hosts.truncate(1);
    site.queue(0, 100_000);
    let mut waited = Duration::ZERO;
    while site.used(0) < 49 {
        run(&mut site, BEAT, true);
        waited += BEAT;
        // Nothing of the dead host's is left at kintone, and each answer says so.
        let sent_at = site.clock(0);
        let usage = site.hosts[0].desk.usage.get_mut(&acme()).unwrap();
        usage.foreign = Some(Foreign { sent_at, calls: 0 });
        assert!(waited < Duration::from_secs(45));
    }
    run(&mut site, Duration::from_secs(300), true);
    let members = site.hosts[0].ledger.members().evict("gw-b").unwrap();
    site.hosts[0].ledger.learn(&members);
    run(&mut site, BEAT, true);
    assert_eq!(site.used(0), 98);
}

#[test]
fn a_minute_without_the_store_leaves_the_reserve_and_two_beats_bring_sharing_back() {
    let mut site = Site::new(&AB, 98);
    site.queue(0, 1_000_000);
    run(&mut site, Duration::from_secs(5), true);
    assert_eq!(site.used(0), 95);
    run(&mut site, Duration::from_secs(15), false);
    assert_eq!(site.used(0), 95, "a loan lives on through a short absence");
    run(&mut site, Duration::from_secs(45), false);
    assert_eq!(site.used(0), 49);
    run(&mut site, Duration::from_secs(2), true);
    assert_eq!(site.used(0), 95);
}

#[test]
fn a_lender_that_starts_again_has_its_part_back_when_the_borrower_has_answered() {
    let mut site = Site::new(&AB, 98);
    site.queue(1, 1_000_000);
    run(&mut site, Duration::from_secs(2), true);
    assert_eq!(site.used(1), 95);
    let kept = Kept::decode(site.hosts[0].kept.as_ref().unwrap()).unwrap();
    let setup = Setup {
        before: Before::Kept(kept),
        ..setup("gw-a", &AB, 2)
    };
    let again = site.join(setup, 98);
    site.hosts.swap_remove(0);
    assert_eq!(again, 2);
    site.beat_alone(0);
    assert_eq!(site.own(0), 3);
    site.queue(0, 1_000_000);
    run(&mut site, Duration::from_secs(5), true);
    assert_eq!((site.used(0), site.used(1)), (49, 49));
}

#[test]
fn a_later_process_of_the_same_name_ends_the_earlier_one() {
    let mut site = Site::new(&AB, 98);
    site.round();
    let twin = site.join(setup("gw-a", &AB, 2), 98);
    site.beat(twin);
    assert!(site.beat(0).contains(&Heard::Twin));
    assert_eq!(site.own(0), 0);
    assert!(site.hosts[0].last.as_ref().unwrap().row.is_none());
}

/// Ten tenants who all want more than there is: the permits of each, where a host shares its own
/// fairly, as Jain's index.
fn fairness(places: &[&[u32]; 2]) -> f64 {
    let mut site = Site::new(&AB, 98);
    for (host, tenants) in places.iter().enumerate() {
        site.queue(host, 1_000_000);
        let usage = site.hosts[host].desk.usage.get_mut(&acme()).unwrap();
        let tenant = |id: &u32| TenantUse {
            id: *id,
            weight: 1,
            demand: 1_000,
        };
        usage.tenants = tenants.iter().map(tenant).collect();
    }
    run(&mut site, Duration::from_secs(10), true);
    let mut permits = [0.0; 10];
    for (host, tenants) in places.iter().enumerate() {
        let portions = &site.hosts[host].desk.portions;
        let claim = |tenant: &u32| {
            let portion = portions.iter().find(|portion| portion.id == *tenant);
            portion.map_or(1.0, |one| f64::from(one.here) / f64::from(one.everywhere))
        };
        let all: f64 = tenants.iter().map(claim).sum();
        for tenant in *tenants {
            permits[*tenant as usize - 1] += f64::from(site.used(host)) * claim(tenant) / all;
        }
    }
    let sum: f64 = permits.iter().sum();
    let squares: f64 = permits.iter().map(|permits| permits * permits).sum();
    sum * sum / (10.0 * squares)
}

#[test]
fn ten_tenants_share_fairly_over_both_hosts() {
    assert!(fairness(&[&[1, 2, 3, 4, 5, 6, 7], &[8, 9, 10]]) >= 0.99);
    assert!(fairness(&[&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[10]]) >= 0.97);
    assert!(fairness(&[&[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10]]) >= 0.99);
}

#[test]
fn tenants_that_call_by_both_hosts_have_their_share_once() {
    let ids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    assert!(fairness(&[&ids[..7], &[8, 9, 10, 1, 2]]) >= 0.99);
    let index = fairness(&[&ids, &ids[..1]]);
    assert!(index >= 0.97, "{index}");
    assert!(fairness(&[&ids, &ids]) >= 0.99);
}

#[test]
fn a_tenant_is_whole_again_soon_after_the_other_host_was_heard_last() {
    let mut site = Site::new(&AB, 98);
    let tenant = |id| TenantUse {
        id,
        weight: 1,
        demand: 1_000,
    };
    for (host, tenants) in [vec![tenant(1), tenant(2)], vec![tenant(1)]]
        .into_iter()
        .enumerate()
    {
        site.queue(host, 1_000_000);
        site.hosts[host]
            .desk
            .usage
            .get_mut(&acme())
            .unwrap()
            .tenants = tenants;
    }
    run(&mut site, Duration::from_secs(2), true);
    let half = TenantPortion {
        id: 1,
        here: 1_000,
        everywhere: 2_000,
    };
    assert_eq!(site.hosts[0].desk.portions, [half]);
    assert_eq!(site.hosts[1].desk.portions, []);
    run(&mut site, Duration::from_secs(4), false);
    assert_eq!(site.hosts[0].desk.portions, [half]);
    run(&mut site, Duration::from_secs(2), false);
    assert_eq!(site.hosts[0].desk.portions, []);
}
