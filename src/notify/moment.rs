//! A moment by both clocks: the one that is never set measures, the other one is told to people.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock that only runs forward.
    pub instant: Instant,
    /// By the clock on the wall.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self {
            instant: tokio::time::Instant::now().into_std(),
            wall: Timestamp::now(),
        }
    }

    /// The moment that the wall showed as `wall`, seen from this one; at the earliest what the other
    /// clock can hold.
    #[must_use]
    pub fn at(self, wall: Timestamp) -> Self {
        let ago = self.wall.duration_since(wall).max(SignedDuration::ZERO);
        let instant = self.instant.checked_sub(ago.unsigned_abs());
        Self {
            instant: instant.unwrap_or(self.instant),
            wall,
        }
    }

    /// How long ago `earlier` was; zero for a later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}
