//! Counts over the end of a process, of a day and of the disk's patience.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use smallvec::smallvec;

use super::*;
use crate::config::DailyPolicy;
use crate::model::{AppId, Priority, Purpose, Tenant};

const APP: CountedApp = CountedApp::Known(AppId(7));
const WARN: Budget = Budget {
    part: 100,
    policy: DailyPolicy::Warn,
};
const ENFORCE: Budget = Budget {
    part: 100,
    policy: DailyPolicy::Enforce,
};

/// A state directory, and the time from which its processes count.
struct Site {
    dir: tempfile::TempDir,
    clock: DayClock,
    full: Arc<AtomicU32>,
}

impl Site {
    /// Just before the day turns.
    fn new() -> Self {
        let begin: Timestamp = "2026-11-25T08:59:00+09:00".parse().unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock: DayClock::From(begin, Instant::now()),
            full: Arc::default(),
        }
    }

    /// The next process. The one before it is killed: it says nothing any more.
    fn start(&self) -> (Days, FoundCounts) {
        let full = Arc::clone(&self.full);
        let full = move || {
            full.fetch_add(1, Ordering::Relaxed);
        };
        Days::open(self.dir.path(), self.clock, full).unwrap()
    }

    fn counts(&self) -> std::path::PathBuf {
        self.dir.path().join("counts")
    }

    fn archived(&self, day: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("days/{day}.csv"))
    }
}

fn acme() -> Account {
    Account::from_normal("acme.cybozu.com")
}

fn payer() -> Payer {
    Payer {
        account: acme(),
        tenant: Tenant::parse("company-1").ok(),
        purpose: Purpose::parse("incoming"),
    }
}

fn once(app: CountedApp) -> Times {
    smallvec![(app, 1)]
}

/// A call that comes to kintone.
fn call(days: &Days, budget: Budget) {
    let charge = days.charge(payer(), budget);
    charge.reserve(&once(APP), Priority::Interactive).unwrap();
    charge.begin();
    charge.begun();
}

fn rows(days: &Days) -> Vec<(String, CountedApp, u64, u64)> {
    let all = days.rows(&acme(), Day::default(), days.today()).unwrap();
    let row = |row: DayRow| (row.day.to_string(), row.app, row.requests, row.uncertain);
    all.into_iter().map(row).collect()
}

fn of(day: &str, app: CountedApp, requests: u64) -> (String, CountedApp, u64, u64) {
    (day.to_owned(), app, requests, 0)
}

