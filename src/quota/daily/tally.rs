//! The counts behind their lock, and who is to be told what.

use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::kintone::day::Day;
use crate::model::{Account, AppId, CountedApp};
use crate::quota::record::{SlotNumber, Words as _};

use super::archive::{self, ArchiveError, DayRow};
use super::book::{Agreed, AppDay, Book, Placed};
use super::budget;
use super::elsewhere::{Silence, Word};
use super::layout::{Key, Row};
use super::told::ToldError;

/// What time it is for kintone.
#[derive(Debug, Clone, Copy)]
pub enum DayClock {
    /// The system's.
    System,
    /// That time at that instant of tokio's clock, which a test can pause.
    From(Timestamp, Instant),
}

/// An app nears the end of its budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The account.
    pub account: Account,
    /// The app.
    pub app: AppId,
    /// The part that was reached: 80, 90, 95 or 100.
    pub percent: u64,
    /// Its calls of today, those that other hosts have told of included.
    pub requests: u64,
    /// How many it may make a day ([`super::Budget::part`]).
    pub budget: u64,
}

/// The apps that a call counts for, and how often for each.
pub type Times = SmallVec<[(CountedApp, u32); 1]>;

/// Apps with the places where they are counted.
pub(super) type Places = SmallVec<[(CountedApp, u32, Placed); 1]>;

/// Counts, shared by all calls.
pub(super) struct Tally {
    book: RwLock<Book>,
    clock: DayClock,
    /// Apps that have reached a warning which nobody was told of.
    due: Mutex<Vec<Arc<AppDay>>>,
    pub(super) bell: Notify,
    touched: AtomicBool,
    /// [`Silence`], packed.
    silence: AtomicU64,
    /// Whether other hosts were heard since the start.
    has_heard: AtomicBool,
    /// Told of each call that finds no row of its own.
    full: Box<dyn Fn() + Send + Sync>,
    archive: PathBuf,
}

/// So long after its end a day can still change: kintone may refuse a call which was begun before.
const LATE: Duration = Duration::from_secs(900);

/// Slots that are looked at in one go: calls wait for no longer than that.
const SLOTS_AT_ONCE: u32 = 512;

impl DayClock {
    fn now(self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::From(start, since) => {
                let passed =
                    SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
                start.saturating_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// The day that it is.
    pub(super) fn day(self) -> Day {
        Day::of(self.now())
    }
}

impl Tally {
    pub(super) fn new(
        book: Book,
        clock: DayClock,
        archive: PathBuf,
        full: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            book: RwLock::new(book),
            clock,
            due: Mutex::default(),
            bell: Notify::new(),
            touched: AtomicBool::new(false),
            silence: AtomicU64::new(Silence::NONE.packed()),
            has_heard: AtomicBool::new(false),
            full,
            archive,
        }
    }

    /// The counts, on the day that it is.
    pub(super) fn today(&self) -> RwLockReadGuard<'_, Book> {
        let day = self.clock.day();
        let book = self.read();
        if book.day >= day {
            return book;
        }
        drop(book);
        self.write().turn(day);
        self.read()
    }

    /// Where calls for these apps are counted today.
    pub(super) fn place(&self, apps: &Times, key: impl Fn(CountedApp) -> Key) -> Places {
        let book = self.today();
        let found = apps
            .iter()
            .map(|(app, times)| Some((*app, *times, book.find(&key(*app))?)));
        let found: Option<Places> = found.collect();
        drop(book);
        if let Some(found) = found {
            return found;
        }
        let mut book = self.write();
        let placed = apps.iter();
        let placed: Places = placed
            .map(|(app, times)| (*app, *times, book.place(&key(*app))))
            .collect();
        drop(book);
        let has_no_own = |(app, _, placed): &(CountedApp, u32, Placed)| {
            placed.slot.is_none() || placed.app.app != *app
        };
        if placed.iter().any(has_no_own) {
            (self.full)();
        }
        placed
    }

    /// Sees whether somebody is to be told how many calls an app has made.
    pub(super) fn judge(&self, app: &Arc<AppDay>) {
        let due = budget::due(app.total(), app.budget.load(Ordering::Relaxed));
        let is_known = matches!(app.app, CountedApp::Known(_));
        if is_known && due > app.warned.load(Ordering::Relaxed) {
            self.due().push(Arc::clone(app));
            self.bell.notify_one();
        }
    }

    /// Tells of all warnings that are due, each once, and writes them down. Killed in between, the
    /// next process tells them again.
    pub(super) fn tell(&self, tell: &impl Fn(&Warning)) {
        let apps = mem::take(&mut *self.due());
        for app in apps {
            let CountedApp::Known(id) = app.app else {
                continue;
            };
            let requests = app.total();
            let budget = app.budget.load(Ordering::Relaxed);
            let due = budget::due(requests, budget);
            let given = app.warned.fetch_max(due, Ordering::AcqRel);
            for percent in budget::between(given, due) {
                tell(&Warning {
                    account: app.account.clone(),
                    app: id,
                    percent,
                    requests,
                    budget,
                });
            }
            if due > given {
                self.write().warned(&app, due);
            }
        }
    }

