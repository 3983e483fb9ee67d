//! The accounts that are closed because kintone does not know them, over restarts.
//!
//! One small JSON file in the state directory, written whole. The books of an account say whether it
//! is closed; this remembers since when and on what evidence, and how many were closed of late.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Config;
use crate::model::Account;

/// An account that is closed until somebody confirms it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closure {
    /// Its domain.
    pub account: String,
    /// Since when.
    pub closed_at: Timestamp,
    /// So many times in a row kintone said that it does not exist.
    pub answers: u32,
    /// SHA-256 of its table in the configuration then; another one confirms it.
    pub table: Option<String>,
}

/// Why closures could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ClosuresError {
    /// The file is there and cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// The closed accounts of a running gateway.
#[derive(Debug, Default)]
pub(super) struct Closures {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    closed: BTreeMap<Account, Closure>,
    /// When accounts were closed, the newest last.
    recent: VecDeque<Instant>,
}

/// The file as it stands on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    accounts: Vec<Closure>,
}

/// Its name in the state directory.
const FILE: &str = "unknown-accounts.json";
/// Where a damaged one is kept.
const FILE_DAMAGED: &str = "unknown-accounts.damaged";
/// Its form.
const VERSION: u32 = 1;
/// Accounts that can be closed at once; at five an hour a year's worth is fewer.
const CLOSED_MAX: usize = 50_000;
/// What "of late" is.
const LATELY: Duration = Duration::from_secs(3600);

impl Closures {
    /// Closes an account, unless `per_hour` were closed within the last hour.
    pub(super) fn close(&self, closure: Closure, per_hour: u32) -> bool {
        let now = Instant::now();
        let mut inner = self.inner();
        inner
            .recent
            .retain(|closed| now.duration_since(*closed) < LATELY);
        if inner.recent.len() >= per_hour as usize || inner.closed.len() >= CLOSED_MAX {
            return false;
        }
        inner.recent.push_back(now);
        let account = Account::from_normal(&closure.account);
        inner.closed.insert(account, closure);
        drop(inner);
        self.changed.notify_one();
        true
    }

    /// Takes over what an earlier process closed.
    pub(super) fn take_over(&self, closures: Vec<Closure>) {
        let closures = closures.into_iter();
        let closures = closures.map(|closure| (Account::from_normal(&closure.account), closure));
        self.inner().closed.extend(closures);
    }

    /// Opens an account again; whether it was closed.
    pub(super) fn confirm(&self, account: &Account) -> bool {
        let was_closed = self.inner().closed.remove(account).is_some();
        if was_closed {
            self.changed.notify_one();
        }
        was_closed
    }

    /// The accounts that a configuration confirms: it has a table for them that is new or says
    /// something else.
    pub(super) fn confirmed_by(&self, config: &Config) -> Vec<Account> {
        let inner = self.inner();
        let closed = inner.closed.iter();
        closed
            .filter(|(account, closure)| {
                let table = config.circuit.tables.get(*account);
                table.is_some() && table != closure.table.as_ref()
            })
            .map(|(account, _)| account.clone())
            .collect()
    }

    /// One of them.
    pub(super) fn of(&self, account: &Account) -> Option<Closure> {
        self.inner().closed.get(account).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Closure> {
        self.inner().closed.values().cloned().collect()
    }

    /// Returns when they have changed since it last did.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Closure {
    /// Those that were written to the state directory, none if there is no file. It blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`ClosuresError`].
    pub fn read_all(dir: &Path) -> Result<Vec<Self>, ClosuresError> {
        let bytes = match fs::read(dir.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let document: Document = serde_json::from_slice(&bytes)?;
        Ok(document.accounts)
    }

    /// Writes them to the state directory, so that either these or those before are there. It blocks
    /// on the disk.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn write_all(closures: Vec<Self>, dir: &Path) -> io::Result<()> {
        let document = Document {
            version: VERSION,
            accounts: closures,
        };
        let mut bytes = serde_json::to_vec_pretty(&document)?;
        bytes.push(b'\n');
        let new = dir.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, dir.join(FILE))?;
        File::open(dir)?.sync_all()
    }

    /// Puts a damaged file aside, for people to look at.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn put_aside(dir: &Path) -> io::Result<()> {
        fs::rename(dir.join(FILE), dir.join(FILE_DAMAGED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure(account: &str) -> Closure {
        Closure {
            account: account.to_owned(),
            closed_at: Timestamp::UNIX_EPOCH,
            answers: 10,
            table: None,
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Closure::read_all(dir.path()).unwrap(), []);
        let closures = vec![closure("a.cybozu.com"), closure("b.cybozu.com")];
        Closure::write_all(closures.clone(), dir.path()).unwrap();
        assert_eq!(Closure::read_all(dir.path()).unwrap(), closures);
        fs::write(dir.path().join(FILE), "{\"version\": 1, \"acc").unwrap();
        let error = Closure::read_all(dir.path()).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        Closure::put_aside(dir.path()).unwrap();
        assert_eq!(Closure::read_all(dir.path()).unwrap(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_closed_within_an_hour() {
        let closures = Closures::default();
        assert!(closures.close(closure("a.cybozu.com"), 2));
        tokio::time::advance(LATELY / 2).await;
        assert!(closures.close(closure("b.cybozu.com"), 2));
        assert!(!closures.close(closure("c.cybozu.com"), 2));
        tokio::time::advance(LATELY / 2).await;
        assert!(
            closures.close(closure("c.cybozu.com"), 2),
            "the first is old"
        );
        assert!(closures.confirm(&Account::from_normal("a.cybozu.com")));
        assert!(!closures.confirm(&Account::from_normal("a.cybozu.com")));
        assert_eq!(closures.all().len(), 2);
    }
}
