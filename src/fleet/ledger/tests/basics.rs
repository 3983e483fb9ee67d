use std::time::Duration;

use super::site::{Site, acme};
use crate::fleet::ledger::{Kept, Pace};

const AB: [&str; 2] = ["gw-a", "gw-b"];

#[test]
fn a_host_alone_has_everything_and_says_nothing() {
    let mut site = Site::new(&["gw-a"], 98);
    site.queue(0, 500);
    site.round();
    site.round();
    assert_eq!(site.used(0), 98);
    let beat = site.hosts[0].last.clone().unwrap();
    assert_eq!((beat.nudge, beat.pace), (false, Pace::Idle));
}

#[test]
fn a_busy_host_of_two_gets_all_but_the_floor_in_a_few_beats() {
    let mut site = Site::new(&AB, 98);
    site.queue(0, 500);
    site.round();
    assert_eq!(site.used(0), 49);
    for _ in 0..3 {
        site.round();
    }
    assert_eq!(site.used(0), 95);
    let view = site.hosts[0].ledger.view(site.clock(0));
    assert_eq!((view.accounts[0].own, view.accounts[0].borrowed), (49, 46));
    let view = site.hosts[1].ledger.view(site.clock(0));
    assert_eq!((view.accounts[0].own, view.accounts[0].lent), (3, 46));
    let kept = Kept::decode(site.hosts[1].kept.as_ref().unwrap()).unwrap();
    assert_eq!(kept.lent, [(acme(), 46)]);
}

#[test]
fn permits_come_back_as_calls_end_when_the_lender_needs_them() {
    let mut site = Site::new(&AB, 98);
    site.queue(0, 10_000);
    for _ in 0..4 {
        site.round();
    }
    site.queue(1, 10_000);
    for _ in 0..30 {
        let ended = site.used(0).min(10);
        site.end(0, ended);
        let ended = site.used(1).min(10);
        site.end(1, ended);
        site.fill();
        site.round();
    }
    assert_eq!((site.used(0), site.used(1)), (49, 49));
}

#[test]
fn what_is_not_needed_any_more_goes_back_and_is_forgotten() {
    let mut site = Site::new(&AB, 98);
    site.queue(0, 95);
    for _ in 0..4 {
        site.round();
    }
    let used = site.used(0);
    site.end(0, used);
    for _ in 0..120 {
        site.pass(Duration::from_millis(100));
        site.round();
    }
    for host in &site.hosts {
        let view = host.ledger.view(site.clock(0));
        assert_eq!(view.accounts, []);
        assert!(host.desk.shares.is_empty());
    }
}
