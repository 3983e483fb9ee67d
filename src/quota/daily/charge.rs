//! What one call counts for.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::config::DailyPolicy;
use crate::kintone::day::Day;
use crate::model::{Account, AppId, CountedApp, DailyFigures, Priority, Purpose, Tenant};

use super::book::{AppDay, Book, Placed};
use super::budget::Budget;
use super::layout::{Field, Key};
use super::tally::{Places, Tally, Times};

/// Of whom a call is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// The account.
    pub account: Account,
    /// For whom; `None`: not said.
    pub tenant: Option<Tenant>,
    /// What for; `None`: not said.
    pub purpose: Option<Purpose>,
}

/// What one call counts for: a place in the budget, and from its first byte on a count.
///
/// A count is in memory that outlives the process before the first byte is given to the kernel, and
/// is marked as certain when the kernel has taken it. So a process that is killed in between has
/// counted a call too many at most, never one too few, and the next one knows how many those can be.
///
/// Dropped, a place that was not used is free again; what was counted stays.
#[derive(Debug)]
pub struct Charge {
    tally: Arc<Tally>,
    payer: Payer,
    budget: Budget,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: SmallVec<[Item; 1]>,
    stage: Stage,
    /// Tries whose outcome is unknown: they stay counted.
    earlier: u32,
}

#[derive(Debug)]
struct Item {
    app: CountedApp,
    times: u64,
    placed: Placed,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is taken.
    #[default]
    Free,
    /// It has its place in the budget.
    Reserved,
    /// It is counted.
    Counted,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// How many calls all hosts together may make.
    limit: u64,
    /// Those that others have told of.
    elsewhere: u64,
    /// Those that are left to hosts of which nothing is heard.
    left: u64,
}

impl Room {
    const ENDLESS: Self = Self {
        limit: u64::MAX,
        elsewhere: 0,
        left: 0,
    };

    /// How many of them are this host's.
    const fn here(self) -> u64 {
        self.limit
            .saturating_sub(self.elsewhere)
            .saturating_sub(self.left)
    }

    /// What is told of an app with so many calls here.
    fn figures(self, app: AppId, charged: u64, day: Day) -> DailyFigures {
        DailyFigures {
            app,
            requests: charged.saturating_add(self.elsewhere),
            budget: self.limit.saturating_sub(self.left),
            reopens_at: day.ends(),
        }
    }
}

impl Charge {
    pub(super) fn new(tally: Arc<Tally>, payer: Payer, budget: Budget) -> Self {
        Self {
            tally,
            payer,
            budget,
            state: Mutex::default(),
        }
    }

