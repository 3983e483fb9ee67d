//! Mails on the disk, from the moment they are written until the server has them; what goes to the
//! webhook is kept among them.
//!
//! Each is a file of its own: one line of JSON, the [`Label`], then what is sent. It is written under
//! another name, brought to disk and renamed, so that it is there whole or not at all; its folder is
//! its state: `queue`, `held` (until an operator decides) or `dead` (undeliverable, for people to look
//! at). A mail that was sent just before a crash is sent again with the same Message-ID. Nothing here
//! waits for anything but the disk.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify as Bell;

use super::index::{Entry, Index};
use super::label::{Figures, Folder, Label, SpoolError, Way};
use super::patience::{is_too_old, wait_after};
use crate::config::SpoolTerms;

/// The mails in the state directory.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    index: Mutex<Index>,
    number: AtomicU64,
    mail: Outlet,
    webhook: Outlet,
}

/// What one way of sending has of its own.
#[derive(Debug, Default)]
struct Outlet {
    bell: Bell,
    sent: AtomicU64,
    given_up: AtomicU64,
    refused: AtomicU64,
}

/// The folder of the spool in the state directory.
const DIR: &str = "mail";

/// How a file of the spool ends.
const SUFFIX: &str = ".mail";

impl Spool {
    /// The spool in a state directory, with what an earlier process left there. Files that cannot be
    /// read are named and left alone. It blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError::Disk`].
    pub fn open(state_dir: &Path) -> Result<(Self, Vec<String>), SpoolError> {
        let dir = state_dir.join(DIR);
        let mut index = Index::default();
        let mut unreadable = Vec::new();
        for folder in Folder::ALL {
            let path = dir.join(folder.name());
            let files = match fs::read_dir(&path) {
                Ok(files) => files,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(at(&path)(error)),
            };
            for file in files {
                let path = file.map_err(at(&path))?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(id) = name.and_then(|name| name.strip_suffix(SUFFIX)) else {
                    continue;
                };
                match Label::read(&path) {
                    Ok(label) => index.enter(id.to_owned(), label, folder),
                    Err(error) => unreadable.push(format!("{}: {error}", path.display())),
                }
            }
        }
        let spool = Self {
            dir,
            index: Mutex::new(index),
            number: AtomicU64::new(0),
            mail: Outlet::default(),
            webhook: Outlet::default(),
        };
        Ok((spool, unreadable))
    }

    /// An identifier that no other mail has: they sort by age.
    #[must_use]
    pub fn new_id(&self, now: Timestamp) -> String {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let mut random = [0; 4];
        // Without random numbers the time and the count still tell mails apart.
        let _ = getrandom::fill(&mut random);
        let random = u32::from_le_bytes(random);
        format!("{:013}-{number:06}-{random:08x}", now.as_millisecond())
    }

