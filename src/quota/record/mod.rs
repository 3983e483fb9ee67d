//! What is in flight at kintone, written down where the end of the process does not reach: the next
//! process counts it.
//!
//! A call is written before its first byte goes to kintone and taken out when its end was seen or it
//! has settled. So after kill -9 the next process knows every call that kintone may still work on,
//! and lets all others go at once; after a power loss nothing is known, and calls wait until `settle`
//! has passed since the machine began.
//!
//! `layout` is the file's form, `takeover` what a start concludes from it, `log` how calls get their
//! slots: all three know no file. `boot` asks the kernel, `file` takes the directory, `map` holds the
//! words.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs, io};

use crate::model::{Account, Priority, Tenant};

pub use boot::{Boot, BootError};
pub use file::RecordError;
pub use layout::Damage;
pub use takeover::Found;

pub(super) use layout::{SLOTS, SlotNumber, WORDS, Words};
pub(super) use log::Line;
pub(super) use map::Map;

use layout::{Entry, Stamp};
use log::Log;

mod boot;
mod file;
mod layout;
mod log;
mod map;
mod takeover;

/// A record that was opened, and what earlier processes left in it.
#[derive(Debug)]
pub struct Opened {
    shared: Shared,
    /// Calls of theirs that may still run at kintone, the longest aborted first.
    pub(super) calls: Vec<Inherited>,
    /// How long ago calls were sent last that are not among them; `None`: there are none.
    pub(super) unknown: Option<Duration>,
    found: Found,
}

/// A call of an earlier process that may still run at kintone.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) line: Line,
    pub(super) account: Account,
    pub(super) tenant: Tenant,
    pub(super) priority: Priority,
    pub(super) permits: u32,
    /// How long ago it was aborted.
    pub(super) age: Duration,
}

/// Where calls in flight are written down. Cloning is a reference count.
#[derive(Debug, Clone)]
pub(super) struct Record(Arc<Shared>);

struct Shared {
    log: Log<Map>,
    /// Told of each call that finds no slot.
    full: Option<Box<dyn Fn() + Send + Sync>>,
    /// Locked while it is open, or until it is released, by this process alone.
    lock: fs::File,
}

impl Opened {
    /// Takes the state directory for this process alone, and the record in it. It blocks on the disk.
    ///
    /// # Errors
    /// [`RecordError`], with the remedy: another process has the directory, or it cannot be written.
    pub fn open(dir: &Path, boot: Boot) -> Result<Self, RecordError> {
        let file::Held {
            log,
            takeover,
            lock,
        } = file::take(dir, boot)?;
        let calls = takeover.calls.into_iter().map(|inherited| Inherited {
            line: Line(inherited.slot),
            account: inherited.call.account,
            tenant: inherited.call.tenant,
            priority: inherited.call.priority,
            permits: inherited.call.permits,
            age: inherited.age,
        });
        Ok(Self {
            calls: calls.collect(),
            unknown: takeover.unknown,
            found: takeover.found,
            shared: Shared {
                log,
                full: None,
                lock,
            },
        })
    }

    /// Lets `full` be told of each call that finds no place in the record. It must not wait. The call
    /// goes all the same; killed while it is in flight, the next process waits as if it knew nothing.
    #[must_use]
    pub fn tell_full(mut self, full: impl Fn() + Send + Sync + 'static) -> Self {
        self.shared.full = Some(Box::new(full));
        self
    }

    /// Where this process writes from here on.
    pub(super) fn into_record(self) -> Record {
        Record(Arc::new(self.shared))
    }

    /// What was there.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// Permits of the calls taken over.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.calls.iter().map(|call| call.permits).sum()
    }
}

impl Record {
    /// Writes down a call, before its first byte.
    pub(super) fn begin(
        &self,
        account: &Account,
        tenant: &Tenant,
        priority: Priority,
        permits: u32,
    ) -> Line {
        let line = self.0.log.begin(&Entry {
            account: account.as_str(),
            tenant: tenant.as_str(),
            priority,
            permits,
        });
        if let (false, Some(full)) = (line.is_recorded(), &self.0.full) {
            full();
        }
        line
    }

    /// The call was aborted now: kintone may go on working.
    pub(super) fn abort(&self, line: Line) {
        self.0.log.abort(line, Stamp::now());
    }

    /// The call holds fewer permits than before.
    pub(super) fn resize(&self, line: Line, permits: u32) {
        self.0.log.resize(line, permits);
    }

    /// Nothing of the call is at kintone any more.
    pub(super) fn end(&self, line: Line) {
        self.0.log.end(line);
    }

    /// Calls of which nothing was known have settled: from here on the record has everything.
    pub(super) fn know_all(&self) {
        self.0.log.know_all();
    }

    /// Brings everything to disk and says so: then a start after the machine's end knows it too.
    /// Nothing may be sent any more.
    pub(super) fn close(&self) -> io::Result<()> {
        self.0.log.close()
    }

    /// Leaves the state directory to the next process. Nothing may be written any more.
    pub(super) fn release(&self) -> io::Result<()> {
        self.0.lock.unlock()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
