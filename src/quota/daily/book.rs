//! The counts that go on: today's in an index, those of days that are over until the archive has
//! them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kintone::day::Day;
use crate::model::{Account, CountedApp, Table};
use crate::quota::record::{Map, SLOTS, SlotNumber, Words as _};

use super::elsewhere::{Elsewhere, Silence};
use super::layout::{self, Field, Header, Key, Row};
use super::told::{AppTold, Told};

/// Most rows of one account a day; its calls beyond are counted under the app `other`. A purpose or
/// a tenant more for each of an account's apps is a row more.
const ROWS_OF_ACCOUNT_MAX: u32 = 2_000;

/// The counts. Counting needs a shared reference, all else an exclusive one.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) map: Map,
    /// The day that calls are counted for.
    pub(super) day: Day,
    /// Days up to this one are not changed any more.
    closed: Option<Day>,
    rows: Table<Key, Placed>,
    apps: Table<(Account, CountedApp), Arc<AppDay>>,
    rows_of: Table<Account, u32>,
    vacant: Vec<SlotNumber>,
    next: u32,
    /// Today's calls of other hosts.
    pub(super) elsewhere: Arc<Elsewhere>,
}

/// Where calls are counted.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// `None`: there was no room, and they are counted nowhere.
    pub(super) slot: Option<SlotNumber>,
    pub(super) day: Day,
    pub(super) app: Arc<AppDay>,
}

/// Today's calls of an app.
#[derive(Debug)]
pub(super) struct AppDay {
    pub(super) account: Account,
    pub(super) app: CountedApp,
    /// Calls begun, and those that have a place in the budget and are not begun yet.
    pub(super) charged: AtomicU64,
    /// Calls begun.
    pub(super) requests: AtomicU64,
    /// Calls that other hosts have told of.
    pub(super) elsewhere: AtomicU64,
    /// Calls of all hosts when they were last all heard of.
    agreed: AtomicU64,
    /// The budget, when it was last asked for.
    pub(super) budget: AtomicU64,
    /// The highest warning given, in percent.
    pub(super) warned: AtomicU64,
    /// Where that is written down.
    flag: Option<SlotNumber>,
}

/// Whether what all hosts have told is what all of them have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreed {
    Yes,
    No,
}

impl Book {
    /// Takes over what was found; calls are counted for `day`, or a later one if that is in the
    /// archive already.
    pub(super) fn new(map: Map, found: &[Row], day: Day) -> Self {
        let archived = layout::archived(&map);
        let day = archived.map_or(day, |archived| day.max(archived.after(1)));
        let next = u32::try_from(Header::Used.load(&map)).map_or(SLOTS, |used| used.min(SLOTS));
        let mut book = Self {
            map,
            day,
            closed: archived,
            rows: Table::default(),
            apps: Table::default(),
            rows_of: Table::default(),
            vacant: Vec::new(),
            next,
            elsewhere: Arc::default(),
        };
        let mut taken = vec![false; next as usize];
        for row in found {
            if archived.is_some_and(|archived| row.day <= archived) {
                layout::vacate(&book.map, row.slot);
                continue;
            }
            if let Some(taken) = taken.get_mut(row.slot.0 as usize) {
                *taken = true;
            }
            if row.day == day {
                book.enter(row.key.clone(), row.slot, row.requests, row.warned);
            }
        }
        let vacant = taken.iter().enumerate().rev();
        let vacant = vacant.filter(|(_, taken)| !**taken);
        book.vacant = vacant.map(|(slot, _)| SlotNumber(slot as u32)).collect();
        book
    }

    /// Turns to `day`, unless it is past.
    pub(super) fn turn(&mut self, day: Day) {
        if day > self.day {
            self.day = day;
            self.rows.clear();
            self.apps.clear();
            self.rows_of.clear();
            self.elsewhere = Arc::default();
        }
    }

    /// Where such calls are counted today, if any were before.
    pub(super) fn find(&self, key: &Key) -> Option<Placed> {
        self.rows.get(key).cloned()
    }

    /// Where such calls are counted today.
    pub(super) fn place(&mut self, key: &Key) -> Placed {
        if let Some(placed) = self.find(key) {
            return placed;
        }
        let used = self.rows_of.get(&key.account).copied().unwrap_or_default();
        if used >= ROWS_OF_ACCOUNT_MAX && key.app != CountedApp::Other {
            return self.place(&Key {
                account: key.account.clone(),
                app: CountedApp::Other,
                purpose: None,
                tenant: None,
            });
        }
        let slot = self.vacancy();
        match slot {
            Some(slot) if layout::write(&self.map, slot, self.day, key) => {
                self.enter(key.clone(), slot, 0, 0)
            }
            Some(_) | None => {
                self.vacant.extend(slot);
                self.unplaced(key)
            }
        }
    }

    /// Changes a count, while its day is not closed.
    pub(super) fn change(&self, placed: &Placed, change: impl FnOnce(&Map, SlotNumber)) {
        if let Some(slot) = placed.slot
            && self.closed.is_none_or(|closed| placed.day > closed)
        {
            change(&self.map, slot);
        }
    }

