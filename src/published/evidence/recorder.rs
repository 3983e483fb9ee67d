//! The days on disk: today's file is written every few seconds, old ones are deleted.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;
use jiff::{Span, Timestamp};

use super::day::{Day, LAYOUT, Run};
use super::peers::Peers;
use super::told;
use crate::config::Evidence;
use crate::published::calendar::{day, midnight, next_midnight};
use crate::published::store::replace;

/// The folder in the state directory.
pub(super) const FOLDER: &str = "evidence";

/// Runs of one day that are told apart; beyond, the last one begins anew and what lay before it is a
/// gap. A gateway that starts so often has other worries.
const RUNS_MAX: usize = 1000;

/// Days that wait to be written, at most; the oldest are given up, which is a gap.
const PASSED_MAX: usize = 3;

/// Largest file of a day, in bytes: some 400 for each account.
const DAY_BYTES_MAX: u64 = 64 << 20;

/// Writes connections down.
#[derive(Debug)]
pub struct Recorder {
    dir: PathBuf,
    book: Mutex<Book>,
    peers: Peers,
}

#[derive(Debug)]
struct Book {
    today: Day,
    /// The day before, once it is over: other hosts may not have heard its end.
    yesterday: Option<Day>,
    /// Days that have passed since they were written last.
    passed: Vec<Day>,
    accounts_max: usize,
    keep_days: u16,
    trouble: Option<String>,
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Closed,
}

/// What the state directory `state` has of a day.
///
/// # Errors
/// The kernel's, or that the file is damaged or of another version.
pub fn read_day(state: &Path, of: Date) -> io::Result<Option<Day>> {
    read_file(&state.join(FOLDER).join(name(of)), of)
}

/// What a file has of a day.
pub(super) fn read_file(path: &Path, of: Date) -> io::Result<Option<Day>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(DAY_BYTES_MAX).read_to_end(&mut bytes)?;
    let day: Day = serde_json::from_slice(&bytes)?;
    if day.layout == LAYOUT && day.day == of {
        Ok(Some(day))
    } else {
        Err(io::Error::other("it is of another version or another day"))
    }
}

fn name(day: Date) -> String {
    format!("{day}.json")
}

impl Recorder {
    /// Goes on with what the state directory `state` has of this day, and writes there that a gateway
    /// is at work. A file that cannot be read is put aside: what it said is a gap.
    #[must_use]
    pub fn open(state: &Path, settings: &Evidence, now: Timestamp) -> Self {
        let dir = state.join(FOLDER);
        let today = day(now);
        let known = read_day(state, today).unwrap_or_else(|error| {
            tracing::error!(%error, day = %today, "the evidence of this day cannot be read");
            let damaged = dir.join(format!("{today}.damaged"));
            if let Err(error) = fs::rename(dir.join(name(today)), damaged) {
                tracing::warn!(%error, "the damaged evidence was not put aside");
            }
            None
        });
        let yesterday = today.yesterday().ok();
        let yesterday = yesterday.and_then(|day| read_day(state, day).ok().flatten());
        let mut today = known.unwrap_or_else(|| Day::new(today));
        begin(&mut today, now);
        let recorder = Self {
            dir,
            book: Mutex::new(Book {
                today,
                yesterday,
                passed: Vec::new(),
                accounts_max: settings.accounts,
                keep_days: settings.keep_days,
                trouble: None,
            }),
            peers: Peers::new(state),
        };
        recorder.save(now);
        recorder
    }

    /// Writes a connection down that stands: the account, the local address of its socket, and what
    /// is published for that one.
    pub fn record(
        &self,
        account: &str,
        local: Ipv4Addr,
        published: Option<Ipv4Addr>,
        now: Timestamp,
    ) {
        let mut book = self.book();
        book.turn(now);
        let accounts_max = book.accounts_max;
        let today = &mut book.today;
        today.record(account, local, published, now, accounts_max);
    }

    /// Brings what was recorded until `now` to the disk, and deletes days that are old enough. What
    /// cannot be written is tried again. It waits for the disk.
    pub fn save(&self, now: Timestamp) {
        self.write(now, End::Open);
    }

