//! Which messages are in the spool, and which of them may go. Pure.

use std::collections::{BTreeMap, HashSet};

use foldhash::fast::RandomState;
use jiff::Timestamp;

use super::label::{Folder, Label, Way};

/// The messages by their identifiers, which sort by age.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) mails: BTreeMap<String, Entry>,
    pub(super) dead: BTreeMap<String, Label>,
}

/// A message that waits.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) label: Label,
    /// When it is tried, or tried again.
    pub(super) due: Timestamp,
    pub(super) attempts: u32,
    pub(super) is_held: bool,
}

impl Index {
    /// Takes one up in the state that its folder says.
    pub(super) fn enter(&mut self, id: String, label: Label, folder: Folder) {
        if folder == Folder::Dead {
            self.dead.insert(id, label);
            return;
        }
        let entry = Entry {
            due: label.due,
            label,
            attempts: 0,
            is_held: folder == Folder::Held,
        };
        self.mails.insert(id, entry);
    }

    /// The queue of a way, the oldest first. Of what one recipient is told about one episode only the
    /// first is in it: nobody reads of the end before the beginning.
    pub(super) fn queue(&self, way: Way) -> impl Iterator<Item = (&String, &Entry)> {
        let queued = self.mails.iter();
        let queued = queued.filter(move |(_, entry)| entry.label.way == way && !entry.is_held);
        let mut told = HashSet::with_hasher(RandomState::default());
        queued.filter(move |(_, Entry { label, .. })| {
            told.insert((label.reference.as_str(), label.to.as_str()))
        })
    }

    /// How many of a way wait, how many are held, how many are dead.
    pub(super) fn counts(&self, way: Way) -> (usize, usize, usize) {
        let of_way = self.mails.values().filter(|entry| entry.label.way == way);
        let (held, queued): (Vec<_>, Vec<_>) = of_way.partition(|entry| entry.is_held);
        let dead = self.dead.values().filter(|label| label.way == way);
        (queued.len(), held.len(), dead.count())
    }
}

impl Entry {
    /// Whether it was not tried yet and is not due.
    pub(super) fn rests(&self, now: Timestamp) -> bool {
        !self.is_held && self.attempts == 0 && self.due > now
    }

    /// Where its file is.
    pub(super) const fn folder(&self) -> Folder {
        if self.is_held {
            Folder::Held
        } else {
            Folder::Queue
        }
    }
}