    /// Whether its budget is held against it.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.budget.policy == DailyPolicy::Enforce
    }

    /// Whether `apps` have room in their budgets at this moment. Nothing is taken.
    ///
    /// # Errors
    /// The figures of the first app whose budget has none.
    pub fn foresee(&self, apps: &Times, priority: Priority) -> Result<(), DailyFigures> {
        let Some(budget) = self.budget.limit(priority) else {
            return Ok(());
        };
        let book = self.tally.today();
        for (app, times) in apps {
            let placed = book.find(&self.key(*app));
            if let (Some(placed), CountedApp::Known(app)) = (placed, *app) {
                let charged = placed.app.charged.load(Ordering::Acquire);
                let room = self.room(&placed.app, budget);
                if charged.saturating_add(u64::from(*times)) > room.here() {
                    return Err(room.figures(app, charged, book.day));
                }
            }
        }
        Ok(())
    }

    /// Takes a place in the budgets of `apps`, for the next try of the call. Of a try before it,
    /// what was counted stays.
    ///
    /// # Errors
    /// The figures of the first app whose budget has no room; nothing is taken.
    pub fn reserve(&self, apps: &Times, priority: Priority) -> Result<(), DailyFigures> {
        let mut state = self.state();
        let state = &mut *state;
        state.release();
        if state.stage == Stage::Counted {
            state.earlier += 1;
        }
        state.stage = Stage::Free;
        let before = state.items.first().map(|item| item.placed.day);
        let limit = self.budget.limit(priority);
        state.items = items(self.tally.place(apps, |app| self.key(app)));
        if before != state.items.first().map(|item| item.placed.day) {
            state.earlier = 0;
        }
        for (index, item) in state.items.iter().enumerate() {
            let app = &item.placed.app;
            app.budget.store(self.budget.part, Ordering::Relaxed);
            let room = match (item.app, limit) {
                (CountedApp::Known(_), Some(limit)) => self.room(app, limit),
                (CountedApp::Known(_) | CountedApp::Unknown | CountedApp::Other, _) => {
                    Room::ENDLESS
                }
            };
            let limit = room.here();
            let has_room = |charged: u64| {
                let charged = charged.saturating_add(item.times);
                (charged <= limit).then_some(charged)
            };
            let taken = app
                .charged
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, has_room);
            if let (Err(charged), CountedApp::Known(app)) = (taken, item.app) {
                let figures = room.figures(app, charged, item.placed.day);
                state.items[..index].iter().for_each(Item::release);
                state.items.clear();
                return Err(figures);
            }
        }
        state.stage = Stage::Reserved;
        Ok(())
    }

    /// The first byte is about to be given to the kernel.
    pub fn begin(&self) {
        let mut state = self.state();
        if state.stage != Stage::Reserved {
            return;
        }
        let mut book = self.tally.today();
        while !state.is_of(&book) {
            drop(book);
            state.replace(&mut self.tally.write(), |app| self.key(app));
            book = self.tally.today();
        }
        for item in &state.items {
            book.change(&item.placed, |map, slot| {
                map.add(Field::Begun.of(slot), item.times);
            });
            let app = &item.placed.app;
            app.requests.fetch_add(item.times, Ordering::AcqRel);
            self.tally.judge(app);
        }
        drop(book);
        self.tally.touch();
        state.stage = Stage::Counted;
    }

    /// The kernel has taken it.
    pub fn begun(&self) {
        let state = self.state();
        if state.stage == Stage::Counted {
            let book = self.tally.read();
            for item in &state.items {
                book.change(&item.placed, |map, slot| {
                    map.add(Field::Certain.of(slot), item.times);
                });
            }
        }
    }

    /// The kernel has not taken it: the try is as unsent as before.
    pub fn not_begun(&self) {
        self.state().uncount(&self.tally.read(), &[Field::Begun]);
    }

    /// kintone has not counted it: it refused the call at admission, or has seen nothing of it. The
    /// place in the budget stays, for the next try.
    pub fn take_back(&self) {
        self.state()
            .uncount(&self.tally.read(), &[Field::Certain, Field::Begun]);
    }

    /// It has become known which apps the call is about. What was counted under `unknown` is theirs.
    pub fn resolve(&self, apps: &Times) {
        let mut state = self.state();
        let is_unknown = |item: &Item| item.app == CountedApp::Unknown;
        let is_known = apps.iter().all(|(app, _)| *app != CountedApp::Unknown);
        if !is_known || state.stage != Stage::Counted || !state.items.iter().all(is_unknown) {
            return;
        }
        let tries = u64::from(state.earlier) + 1;
        let mut items = items(self.tally.place(apps, |app| self.key(app)));
        let book = self.tally.read();
        // First here, then away from there: never one too few.
        for item in &mut items {
            item.times *= tries;
            item.placed
                .app
                .charged
                .fetch_add(item.times, Ordering::AcqRel);
            item.count(&book);
            item.placed
                .app
                .budget
                .store(self.budget.part, Ordering::Relaxed);
            self.tally.judge(&item.placed.app);
        }
        for item in &mut state.items {
            item.times *= tries;
            item.uncount(&book, &[Field::Certain, Field::Begun]);
            item.release();
        }
        drop(book);
        state.earlier = 0;
        state.items = items;
    }

    /// What this host may let through of `limit`, which all hosts share.
    fn room(&self, app: &AppDay, limit: u64) -> Room {
        Room {
            limit,
            elsewhere: app.elsewhere.load(Ordering::Acquire),
            left: app.left_to(self.tally.silence(), self.budget.part),
        }
    }

    fn key(&self, app: CountedApp) -> Key {
        Key {
            account: self.payer.account.clone(),
            app,
            purpose: self.payer.purpose.clone(),
            tenant: self.payer.tenant.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.state().release();
    }
}

impl State {
    /// A place that was not used is free again.
    fn release(&self) {
        if self.stage == Stage::Reserved {
            self.items.iter().for_each(Item::release);
        }
    }

    /// Moves to today what has its place on a day that is over.
    fn replace(&mut self, book: &mut Book, key: impl Fn(CountedApp) -> Key) {
        for item in &mut self.items {
            if item.placed.day != book.day {
                item.release();
                self.earlier = 0;
                item.placed = book.place(&key(item.app));
                let charged = &item.placed.app.charged;
                charged.fetch_add(item.times, Ordering::AcqRel);
            }
        }
    }

    fn uncount(&mut self, book: &Book, fields: &[Field]) {
        if self.stage == Stage::Counted {
            self.items
                .iter()
                .for_each(|item| item.uncount(book, fields));
            self.stage = Stage::Reserved;
        }
    }

    /// The day on which it has its places, if they are all of one.
    fn is_of(&self, book: &Book) -> bool {
        self.items.iter().all(|item| item.placed.day == book.day)
    }
}

impl Item {
    fn new((app, times, placed): (CountedApp, u32, Placed)) -> Self {
        Self {
            app,
            times: u64::from(times),
            placed,
        }
    }

    fn count(&self, book: &Book) {
        book.change(&self.placed, |map, slot| {
            map.add(Field::Begun.of(slot), self.times);
            map.add(Field::Certain.of(slot), self.times);
        });
        self.placed
            .app
            .requests
            .fetch_add(self.times, Ordering::AcqRel);
    }

    fn uncount(&self, book: &Book, fields: &[Field]) {
        book.change(&self.placed, |map, slot| {
            for field in fields {
                map.take(field.of(slot), self.times);
            }
        });
        self.placed
            .app
            .requests
            .fetch_sub(self.times, Ordering::AcqRel);
    }

    /// Its place in the budget is free.
    fn release(&self) {
        self.placed
            .app
            .charged
            .fetch_sub(self.times, Ordering::AcqRel);
    }
}

fn items(places: Places) -> SmallVec<[Item; 1]> {
    places.into_iter().map(Item::new).collect()
}