async fn pass(minutes: u64) {
    tokio::time::advance(Duration::from_mins(minutes)).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_outlives_the_process() {
    let site = Site::new();
    let (days, found) = site.start();
    assert_eq!(found, FoundCounts::Nothing);
    call(&days, WARN);
    call(&days, WARN);
    let (days, found) = site.start();
    assert_eq!(found, FoundCounts::Kept { uncertain: 0 });
    call(&days, WARN);
    let all = days.rows(&acme(), days.today(), days.today()).unwrap();
    let [row] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!((row.requests, row.uncertain), (3, 0));
    assert_eq!((row.tenant.clone(), row.purpose.clone()), {
        let payer = payer();
        (payer.tenant, payer.purpose)
    });
    let expected = AppToday {
        account: acme(),
        app: APP,
        requests: 3,
    };
    assert_eq!(days.apps_today(), [expected]);
}

/// Killed at each step of a call: from the first byte on it is counted, before it is not, and the one
/// instant in which nobody knows is told.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_off_anywhere_is_counted_at_most_once_too_often() {
    let steps: [fn(&Charge); 4] = [
        |charge| charge.reserve(&once(APP), Priority::Batch).unwrap(),
        Charge::begin,
        Charge::begun,
        Charge::take_back,
    ];
    let expected = [vec![], vec![(1, 1)], vec![(1, 0)], vec![]];
    for (killed_after, expected) in (1..=steps.len()).zip(expected) {
        let site = Site::new();
        let (days, _) = site.start();
        let charge = days.charge(payer(), WARN);
        for step in &steps[..killed_after] {
            step(&charge);
        }
        let (next, found) = site.start();
        let uncertain = expected.iter().map(|(_, uncertain)| *uncertain).sum();
        assert_eq!(found, FoundCounts::Kept { uncertain });
        let found: Vec<_> = rows(&next).iter().map(|row| (row.2, row.3)).collect();
        assert_eq!(found, expected, "after step {killed_after}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_came_nowhere_is_taken_back_and_counted_when_it_goes_again() {
    let site = Site::new();
    let (days, _) = site.start();
    let charge = days.charge(payer(), ENFORCE);
    charge.reserve(&once(APP), Priority::Interactive).unwrap();
    charge.begin();
    charge.not_begun();
    assert!(rows(&days).is_empty());
    charge.begin();
    charge.begun();
    charge.take_back();
    assert!(rows(&days).is_empty(), "refused at admission");
    charge.begin();
    charge.begun();
    // The outcome of that one is unknown: it stays, and another one goes.
    charge.reserve(&once(APP), Priority::Interactive).unwrap();
    charge.begin();
    charge.begun();
    drop(charge);
    assert_eq!(rows(&days), [of("2026-11-24", APP, 2)]);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_becomes_known_gets_what_was_counted_as_unknown() {
    let site = Site::new();
    let (days, _) = site.start();
    let charge = days.charge(payer(), WARN);
    let unknown = once(CountedApp::Unknown);
    for _ in 0..2 {
        charge.reserve(&unknown, Priority::Interactive).unwrap();
        charge.begin();
        charge.begun();
    }
    charge.resolve(&unknown);
    let expected = of("2026-11-24", CountedApp::Unknown, 2);
    assert_eq!(rows(&days), [expected]);
    let both: Times = smallvec![(APP, 3), (CountedApp::Known(AppId(8)), 1)];
    charge.resolve(&both);
    charge.resolve(&both);
    let expected = [
        of("2026-11-24", APP, 6),
        of("2026-11-24", CountedApp::Known(AppId(8)), 2),
    ];
    assert_eq!(rows(&days), expected);
    drop(charge);
    assert_eq!(rows(&site.start().0), expected);
}

#[tokio::test(start_paused = true)]
async fn the_day_turns_at_nine_and_a_call_is_counted_when_it_goes() {
    let site = Site::new();
    let (days, _) = site.start();
    call(&days, WARN);
    let waiting = days.charge(payer(), WARN);
    waiting.reserve(&once(APP), Priority::Batch).unwrap();
    let refused = days.charge(payer(), WARN);
    refused.reserve(&once(APP), Priority::Batch).unwrap();
    refused.begin();
    refused.begun();
    pass(1).await;
    assert_eq!(days.today().to_string(), "2026-11-25");
    assert!(days.apps_today().is_empty());
    waiting.begin();
    waiting.begun();
    refused.take_back();
    let expected = [of("2026-11-24", APP, 1), of("2026-11-25", APP, 1)];
    assert_eq!(rows(&days), expected);
    // For fifteen minutes yesterday can still change; then it goes to the archive.
    days.0.archive().unwrap();
    assert!(!site.archived("2026-11-24").exists());
    pass(15).await;
    days.0.archive().unwrap();
    let text = fs::read_to_string(site.archived("2026-11-24")).unwrap();
    assert_eq!(
        text,
        "account,app,purpose,tenant,requests,uncertain\n\
         acme.cybozu.com,7,incoming,company-1,1,0\nend,1,1\n"
    );
    assert_eq!(rows(&days), expected);
    assert_eq!(rows(&site.start().0), expected);
    let alone = days.rows(&acme(), Day::default(), days.today().before(1));
    assert_eq!(alone.unwrap().len(), 1);
    let other = Account::from_normal("other.cybozu.com");
    assert!(
        days.rows(&other, Day::default(), days.today())
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_enforced_lets_through_its_number_and_batch_calls_less() {
    let site = Site::new();
    let (days, _) = site.start();
    let reserve = |priority| {
        let charge = days.charge(payer(), ENFORCE);
        charge.foresee(&once(APP), priority)?;
        charge.reserve(&once(APP), priority).map(|()| charge)
    };
    let mut under_way = Vec::new();
    for _ in 0..95 {
        under_way.push(reserve(Priority::Batch).unwrap());
    }
    let refused = reserve(Priority::Batch).unwrap_err();
    assert_eq!(
        (refused.app, refused.requests, refused.budget),
        (AppId(7), 95, 95)
    );
    let nine: Timestamp = "2026-11-25T09:00:00+09:00".parse().unwrap();
    assert_eq!(refused.reopens_at, nine);
    for _ in 0..5 {
        under_way.push(reserve(Priority::Interactive).unwrap());
    }
    assert_eq!(reserve(Priority::Interactive).unwrap_err().budget, 100);
    // A place that was not used is free again, one that was is not.
    under_way.pop();
    let last = reserve(Priority::Interactive).unwrap();
    last.begin();
    drop(last);
    assert!(reserve(Priority::Interactive).is_err());
    // Not half of a call for several apps.
    let charge = days.charge(payer(), ENFORCE);
    let other = CountedApp::Known(AppId(8));
    let both: Times = smallvec![(other, 60), (APP, 1)];
    charge.reserve(&both, Priority::Interactive).unwrap_err();
    charge
        .reserve(&smallvec![(other, 100)], Priority::Interactive)
        .unwrap();
    // What is unknown has no budget, and the next day has a new one.
    for _ in 0..200 {
        let charge = days.charge(payer(), ENFORCE);
        charge
            .reserve(&once(CountedApp::Unknown), Priority::Batch)
            .unwrap();
        charge.begin();
    }
    pass(1).await;
    reserve(Priority::Batch).unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_warning_is_told_once_a_day_also_over_a_restart() {
    let site = Site::new();
    let told = RefCell::new(Vec::new());
    let tell = |warning: &Warning| told.borrow_mut().push((warning.percent, warning.requests));
    let (days, _) = site.start();
    for _ in 0..92 {
        call(&days, WARN);
        days.0.tell(&tell);
    }
    assert_eq!(*told.borrow(), [(80, 80), (90, 90)]);
    let (days, _) = site.start();
    days.judge(|_| WARN.part);
    days.0.tell(&tell);
    for _ in 0..20 {
        call(&days, WARN);
    }
    days.0.tell(&tell);
    days.0.tell(&tell);
    assert_eq!(told.take(), [(80, 80), (90, 90), (95, 112), (100, 112)]);
    // Killed before it could tell, the next one does.
    pass(1).await;
    for _ in 0..80 {
        call(&days, WARN);
    }
    let (days, _) = site.start();
    days.judge(|_| WARN.part);
    days.0.tell(&tell);
    assert_eq!(told.take(), [(80, 80)]);
}

#[tokio::test(start_paused = true)]
async fn days_are_kept_for_four_hundred_days() {
    let site = Site::new();
    let (days, _) = site.start();
    let oldest = days.today().before(archive::KEPT_DAYS);
    for day in [oldest.before(500), oldest.before(1), oldest] {
        archive::write(&site.dir.path().join("days"), day, &[]).unwrap();
    }
    fs::write(site.dir.path().join("days/notes.txt"), "an operator's").unwrap();
    fs::write(site.dir.path().join("days/2026-01-01.new"), "cut off").unwrap();
    days.0.archive().unwrap();
    let left = fs::read_dir(site.dir.path().join("days")).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(
        left,
        [format!("{oldest}.csv"), "notes.txt".to_owned()].map(std::ffi::OsString::from)
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_no_archive_loses_nothing() {
    let site = Site::new();
    let (days, _) = site.start();
    call(&days, WARN);
    pass(20).await;
    call(&days, WARN);
    let folder = site.dir.path().join("days");
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    days.0.archive().unwrap_err();
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let expected = [of("2026-11-24", APP, 1), of("2026-11-25", APP, 1)];
    assert_eq!(rows(&days), expected);
    days.0.archive().unwrap();
    assert!(site.archived("2026-11-24").exists());
    assert_eq!(rows(&days), expected);
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_the_archive_the_next_process_finishes_it() {
    let site = Site::new();
    let (days, _) = site.start();
    call(&days, WARN);
    pass(20).await;
    let expected = [of("2026-11-24", APP, 1)];
    // The file is whole, and nobody has noted that.
    let yesterday = days.today().before(1);
    let (next, _) = site.start();
    let row = next
        .0
        .read()
        .row(super::super::record::SlotNumber(0))
        .unwrap();
    archive::write(&site.dir.path().join("days"), yesterday, &[row]).unwrap();
    assert_eq!(rows(&next), expected, "not twice");
    next.0.archive().unwrap();
    assert_eq!(rows(&next), expected);
    // It is noted, and its slots are not free yet.
    let site = Site::new();
    let (days, _) = site.start();
    call(&days, WARN);
    pass(20).await;
    let row = days
        .0
        .read()
        .row(super::super::record::SlotNumber(0))
        .unwrap();
    let yesterday = row.day;
    archive::write(&site.dir.path().join("days"), yesterday, &[row]).unwrap();
    layout::set_archived(&days.0.read().map, yesterday);
    let (next, _) = site.start();
    next.0.archive().unwrap();
    assert_eq!(rows(&next).len(), 1);
    assert_eq!(rows(&next)[0].2, 1);
}

/// What befalls a file.
type Damage = fn(&fs::File);

#[tokio::test(start_paused = true)]
async fn of_a_damaged_file_everything_readable_goes_on_and_the_rest_is_told() {
    let app = |number| CountedApp::Known(AppId(number));
    // One bit of the second slot's name; the end cut off; another beginning.
    let damages: [(Damage, usize, u32); 3] = [
        (
            |file| file.write_all_at(b"\xff", 4096 + 512 + 50).unwrap(),
            2,
            1,
        ),
        (|file| file.set_len(4096 + 512 + 60).unwrap(), 1, 2),
        (|file| file.write_all_at(b"nonsense", 0).unwrap(), 3, 0),
    ];
    for (damage, saved, lost) in damages {
        let site = Site::new();
        let (days, _) = site.start();
        for number in 1..=3 {
            let charge = days.charge(payer(), WARN);
            charge.reserve(&once(app(number)), Priority::Batch).unwrap();
            charge.begin();
            charge.begun();
        }
        drop(days);
        let file = fs::File::options().write(true).open(site.counts()).unwrap();
        damage(&file);
        let (days, found) = site.start();
        assert_eq!(found, FoundCounts::Damaged { saved, lost });
        assert_eq!(rows(&days).len(), saved);
        assert!(site.dir.path().join("counts.damaged").exists());
        call(&days, WARN);
        let (days, found) = site.start();
        assert_eq!(found, FoundCounts::Kept { uncertain: 0 });
        assert_eq!(rows(&days).len(), saved + 1);
    }
    let site = Site::new();
    drop(site.start());
    fs::remove_file(site.counts()).unwrap();
    assert_eq!(site.start().1, FoundCounts::Missing);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_archive_is_named_and_not_taken_for_fewer_calls() {
    let site = Site::new();
    let (days, _) = site.start();
    call(&days, WARN);
    pass(20).await;
    days.0.archive().unwrap();
    let path = site.archived("2026-11-24");
    let whole = fs::read_to_string(&path).unwrap();
    let cut = |bytes: usize| whole[..whole.len() - bytes].to_owned();
    let changed = whole.replace(",1,0\n", ",2,0\n");
    for (text, line) in [
        (cut(9), 3),
        (cut(3), 3),
        (changed, 3),
        (whole.replace("7,in", "x,in"), 2),
        (String::new(), 2),
    ] {
        fs::write(&path, &text).unwrap();
        let error = days
            .rows(&acme(), Day::default(), days.today())
            .unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains("2026-11-24.csv") && told.contains(&format!("line {line}")),
            "{text:?}: {told}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn rows_are_bounded_for_each_account_and_in_all() {
    let site = Site::new();
    let (days, _) = site.start();
    let count = |account: &Account, number| {
        let payer = Payer {
            account: account.clone(),
            ..payer()
        };
        let charge = days.charge(payer, WARN);
        let app = once(CountedApp::Known(AppId(number)));
        charge.reserve(&app, Priority::Interactive).unwrap();
        charge.begin();
        charge.begun();
    };
    for number in 1..=2_010 {
        count(&acme(), number);
    }
    assert_eq!(site.full.swap(0, Ordering::Relaxed), 10);
    let found = rows(&days);
    assert_eq!(found.len(), 2_001);
    assert_eq!(found[2_000], of("2026-11-24", CountedApp::Other, 10));
    assert_eq!(found.iter().map(|row| row.2).sum::<u64>(), 2_010);
    for account in 0..16 {
        let account = Account::from_normal(&format!("a{account}.cybozu.com"));
        for number in 1..=2_000 {
            count(&account, number);
        }
    }
    assert!(site.full.load(Ordering::Relaxed) > 0);
    let unplaced = layout::Header::Unplaced.load(&days.0.read().map);
    assert_eq!(unplaced, u64::from(site.full.load(Ordering::Relaxed)));
    assert_eq!(rows(&days), found);
}

#[test]
fn many_threads_count_exactly() {
    let site = Site::new();
    let (days, _) = site.start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2_000).for_each(|_| call(&days, WARN)));
        }
    });
    assert_eq!(rows(&days), [of("2026-11-24", APP, 8_000)]);
    assert_eq!(rows(&site.start().0), [of("2026-11-24", APP, 8_000)]);
}