    /// Judges all of today's apps by these budgets.
    pub(super) fn judge_all(&self, budget_of: &impl Fn(&Account) -> u64) {
        let apps = self.today().apps();
        for app in &apps {
            app.budget.store(budget_of(&app.account), Ordering::Relaxed);
            self.judge(app);
        }
    }

    /// Takes what other hosts have told of their calls of today; the words that are of no use.
    pub(super) fn hear(&self, words: &[Word<'_>], silence: Silence) -> Vec<(String, ToldError)> {
        let (day, before) = {
            let book = self.today();
            (book.day, Arc::clone(&book.elsewhere))
        };
        let (elsewhere, bad) = before.hear(words, day);
        let elsewhere = Arc::new(elsewhere);
        let apps = {
            let mut book = self.write();
            if book.day != day {
                return bad;
            }
            book.elsewhere = Arc::clone(&elsewhere);
            book.apps()
        };
        let is_first = !self.has_heard.swap(true, Ordering::AcqRel);
        // Before the first word an app's calls are those of this host: they are what is agreed on.
        let agreed = if silence.silent == 0 || is_first {
            Agreed::Yes
        } else {
            Agreed::No
        };
        for app in &apps {
            app.hear(elsewhere.of(&(app.account.clone(), app.app)), agreed);
        }
        self.set_silence(silence.with(bad.len()));
        bad
    }

    /// How many hosts are not heard of.
    pub(super) fn silence(&self) -> Silence {
        Silence::unpacked(self.silence.load(Ordering::Acquire))
    }

    pub(super) fn set_silence(&self, silence: Silence) {
        self.silence.store(silence.packed(), Ordering::Release);
    }

    /// Puts days that are over into the archive, and deletes what is too old there. It blocks on the
    /// disk. What cannot be put there stays in the counts.
    pub(super) fn archive(&self) -> std::io::Result<()> {
        let today = self.today().day;
        let is_over = |day: Day| {
            let late = SignedDuration::try_from(LATE).unwrap_or(SignedDuration::MAX);
            day < today && self.clock.now().duration_since(day.ends()) >= late
        };
        let rows = self.rows(|row| is_over(row.day));
        let mut days: Vec<Day> = rows.iter().map(|row| row.day).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            self.write().close(day);
            let rows = self.rows(|row| row.day == day);
            archive::write(&self.archive, day, &rows)?;
            self.write().archived(day);
            tracing::info!(%day, rows = rows.len(), "the calls of a day are in the archive");
        }
        archive::delete_old(&self.archive, today)
    }

    /// What was counted for an account on the days `from` to `to`. It blocks on the disk.
    pub(super) fn days(
        &self,
        account: &Account,
        from: Day,
        to: Day,
    ) -> Result<Vec<DayRow>, ArchiveError> {
        let is_asked = |row: &Row| (from..=to).contains(&row.day) && row.key.account == *account;
        // Before the archive: what goes there in the meantime is found twice rather than never.
        let live = self.rows(is_asked);
        let first = from.max(self.today().day.before(archive::KEPT_DAYS));
        let mut found = Vec::new();
        let mut day = first;
        while day <= to && day <= self.today().day {
            let archived = archive::read(&self.archive, day, account)?;
            let rows = live.iter().filter(|row| row.day == day && row.requests > 0);
            if archived.is_empty() {
                found.extend(rows.map(DayRow::from));
            } else {
                found.extend(archived);
            }
            day = day.after(1);
        }
        found.sort_by(|a, b| {
            let of = |row: &DayRow| (row.day, row.app, row.purpose.clone(), row.tenant.clone());
            of(a).cmp(&of(b))
        });
        Ok(found)
    }

    /// Brings the counts to disk, if anything was counted since. It blocks on the disk.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        if !self.touched.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let synced = self.read().map.sync();
        if synced.is_err() {
            self.touch();
        }
        synced
    }

    /// Something was counted.
    pub(super) fn touch(&self) {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Release);
        }
    }

    fn rows(&self, is_wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
        let mut rows = Vec::new();
        let (mut begin, mut used) = (0, SLOTS_AT_ONCE);
        while begin < used {
            let book = self.read();
            used = book.used();
            let end = used.min(begin + SLOTS_AT_ONCE);
            let some = (begin..end).filter_map(|slot| book.row(SlotNumber(slot)));
            rows.extend(some.filter(&is_wanted));
            begin = end;
        }
        rows
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> std::sync::MutexGuard<'_, Vec<Arc<AppDay>>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

impl From<&Row> for DayRow {
    fn from(row: &Row) -> Self {
        Self {
            day: row.day,
            app: row.key.app,
            purpose: row.key.purpose.clone(),
            tenant: row.key.tenant.clone(),
            requests: row.requests,
            uncertain: row.uncertain,
        }
    }
}