    /// Takes a mail, whole or not at all. It blocks on the disk.
    ///
    /// # Errors
    /// [`SpoolError`]; it is counted.
    pub fn put(
        &self,
        id: &str,
        label: Label,
        mail: &[u8],
        folder: Folder,
        terms: SpoolTerms,
    ) -> Result<(), SpoolError> {
        let outlet = self.outlet(label.way);
        let waiting = self.index().mails.len();
        let written = if waiting >= terms.mails_max {
            Err(SpoolError::Full(waiting))
        } else {
            self.write(id, &label, mail, folder)
        };
        match written {
            Ok(()) => {
                self.index().enter(id.to_owned(), label, folder);
                outlet.bell.notify_one();
                Ok(())
            }
            Err(error) => {
                outlet.refused.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    /// The mails of a way that are due, the oldest first, at most `limit`.
    #[must_use]
    pub fn due(&self, way: Way, now: Timestamp, limit: usize) -> Vec<(String, Label)> {
        let index = self.index();
        let due = index.queue(way).filter(|(_, entry)| entry.due <= now);
        due.take(limit)
            .map(|(id, entry)| (id.clone(), entry.label.clone()))
            .collect()
    }

    /// When the next mail of a way is due.
    #[must_use]
    pub fn next_due(&self, way: Way) -> Option<Timestamp> {
        self.index().queue(way).map(|(_, entry)| entry.due).min()
    }

    /// How often a mail was tried in vain by this process.
    #[must_use]
    pub fn attempts(&self, id: &str) -> u32 {
        let index = self.index();
        index.mails.get(id).map_or(0, |entry| entry.attempts)
    }

    /// Returns when a mail of this way has come since it last did.
    pub async fn changed(&self, way: Way) {
        self.outlet(way).bell.notified().await;
    }

    /// A mail's bytes. It blocks on the disk.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn read(&self, id: &str) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.path(id, Folder::Queue))?;
        let begin = bytes.iter().position(|byte| *byte == b'\n');
        let begin = begin.ok_or_else(|| io::Error::other("it has no label"))?;
        Ok(bytes[begin + 1..].to_vec())
    }

    /// The server has it. It blocks on the disk.
    pub fn sent(&self, id: &str) {
        let entry = self.index().mails.remove(id);
        let way = entry.as_ref().map_or_else(Way::default, |it| it.label.way);
        self.outlet(way).sent.fetch_add(1, Ordering::Relaxed);
        let folder = entry.as_ref().map_or(Folder::Queue, Entry::folder);
        if let Err(error) = fs::remove_file(self.path(id, folder)) {
            tracing::error!(%error, id, "a mail that was sent cannot be removed, and may be sent again");
        }
    }

    /// The server did not take it this time: it is tried again, later each time, until it is given up;
    /// whether that is so now. It blocks on the disk.
    pub fn postpone(&self, id: &str, terms: SpoolTerms, now: Timestamp) -> bool {
        let mut index = self.index();
        let Some(entry) = index.mails.get_mut(id) else {
            return false;
        };
        let wait = wait_after(entry.attempts, terms);
        entry.attempts = entry.attempts.saturating_add(1);
        entry.due = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        let is_too_old = is_too_old(&entry.label, terms, now);
        drop(index);
        if is_too_old {
            self.give_up(id, terms);
        }
        is_too_old
    }

    /// Gives up the mails of a way that have waited for too long. It blocks on the disk.
    pub fn give_up_old(&self, way: Way, now: Timestamp, terms: SpoolTerms) {
        let index = self.index();
        let of_way = index.mails.iter();
        let queued = of_way.filter(|(_, entry)| entry.label.way == way && !entry.is_held);
        let old = queued.filter(|(_, entry)| is_too_old(&entry.label, terms, now));
        let old: Vec<_> = old.map(|(id, _)| id.clone()).collect();
        drop(index);
        for id in old {
            self.give_up(&id, terms);
        }
    }

    /// It cannot be delivered: it is kept for people to look at, the oldest such goes if there are too
    /// many. It blocks on the disk.
    pub fn give_up(&self, id: &str, terms: SpoolTerms) {
        let moved = fs::create_dir_all(self.dir.join(Folder::Dead.name()))
            .and_then(|()| fs::rename(self.path(id, Folder::Queue), self.path(id, Folder::Dead)));
        let mut index = self.index();
        let Some(entry) = index.mails.remove(id) else {
            return;
        };
        let outlet = self.outlet(entry.label.way);
        outlet.given_up.fetch_add(1, Ordering::Relaxed);
        if moved.is_ok() {
            index.dead.insert(id.to_owned(), entry.label);
        }
        let mut too_many = Vec::new();
        while index.dead.len() > terms.dead_max {
            too_many.extend(index.dead.pop_first());
        }
        drop(index);
        for (id, _) in too_many {
            let _ = fs::remove_file(self.path(&id, Folder::Dead));
        }
    }

    /// Moves the mails that still rest at `now` and that `which` chooses to those held. It blocks on
    /// the disk.
    pub fn hold(&self, now: Timestamp, which: impl Fn(&Label) -> bool) -> usize {
        self.shift(Folder::Queue, Folder::Held, |entry| {
            entry.rests(now) && which(&entry.label)
        })
    }

    /// Moves the mails held that `which` chooses into the queue: they are sent at once. It blocks on
    /// the disk.
    pub fn release(&self, which: impl Fn(&Label) -> bool) -> usize {
        let released = self.shift(Folder::Held, Folder::Queue, |entry| which(&entry.label));
        self.mail.bell.notify_one();
        self.webhook.bell.notify_one();
        released
    }

    /// Removes the mails that `which` chooses among those held, and those that still rest at `now`;
    /// their labels. It blocks on the disk.
    pub fn withdraw(&self, now: Timestamp, which: impl Fn(&Label) -> bool) -> Vec<Label> {
        self.remove_all(|entry| (entry.is_held || entry.rests(now)) && which(&entry.label))
    }

    /// The same, but for those held.
    pub fn withdraw_resting(&self, now: Timestamp, which: impl Fn(&Label) -> bool) -> Vec<Label> {
        self.remove_all(|entry| entry.rests(now) && which(&entry.label))
    }

    /// Removes the mails held that `which` chooses; their labels. It blocks on the disk.
    pub fn drop_held(&self, which: impl Fn(&Label) -> bool) -> Vec<Label> {
        self.remove_all(|entry| entry.is_held && which(&entry.label))
    }

    /// The labels of the mails held.
    #[must_use]
    pub fn held(&self) -> Vec<Label> {
        let index = self.index();
        let held = index.mails.values().filter(|entry| entry.is_held);
        held.map(|entry| entry.label.clone()).collect()
    }

    /// How a way stands.
    #[must_use]
    pub fn figures(&self, way: Way) -> Figures {
        let index = self.index();
        let (queued, held, dead) = index.counts(way);
        let outlet = self.outlet(way);
        Figures {
            queued,
            held,
            dead,
            oldest_due: index.queue(way).map(|(_, entry)| entry.label.due).min(),
            sent: outlet.sent.load(Ordering::Relaxed),
            given_up: outlet.given_up.load(Ordering::Relaxed),
            refused: outlet.refused.load(Ordering::Relaxed),
        }
    }

    const fn outlet(&self, way: Way) -> &Outlet {
        match way {
            Way::Mail => &self.mail,
            Way::Webhook => &self.webhook,
        }
    }

    fn remove_all(&self, which: impl Fn(&Entry) -> bool) -> Vec<Label> {
        let mut index = self.index();
        let chosen: Vec<_> = index
            .mails
            .extract_if(.., |_, entry| which(entry))
            .collect();
        drop(index);
        for (id, entry) in &chosen {
            if let Err(error) = fs::remove_file(self.path(id, entry.folder())) {
                tracing::error!(%error, id, "a mail cannot be removed, and may be sent after a restart");
            }
        }
        chosen.into_iter().map(|(_, entry)| entry.label).collect()
    }

    fn shift(&self, from: Folder, to: Folder, which: impl Fn(&Entry) -> bool) -> usize {
        let mut index = self.index();
        let mut shifted = 0;
        for (id, entry) in &mut index.mails {
            if entry.folder() != from || !which(entry) {
                continue;
            }
            let target = self.dir.join(to.name());
            let moved = fs::create_dir_all(&target);
            match moved.and_then(|()| fs::rename(self.path(id, from), self.path(id, to))) {
                Ok(()) => {
                    entry.is_held = to == Folder::Held;
                    shifted += 1;
                }
                Err(error) => tracing::error!(%error, id, "a mail cannot be moved"),
            }
        }
        shifted
    }

    fn write(
        &self,
        id: &str,
        label: &Label,
        mail: &[u8],
        folder: Folder,
    ) -> Result<(), SpoolError> {
        let path = self.path(id, folder);
        let new = path.with_extension("new");
        let write = || {
            fs::create_dir_all(self.dir.join(folder.name()))?;
            let mut file = File::create(&new)?;
            serde_json::to_writer(&mut file, label)?;
            file.write_all(b"\n")?;
            file.write_all(mail)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(self.dir.join(folder.name()))?.sync_all()
        };
        write().map_err(at(&path))
    }

    fn path(&self, id: &str, folder: Folder) -> PathBuf {
        self.dir.join(folder.name()).join(format!("{id}{SUFFIX}"))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SpoolError + '_ {
    |source| SpoolError::Disk {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
