//! How many calls each app has made today, and on the 400 days before: exact over the end of the
//! process, and the budget that is held against it.
//!
//! kintone counts an app's calls from 09:00 to 09:00 Japan time and refuses none for it; who goes
//! beyond hears of Cybozu. So the gateway counts what it sends: from the first byte that is given to
//! the kernel, per account, app, purpose and tenant, less what kintone refused at admission and what
//! it has never seen. A call that broke on the way stays counted: kintone may have.
//!
//! `layout` is the form of the counts in their file, which is mapped into memory: so they outlive
//! kill -9 without a system call. `file` opens it. `book` knows where each count is, `tally` is the
//! book behind its lock, and `archive` has the days that are over. `charge` is one call's part,
//! `budget` what an app may use. `told` is what hosts tell each other of a day, and `elsewhere` what
//! they have heard: a budget is held against the calls of all. After the end of the machine, what was counted since the last sync
//! ([`SYNC_EVERY`] at most, and what the kernel was writing) is lost.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::kintone::day::Day;
use crate::model::{Account, CountedApp, Table};

pub use archive::{ArchiveError, DayRow};
pub use budget::Budget;
pub use charge::{Charge, Payer};
pub use elsewhere::{Silence, Word};
pub use file::FoundCounts;
pub use tally::{DayClock, Times, Warning};
pub use told::ToldError;

use super::record::RecordError;
use book::Book;
use tally::Tally;

mod archive;
mod book;
mod budget;
mod charge;
mod elsewhere;
mod file;
mod layout;
mod tally;
mod told;

/// How often the counts are brought to disk.
const SYNC_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked for days that are over.
const ARCHIVE_EVERY: Duration = Duration::from_secs(60);

/// The calls of the days. Cloning is a reference count.
#[derive(Debug, Clone)]
pub struct Days(Arc<Tally>);

/// An app's calls of today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppToday {
    /// The account.
    pub account: Account,
    /// The app.
    pub app: CountedApp,
    /// Calls begun since 09:00 Japan time, those that other hosts have told of included.
    pub requests: u64,
}

impl Days {
    /// Goes on from the counts in the state directory, which must belong to this process alone.
    /// `full` is told of each call that finds no row of its own. It blocks on the disk.
    ///
    /// # Errors
    /// [`RecordError`], with the remedy: the file cannot be made, read or written.
    pub fn open(
        dir: &Path,
        clock: DayClock,
        full: impl Fn() + Send + Sync + 'static,
    ) -> Result<(Self, FoundCounts), RecordError> {
        let file::Held { map, rows, found } = file::take(dir)?;
        let book = Book::new(map, &rows, clock.day());
        let archive = dir.join(file::ARCHIVE);
        let tally = Tally::new(book, clock, archive, Box::new(full));
        Ok((Self(Arc::new(tally)), found))
    }

    /// What a call of `payer` counts for, nothing so far.
    #[must_use]
    pub fn charge(&self, payer: Payer, budget: Budget) -> Arc<Charge> {
        Arc::new(Charge::new(Arc::clone(&self.0), payer, budget))
    }

    /// The day that calls are counted for.
    #[must_use]
    pub fn today(&self) -> Day {
        self.0.today().day
    }

    /// Today's apps, in no order.
    #[must_use]
    pub fn apps_today(&self) -> Vec<AppToday> {
        let book = self.0.today();
        let (apps, elsewhere) = (book.apps(), Arc::clone(&book.elsewhere));
        drop(book);
        let mut calls: Table<_, u64> = elsewhere
            .apps()
            .map(|(of, told)| (of.clone(), told.requests))
            .collect();
        for app in &apps {
            calls.insert((app.account.clone(), app.app), app.total());
        }
        let calls = calls.into_iter().filter(|(_, requests)| *requests > 0);
        let apps = calls.map(|((account, app), requests)| AppToday {
            account,
            app,
            requests,
        });
        apps.collect()
    }

    /// What this host tells the others of its calls of today, in at most `bytes_max` bytes, and how many
    /// apps found no room in it: those with the fewest calls.
    #[must_use]
    pub fn told(&self, bytes_max: usize) -> (Vec<u8>, usize) {
        let told = self.0.today().told();
        told.encode(bytes_max)
    }

    /// Takes what other hosts have told; of a host that says nothing, its last word of the day stands.
    /// The words that are of no use are given back, with their host.
    ///
    /// While hosts are `silent`, an enforced budget leaves them their parts of what was left when all
    /// were last heard.
    pub fn hear(&self, words: &[Word<'_>], silence: Silence) -> Vec<(String, ToldError)> {
        self.0.hear(words, silence)
    }

    /// Hosts will be heard of ([`Self::hear`]); none is yet.
    pub fn expect(&self, silence: Silence) {
        self.0.set_silence(silence);
    }

    /// What was counted for an account on the days `from` to `to`, by day, app, purpose and tenant.
    /// It blocks on the disk.
    ///
    /// # Errors
    /// [`ArchiveError`], with the file.
    pub fn rows(&self, account: &Account, from: Day, to: Day) -> Result<Vec<DayRow>, ArchiveError> {
        self.0.days(account, from, to)
    }

    /// Judges what was counted before the start by the budgets in force: who was not warned yet is
    /// now.
    pub fn judge(&self, budget_of: impl Fn(&Account) -> u64) {
        self.0.judge_all(&budget_of);
    }

    /// Tells warnings as they become due, brings the counts to disk, puts days that are over into
    /// the archive. Runs for ever, as one task.
    pub async fn drive(&self, tell: impl Fn(&Warning)) {
        let mut sync = interval(SYNC_EVERY);
        let mut archive = interval(ARCHIVE_EVERY);
        for interval in [&mut sync, &mut archive] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            self.0.tell(&tell);
            tokio::select! {
                () = self.0.bell.notified() => {}
                _ = sync.tick() => self.on_disk("brought to disk", Tally::sync).await,
                _ = archive.tick() => self.on_disk("archived", Tally::archive).await,
            }
        }
    }

    /// Brings the counts to disk. It blocks on it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    async fn on_disk(&self, what: &'static str, task: fn(&Tally) -> io::Result<()>) {
        let tally = Arc::clone(&self.0);
        let begun = Instant::now();
        match tokio::task::spawn_blocking(move || task(&tally)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "daily counts could not be {what}; they go on in memory");
            }
            Err(panic) => tracing::error!(%panic, "daily counts could not be {what}"),
        }
        let took = begun.elapsed();
        if took > SYNC_EVERY {
            tracing::warn!(?took, "the disk of [state] dir is slow");
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_elsewhere;
