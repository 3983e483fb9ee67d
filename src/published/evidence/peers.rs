//! The records of the other hosts, as they told them: in the state directory beside this host's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use super::day::Day;
use super::recorder::{FOLDER, read_file};
use crate::published::store::replace;

/// How often what another host tells goes to the disk: after a crash it is heard again.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Keeps what other hosts tell of their records.
#[derive(Debug)]
pub struct Peers {
    dir: PathBuf,
    heard: Mutex<BTreeMap<(String, Date), Heard>>,
}

#[derive(Debug)]
struct Heard {
    day: Day,
    /// When it was last written, if it was.
    saved_at: Option<Timestamp>,
    is_saved: bool,
}

impl Peers {
    /// Those of the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self {
            dir: state.join(FOLDER),
            heard: Mutex::default(),
        }
    }

    /// Takes what `host` tells of its days, and writes what is due. It waits for the disk.
    ///
    /// # Errors
    /// The kernel's; it is tried again.
    pub fn hear(&self, host: &str, days: Vec<Day>, now: Timestamp) -> io::Result<()> {
        let mut heard = self.heard();
        for day in days {
            let of = (host.to_owned(), day.day);
            let before = heard.remove(&of);
            let is_same = before.as_ref().is_some_and(|before| before.day == day);
            let entry = Heard {
                day,
                saved_at: before.as_ref().and_then(|before| before.saved_at),
                is_saved: is_same && before.is_some_and(|before| before.is_saved),
            };
            heard.insert(of, entry);
        }
        drop(heard);
        self.save(now)
    }

    /// What `host` has told of a day.
    ///
    /// # Errors
    /// The kernel's, or that the file is damaged or of another version.
    pub fn day(&self, host: &str, of: Date) -> io::Result<Option<Day>> {
        if let Some(heard) = self.heard().get(&(host.to_owned(), of)) {
            return Ok(Some(heard.day.clone()));
        }
        read_file(&self.dir.join(name(host, of)), of)
    }

    fn save(&self, now: Timestamp) -> io::Result<()> {
        let every = SignedDuration::try_from(SAVE_EVERY).unwrap_or(SignedDuration::MAX);
        let is_due = |heard: &Heard| {
            let is_time = |at: Timestamp| now.duration_since(at).abs() >= every;
            !heard.is_saved && heard.saved_at.is_none_or(is_time)
        };
        let due: Vec<_> = {
            let heard = self.heard();
            let due = heard.iter().filter(|(_, heard)| is_due(heard));
            due.map(|(of, heard)| (of.clone(), heard.day.clone()))
                .collect()
        };
        if !due.is_empty() {
            fs::create_dir_all(&self.dir)?;
        }
        for (of, day) in due {
            let bytes = serde_json::to_vec(&day)?;
            replace(&self.dir, &name(&of.0, of.1), &bytes)?;
            if let Some(heard) = self.heard().get_mut(&of)
                && heard.day == day
            {
                (heard.is_saved, heard.saved_at) = (true, Some(now));
            }
        }
        self.forget();
        Ok(())
    }

    /// Days that are on the disk and not told any more are read from there: all but a host's last two.
    fn forget(&self) {
        let mut heard = self.heard();
        let mut last: BTreeMap<String, Date> = BTreeMap::new();
        for (host, day) in heard.keys() {
            let latest = last.entry(host.clone()).or_insert(*day);
            *latest = (*latest).max(*day);
        }
        let is_told = |host: &String, day: Date| {
            let last = last.get(host).and_then(|last| last.yesterday().ok());
            last.is_none_or(|before_last| day >= before_last)
        };
        heard.retain(|(host, day), heard| !heard.is_saved || is_told(host, *day));
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<(String, Date), Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a state directory has of a day of another host.
///
/// # Errors
/// The kernel's, or that the file is damaged or of another version.
pub fn read_peer_day(state: &Path, host: &str, of: Date) -> io::Result<Option<Day>> {
    read_file(&state.join(FOLDER).join(name(host, of)), of)
}

/// Host names have no character that means something in a path.
fn name(host: &str, day: Date) -> String {
    format!("{day}@{host}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::evidence::Run;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn day(of: i8, until: i64) -> Day {
        let mut day = Day::new(Date::constant(2027, 1, of));
        day.runs.push(Run {
            from: at(0),
            until: at(until),
            closed: false,
        });
        day
    }

    #[test]
    fn what_was_told_last_is_known_and_outlives_the_process() {
        let state = tempfile::tempdir().unwrap();
        let peers = Peers::new(state.path());
        let of = |of: i8| Date::constant(2027, 1, of);
        assert_eq!(peers.day("gw-b", of(15)).unwrap(), None);
        let on_disk = |of| read_peer_day(state.path(), "gw-b", of).unwrap();
        for (until, written) in [(1, 1), (6, 1), (59, 1), (61, 61), (66, 61)] {
            peers.hear("gw-b", vec![day(15, until)], at(until)).unwrap();
            assert_eq!(peers.day("gw-b", of(15)).unwrap(), Some(day(15, until)));
            assert_eq!(on_disk(of(15)), Some(day(15, written)), "{until}");
        }
        // The day turns: its last word is written when it is due, and at last read from there.
        for until in [70, 130] {
            let days = vec![day(16, until), day(15, 69)];
            peers.hear("gw-b", days, at(until)).unwrap();
        }
        assert_eq!(on_disk(of(15)), Some(day(15, 69)));
        let days = vec![day(17, 200), day(16, 199)];
        peers.hear("gw-b", days, at(200)).unwrap();
        assert_eq!(peers.heard().len(), 2);
        assert_eq!(peers.day("gw-b", of(15)).unwrap(), Some(day(15, 69)));
        assert_eq!(peers.day("gw-c", of(15)).unwrap(), None);
    }
}