    /// The same at the end of the gateway: nothing comes after.
    pub fn close(&self, now: Timestamp) {
        self.write(now, End::Closed);
    }

    /// What other hosts tell of their records.
    #[must_use]
    pub const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Why the last writing failed, if it did.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.book().trouble.clone()
    }

    /// Today as it is at this moment, if `of` is today.
    #[must_use]
    pub fn today(&self, of: Date, now: Timestamp) -> Option<Day> {
        let mut book = self.book();
        book.turn(now);
        book.extend(now);
        (book.today.day == of).then(|| book.today.clone())
    }

    /// What other hosts are told: today and the day before, in at most `bytes_max` bytes; `None` if not
    /// even its times fit.
    #[must_use]
    pub fn told(&self, bytes_max: usize, now: Timestamp) -> Option<Vec<u8>> {
        let days: Vec<Day> = {
            let mut book = self.book();
            book.turn(now);
            book.extend(now);
            let days = [Some(&book.today), book.yesterday.as_ref()];
            days.into_iter().flatten().cloned().collect()
        };
        told::encode(&days, bytes_max)
    }

    fn write(&self, now: Timestamp, end: End) {
        let trouble = self
            .try_write(now, end)
            .err()
            .map(|error| error.to_string());
        let mut book = self.book();
        match (&trouble, &book.trouble) {
            (Some(error), None) => tracing::error!(error, "evidence cannot be written"),
            (None, Some(_)) => tracing::info!("evidence is written again"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        book.trouble = trouble;
    }

    fn try_write(&self, now: Timestamp, end: End) -> io::Result<()> {
        let (today, passed, keep_days) = {
            let mut book = self.book();
            book.turn(now);
            book.extend(now);
            if let Some(run) = book.today.runs.last_mut() {
                run.closed = end == End::Closed;
            }
            (book.today.clone(), book.passed.clone(), book.keep_days)
        };
        fs::create_dir_all(&self.dir)?;
        for day in passed.iter().chain([&today]) {
            let bytes = serde_json::to_vec(day)?;
            replace(&self.dir, &name(day.day), &bytes)?;
        }
        // Those that passed meanwhile are written next time.
        let written = |one: &Day| passed.iter().any(|day| day.day == one.day);
        self.book().passed.retain(|one| !written(one));
        if !passed.is_empty() || end == End::Closed {
            prune(&self.dir, today.day, keep_days)?;
        }
        Ok(())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Opens the page of the day that `now` lies on. A clock that goes back opens none; one that
    /// leaps over days leaves them out.
    fn turn(&mut self, now: Timestamp) {
        if self.today.day >= day(now) {
            return;
        }
        self.extend(next_midnight(midnight(self.today.day)));
        let begun = midnight(day(now));
        let mut today = Day::new(day(now));
        begin(&mut today, begun);
        let passed = std::mem::replace(&mut self.today, today);
        self.yesterday = Some(passed.clone());
        self.passed.push(passed);
        // A disk that takes nothing for days must not fill the memory.
        let more = self.passed.len().saturating_sub(PASSED_MAX);
        self.passed.drain(..more);
    }

    /// Everything until `now` is recorded.
    fn extend(&mut self, now: Timestamp) {
        if let Some(run) = self.today.runs.last_mut() {
            run.until = run.until.max(now);
        }
    }
}

fn begin(today: &mut Day, now: Timestamp) {
    let run = Run {
        from: now,
        until: now,
        closed: false,
    };
    if today.runs.len() >= RUNS_MAX {
        today.runs.pop();
    }
    today.runs.push(run);
}

/// Deletes the files of days before the last `keep_days`, and nothing else.
fn prune(dir: &Path, today: Date, keep_days: u16) -> io::Result<()> {
    let first = today.saturating_sub(Span::new().days(i64::from(keep_days)));
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        // Those of other hosts have their names behind the day.
        let stem = stem.map(|stem| stem.split_once('@').map_or(stem, |(day, _)| day));
        let of: Option<Date> = stem.and_then(|stem| stem.parse().ok());
        if of.is_some_and(|of| of < first) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
