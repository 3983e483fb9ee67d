//! What goes wrong where a rule is broken that the model cannot show: each scene stays within the limit,
//! and passes it without its rule. The other rules are broken in `tests/model`.

use std::time::Duration;

use super::site::{Site, acme, setup};
use crate::fleet::ledger::{Access, Rule, Setup};
use crate::fleet::share::Foreign;

const AB: [&str; 2] = ["gw-a", "gw-b"];

/// The most permits that were in use at once.
type Scene = fn(Option<Rule>) -> u32;

/// Rules, the limit that must hold, and a scene.
const SCENES: [(Rule, u32, Scene); 7] = [
    (Rule::Stretch, 98, a_lender_with_a_fast_clock),
    (Rule::KnowBeat, 98, a_loan_that_arrives_after_a_long_time),
    (Rule::StayDead, 98, a_borrower_that_wakes_up),
    (Rule::ShrinkFirst, 98, a_host_that_is_admitted_again),
    (Rule::AwaitEvicted, 98, a_host_that_is_evicted_in_a_hurry),
    (Rule::SmallestPart, 98, a_third_host),
    (Rule::SmallestTotal, 48, a_limit_that_is_lowered),
];

#[test]
fn every_scene_stays_within_the_limit_by_its_rule_alone() {
    for (rule, limit, scene) in SCENES {
        assert!(scene(None) <= limit, "{rule:?}: {}", scene(None));
        let broken = scene(Some(rule));
        assert!(broken > limit, "{rule:?} can be broken: {broken}");
    }
}

/// The second host has borrowed all that the first can lend, and uses it.
fn lent(rule: Option<Rule>) -> Site {
    let mut site = Site::breaking(rule, &AB, 98);
    site.queue(1, 10_000);
    for _ in 0..4 {
        site.round();
    }
    assert_eq!((site.used(0), site.used(1)), (0, 95));
    site
}

fn a_lender_with_a_fast_clock(rule: Option<Rule>) -> u32 {
    let mut site = Site::breaking(rule, &AB, 98);
    site.hosts[0].pace = 109;
    site.queue(1, 10_000);
    for _ in 0..4 {
        site.round();
    }
    assert_eq!(site.used(1), 95);
    site.queue(0, 10_000);
    let mut most = 0;
    // The borrower's calls last as long as they can.
    for _ in 0..217 {
        site.pass(Duration::from_secs(1));
        site.beat_alone(0);
        site.fill();
        most = most.max(site.in_use());
    }
    most
}

fn a_loan_that_arrives_after_a_long_time(rule: Option<Rule>) -> u32 {
    let mut site = Site::breaking(rule, &AB, 98);
    site.queue(1, 10_000);
    site.beat(1);
    site.beat(0);
    site.beat(1);
    // The loan hangs in the store while its borrower cannot read.
    site.beat(0);
    for _ in 0..5_000 {
        site.pass(Duration::from_millis(20));
        site.beat_alone(1);
    }
    site.read(1);
    site.beat_alone(1);
    site.fill();
    site.queue(0, 10_000);
    let mut most = site.in_use();
    for _ in 0..200 {
        site.pass(Duration::from_secs(1));
        site.beat_alone(0);
        site.fill();
        most = most.max(site.in_use());
    }
    most
}

fn a_borrower_that_wakes_up(rule: Option<Rule>) -> u32 {
    let mut site = lent(rule);
    site.queue(0, 10_000);
    // It is stopped. Ten of its calls are left at kintone; the others' answers are not read yet.
    site.pass(Duration::from_secs(44));
    let sent_at = site.clock(0);
    let usage = site.hosts[0].desk.usage.get_mut(&acme()).unwrap();
    usage.foreign = Some(Foreign { sent_at, calls: 10 });
    site.publish(0);
    site.fill();
    assert_eq!(site.used(0), 39);
    // It wakes up, and says what it thinks it has.
    site.publish(1);
    site.beat(0);
    site.read(1);
    site.end(1, 85);
    let mut most = site.in_use();
    for _ in 0..3 {
        site.beat(1);
        site.fill();
        most = most.max(site.in_use());
    }
    most
}

/// The second host is evicted, and the first has its part.
fn evicted(rule: Option<Rule>) -> Site {
    let mut site = Site::breaking(rule, &AB, 98);
    site.round();
    site.round();
    site.store.remove("gw-b");
    site.hosts.truncate(1);
    site.pass(Duration::from_secs(300));
    let members = site.hosts[0].ledger.members().evict("gw-b").unwrap();
    site.hosts[0].ledger.learn(&members);
    site.queue(0, 10_000);
    site.round();
    assert_eq!(site.used(0), 98);
    site
}

fn a_host_that_is_admitted_again(rule: Option<Rule>) -> u32 {
    let mut site = evicted(rule);
    let members = site.hosts[0].ledger.members().admit("gw-b").unwrap();
    let setup = Setup {
        access: Access::Unproven,
        ..setup("gw-b", &AB, 2)
    };
    let back = site.join(setup, 98);
    site.hosts[back].ledger.learn(&members);
    site.queue(back, 10_000);
    let mut most = 0;
    for _ in 0..60 {
        site.round();
        most = most.max(site.in_use());
        let ended = site.used(0).min(5);
        site.end(0, ended);
    }
    if rule.is_none() {
        assert_eq!((site.own(0), site.own(1)), (49, 49));
    }
    most
}

fn a_host_that_is_evicted_in_a_hurry(rule: Option<Rule>) -> u32 {
    let mut site = Site::breaking(rule, &AB, 98);
    site.queue(1, 49);
    site.round();
    site.round();
    assert_eq!(site.used(1), 49);
    let members = site.hosts[0].ledger.members().evict("gw-b").unwrap();
    site.hosts[0].ledger.learn(&members);
    site.queue(0, 10_000);
    let mut most = 0;
    for _ in 0..20 {
        site.pass(Duration::from_secs(10));
        site.beat_alone(0);
        site.fill();
        most = most.max(site.in_use());
    }
    most
}

fn a_third_host(rule: Option<Rule>) -> u32 {
    let mut site = Site::breaking(rule, &AB, 98);
    (0..2).for_each(|host| site.queue(host, 10_000));
    site.round();
    site.round();
    let third = site.join(setup("gw-c", &["gw-a", "gw-b", "gw-c"], 1), 98);
    site.queue(third, 10_000);
    let mut most = 0;
    for _ in 0..3 {
        site.beat(third);
        site.fill();
        most = most.max(site.in_use());
    }
    most
}

fn a_limit_that_is_lowered(rule: Option<Rule>) -> u32 {
    let mut site = Site::breaking(rule, &AB, 98);
    site.hosts[1].desk.totals.insert(acme(), 48);
    for _ in 0..3 {
        (0..2).for_each(|host| {
            site.queue(host, 1);
            site.beat(host);
        });
    }
    site.own(0) + site.own(1)
}