    /// Writes down a warning that was given.
    pub(super) fn warned(&self, app: &AppDay, percent: u64) {
        if let Some(slot) = app.flag
            && layout::day(&self.map, slot) == Some(self.day)
        {
            self.map.store(Field::Warned.of(slot), percent);
        }
    }

    /// Today's apps, in no order.
    pub(super) fn told(&self) -> Told {
        let apps = self.apps.values().map(|app| {
            let of = (app.account.clone(), app.app);
            let requests = app.requests.load(Ordering::Acquire);
            let warned = app.warned.load(Ordering::Acquire);
            (of, AppTold { requests, warned })
        });
        let apps = apps.filter(|(_, told)| told.requests > 0).collect();
        Told {
            day: self.day,
            apps,
        }
    }

    /// Today's apps that were called here, in no order.
    pub(super) fn apps(&self) -> Vec<Arc<AppDay>> {
        self.apps.values().cloned().collect()
    }

    /// How many slots may hold something.
    pub(super) const fn used(&self) -> u32 {
        self.next
    }

    /// What a slot holds.
    pub(super) fn row(&self, slot: SlotNumber) -> Option<Row> {
        layout::read(&self.map, slot).ok().flatten()
    }

    /// From here on nothing is counted for days up to `day`.
    pub(super) fn close(&mut self, day: Day) {
        self.closed = self.closed.max(Some(day));
    }

    /// The archive has everything up to `day`: its slots are free.
    pub(super) fn archived(&mut self, day: Day) {
        layout::set_archived(&self.map, day);
        for slot in (0..self.next).map(SlotNumber) {
            if layout::day(&self.map, slot).is_some_and(|of| of <= day) {
                layout::vacate(&self.map, slot);
                self.vacant.push(slot);
            }
        }
    }

    fn enter(&mut self, key: Key, slot: SlotNumber, requests: u64, warned: u64) -> Placed {
        *self.rows_of.entry(key.account.clone()).or_default() += 1;
        let of = (key.account.clone(), key.app);
        let app = self.apps.entry(of).or_insert_with(|| {
            let (account, app) = (key.account.clone(), key.app);
            let app = AppDay::new(account, app, Some(slot));
            Arc::new(app.known(&self.elsewhere))
        });
        app.charged.fetch_add(requests, Ordering::AcqRel);
        app.requests.fetch_add(requests, Ordering::AcqRel);
        app.warned.fetch_max(warned, Ordering::AcqRel);
        let placed = Placed {
            slot: Some(slot),
            day: self.day,
            app: Arc::clone(app),
        };
        self.rows.insert(key, placed.clone());
        placed
    }

    fn unplaced(&self, key: &Key) -> Placed {
        self.map.add(Header::Unplaced as usize, 1);
        let app = self.apps.get(&(key.account.clone(), key.app)).cloned();
        Placed {
            slot: None,
            day: self.day,
            app: app.unwrap_or_else(|| {
                let app = AppDay::new(key.account.clone(), key.app, None);
                Arc::new(app.known(&self.elsewhere))
            }),
        }
    }

    fn vacancy(&mut self) -> Option<SlotNumber> {
        if let Some(slot) = self.vacant.pop() {
            return Some(slot);
        }
        if self.next >= SLOTS {
            return None;
        }
        let slot = SlotNumber(self.next);
        // A power loss may have left something in it that this file never counted.
        layout::vacate(&self.map, slot);
        self.next += 1;
        Header::Used.store(&self.map, u64::from(self.next));
        Some(slot)
    }
}

impl AppDay {
    fn new(account: Account, app: CountedApp, flag: Option<SlotNumber>) -> Self {
        Self {
            account,
            app,
            charged: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
            agreed: AtomicU64::new(0),
            budget: AtomicU64::new(u64::MAX),
            warned: AtomicU64::new(0),
            flag,
        }
    }

    /// One that is new here, with what other hosts have told of it.
    fn known(self, elsewhere: &Elsewhere) -> Self {
        let told = elsewhere.of(&(self.account.clone(), self.app));
        self.elsewhere.store(told.requests, Ordering::Release);
        self.agreed.store(told.requests, Ordering::Release);
        self.warned.store(told.warned, Ordering::Release);
        self
    }

    /// Other hosts have told this of it.
    pub(super) fn hear(&self, told: AppTold, agreed: Agreed) {
        self.elsewhere.store(told.requests, Ordering::Release);
        self.warned.fetch_max(told.warned, Ordering::AcqRel);
        if agreed == Agreed::Yes {
            let all = self.charged.load(Ordering::Acquire) + told.requests;
            self.agreed.store(all, Ordering::Release);
        }
    }

    /// Calls of all hosts, as far as they have told.
    pub(super) fn total(&self) -> u64 {
        let here = self.requests.load(Ordering::Acquire);
        here.saturating_add(self.elsewhere.load(Ordering::Acquire))
    }

    /// What hosts that are not heard of may use of `budget` without telling: their parts of what was
    /// left when they were last heard.
    pub(super) fn left_to(&self, silence: Silence, budget: u64) -> u64 {
        silence.part_of(budget.saturating_sub(self.agreed.load(Ordering::Acquire)))
    }
}
