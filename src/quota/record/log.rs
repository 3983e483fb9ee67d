//! The record as a process writes it: which slot each call has.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::boot::Boot;
use super::layout::{self, Damage, Entry, Header, SLOTS, SlotNumber, Stamp, Words};
use super::takeover::{CLOSED, OPEN, OnDisk, Takeover, take_over};

/// A record in the hands of a process.
#[derive(Debug)]
pub(super) struct Log<W> {
    words: W,
    slots: Mutex<Slots>,
}

/// Where a call is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::quota) struct Line(pub(super) SlotNumber);

/// Slots that calls may take.
#[derive(Debug)]
struct Slots {
    /// Those given back, the last one first, so that few pages are in use.
    vacant: Vec<SlotNumber>,
    /// The first that was never used.
    next: u32,
    /// Calls that found none.
    unrecorded: u64,
}

/// The line of a call that found no slot: it is only counted.
const UNRECORDED: Line = Line(SlotNumber(u32::MAX));

impl Line {
    /// Whether it is more than a number.
    pub(super) fn is_recorded(self) -> bool {
        self != UNRECORDED
    }
}

impl<W: Words> Log<W> {
    /// Takes over what is there.
    pub(super) fn open(words: W, boot: Boot) -> io::Result<Result<(Self, Takeover), Damage>> {
        let takeover = match take_over(&words, boot) {
            Ok(takeover) => takeover,
            Err(damage) => return Ok(Err(damage)),
        };
        if takeover.on_disk == OnDisk::Closed {
            words.sync()?;
            Header::Closed.store(&words, OPEN);
        }
        let next = u32::try_from(Header::Used.load(&words)).map_or(SLOTS, |used| used.min(SLOTS));
        let mut vacant: Vec<_> = (0..next).rev().map(SlotNumber).collect();
        let mut taken: Vec<_> = takeover.calls.iter().map(|call| call.slot).collect();
        taken.sort_unstable();
        vacant.retain(|slot| taken.binary_search(slot).is_err());
        let slots = Mutex::new(Slots {
            vacant,
            next,
            unrecorded: 0,
        });
        Ok(Ok((Self { words, slots }, takeover)))
    }

    /// Writes down a call, before its first byte.
    pub(super) fn begin(&self, entry: &Entry<'_>) -> Line {
        let Some(slot) = self.vacancy() else {
            return self.count();
        };
        if layout::write(&self.words, slot, entry) {
            Line(slot)
        } else {
            self.slots().vacant.push(slot);
            self.count()
        }
    }

    /// The call was aborted: kintone may go on working.
    pub(super) fn abort(&self, line: Line, at: Stamp) {
        if line.is_recorded() {
            layout::abort(&self.words, line.0, at);
        }
    }

    /// The call holds fewer permits than before.
    pub(super) fn resize(&self, line: Line, permits: u32) {
        if line.is_recorded() {
            layout::resize(&self.words, line.0, permits);
        }
    }

    /// Nothing of the call is at kintone any more.
    pub(super) fn end(&self, line: Line) {
        if line == UNRECORDED {
            let mut slots = self.slots();
            slots.unrecorded -= 1;
            Header::Unrecorded.store(&self.words, slots.unrecorded);
        } else {
            layout::vacate(&self.words, line.0);
            self.slots().vacant.push(line.0);
        }
    }

    /// Calls of which nothing was known have settled: from here on the record has everything.
    pub(super) fn know_all(&self) {
        Header::KnownSince.store(&self.words, 0);
    }

    /// Brings everything to disk, then says so there. Nothing may be sent any more.
    pub(super) fn close(&self) -> io::Result<()> {
        self.words.sync()?;
        Header::Closed.store(&self.words, CLOSED);
        self.words.sync()
    }

    fn vacancy(&self) -> Option<SlotNumber> {
        let mut slots = self.slots();
        if let Some(slot) = slots.vacant.pop() {
            return Some(slot);
        }
        if slots.next >= SLOTS {
            return None;
        }
        let slot = SlotNumber(slots.next);
        // A power loss may have left something in it that this record never counted.
        layout::vacate(&self.words, slot);
        slots.next += 1;
        Header::Used.store(&self.words, u64::from(slots.next));
        Some(slot)
    }

    fn count(&self) -> Line {
        let mut slots = self.slots();
        slots.unrecorded += 1;
        Header::Unrecorded.store(&self.words, slots.unrecorded);
        UNRECORDED
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
