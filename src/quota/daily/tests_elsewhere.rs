//! Budgets that hosts share.

use jiff::Timestamp;
use smallvec::smallvec;
use tokio::time::{Instant, advance};

use super::*;
use crate::config::DailyPolicy;
use crate::model::{AppId, DailyFigures, Priority};

const APP: CountedApp = CountedApp::Known(AppId(7));
const ENFORCE: Budget = Budget {
    part: 100,
    policy: DailyPolicy::Enforce,
};
const HEARD: Silence = Silence {
    silent: 0,
    hosts: 2,
};
const SILENT: Silence = Silence {
    silent: 1,
    hosts: 2,
};

/// A host, and where its counts are.
struct Host {
    days: Days,
    _dir: tempfile::TempDir,
}

impl Host {
    /// Just before the day turns.
    fn new() -> Self {
        let begin: Timestamp = "2026-11-25T08:59:00+09:00".parse().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let clock = DayClock::From(begin, Instant::now());
        let (days, _) = Days::open(dir.path(), clock, || {}).unwrap();
        days.expect(SILENT);
        Self { days, _dir: dir }
    }

    fn reserve(&self, app: CountedApp, priority: Priority) -> Result<Arc<Charge>, DailyFigures> {
        let account = Account::from_normal("acme.cybozu.com");
        let payer = Payer {
            account,
            tenant: None,
            purpose: None,
        };
        let charge = self.days.charge(payer, ENFORCE);
        let apps: Times = smallvec![(app, 1)];
        charge.foresee(&apps, priority)?;
        charge.reserve(&apps, priority)?;
        Ok(charge)
    }

    /// Makes up to so many calls of the app; how many were let through.
    fn call(&self, calls: u32) -> u32 {
        let mut let_through = 0;
        for _ in 0..calls {
            let Ok(charge) = self.reserve(APP, Priority::Interactive) else {
                break;
            };
            charge.begin();
            charge.begun();
            let_through += 1;
        }
        let_through
    }

    fn hear(&self, other: &Self, silence: Silence) {
        let (content, left_out) = other.days.told(4096);
        assert_eq!(left_out, 0);
        let word = Word {
            host: "other",
            content: &content,
        };
        assert!(self.days.hear(&[word], silence).is_empty());
    }

    fn today(&self) -> u64 {
        let apps = self.days.apps_today();
        apps.iter().map(|app| app.requests).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_may_use_all_that_the_others_have_not_used() {
    let (a, b) = (Host::new(), Host::new());
    assert_eq!(b.call(30), 30);
    a.hear(&b, HEARD);
    assert_eq!(a.today(), 30, "calls of another host's apps are shown");
    assert_eq!(a.call(1000), 70);
    assert_eq!(a.today(), 100);
    let refused = a.reserve(APP, Priority::Interactive).unwrap_err();
    assert_eq!((refused.requests, refused.budget), (100, 100));
    b.hear(&a, HEARD);
    assert_eq!(b.call(1000), 0);
    let refused = b.reserve(APP, Priority::Batch).unwrap_err();
    assert_eq!((refused.requests, refused.budget), (100, 95));
}

#[tokio::test(start_paused = true)]
async fn hosts_that_do_not_hear_each_other_keep_within_the_budget() {
    // Never heard: each has its half.
    let (a, b) = (Host::new(), Host::new());
    assert_eq!((a.call(1000), b.call(1000)), (50, 50));
    // Heard once: each has half of what was left.
    let (a, b) = (Host::new(), Host::new());
    assert_eq!((a.call(40), b.call(20)), (40, 20));
    a.hear(&b, HEARD);
    b.hear(&a, HEARD);
    for host in [&a, &b] {
        host.days.hear(&[], SILENT);
    }
    assert_eq!((a.call(1000), b.call(1000)), (20, 20));
    let refused = a.reserve(APP, Priority::Interactive).unwrap_err();
    assert_eq!((refused.requests, refused.budget), (80, 80));
    // Heard again.
    a.hear(&b, HEARD);
    assert_eq!(a.call(1000), 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_gone_stays_counted_until_the_day_turns() {
    let (a, b) = (Host::new(), Host::new());
    b.call(30);
    a.hear(&b, HEARD);
    a.days.hear(&[], SILENT);
    assert_eq!(a.today(), 30);
    // Nobody would make them any more: it is evicted.
    let evicted = Silence {
        silent: 0,
        hosts: 1,
    };
    a.days.hear(&[], evicted);
    assert_eq!(a.call(1000), 70);
    let yesterday = b.days.told(4096).0;
    advance(Duration::from_mins(2)).await;
    assert_eq!(a.today(), 0);
    let word = Word {
        host: "other",
        content: &yesterday,
    };
    a.days.hear(&[word], HEARD);
    assert_eq!(a.today(), 0);
    assert_eq!(a.call(1000), 100);
}

#[tokio::test(start_paused = true)]
async fn a_warning_that_another_host_has_given_is_not_given_again() {
    let (a, b) = (Host::new(), Host::new());
    let told = std::cell::RefCell::new(Vec::new());
    let tell = |host: &Host| {
        let note = |warning: &Warning| {
            let figures = (warning.percent, warning.requests, warning.budget);
            told.borrow_mut().push(figures);
        };
        host.days.0.tell(&note);
    };
    a.hear(&b, HEARD);
    b.hear(&a, HEARD);
    b.call(30);
    a.hear(&b, HEARD);
    a.call(50);
    tell(&a);
    assert_eq!(told.take(), [(80, 80, 100)]);
    b.hear(&a, HEARD);
    b.call(5);
    tell(&b);
    assert_eq!(told.take(), []);
    b.call(5);
    tell(&b);
    assert_eq!(told.take(), [(90, 90, 100)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_silence() {
    let a = Host::new();
    let word = Word {
        host: "other",
        content: b"{\"v\":2,\"day\":1,\"accounts\":{}}",
    };
    let bad = a.days.hear(&[word], HEARD);
    assert_eq!(bad.len(), 1);
    assert_eq!(a.call(1000), 50);
}
