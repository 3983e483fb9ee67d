//! How many permits there are, and which calls may take one.

use crate::model::Priority;

use super::clock::Moment;
use super::share::Term;

/// How many permits there are, and how many are in use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Permits of this host now.
    pub(super) allowed: u32,
    /// Those in use, settling ones among them.
    pub(super) in_use: u32,
    /// Those in use by batch calls.
    pub(super) batch_in_use: u32,
    /// Those that batch calls leave alone.
    pub(super) reserve: u32,
    /// Those that long calls may still take, free or not: the rest is borrowed, or theirs already.
    pub(super) long_left: u32,
    /// The time.
    pub(super) now: Moment,
}

/// Whether the batch call at hand is the one in ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Usual,
    Tenth,
}

impl Room {
    /// Whether `permits` more are there at all. A call that wants more than there are goes alone.
    pub(super) const fn fits(&self, permits: u32) -> bool {
        let is_alone = self.in_use == 0 && self.allowed > 0;
        is_alone || self.in_use.saturating_add(permits) <= self.allowed
    }

    /// Whether a call of this term may have one of the permits that there are.
    pub(super) const fn lasts(&self, term: Term, permits: u32) -> bool {
        match term {
            Term::Short => true,
            Term::Long => permits <= self.long_left,
        }
    }

    /// Whether a call of this priority may take them.
    pub(super) const fn admits(&self, priority: Priority, permits: u32, turn: Turn) -> bool {
        let taken = match (priority, turn) {
            (Priority::Interactive, _) => return self.fits(permits),
            (Priority::Batch, Turn::Usual) => self.in_use,
            (Priority::Batch, Turn::Tenth) => self.batch_in_use,
        };
        self.fits(permits)
            && (taken == 0 || taken.saturating_add(permits) <= self.allowed - self.reserve)
    }
}
