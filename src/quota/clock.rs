//! One clock for permits, waits and rates: tokio's, so that a paused test drives all of them.

use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

use governor::clock::{Clock as GovernorClock, Reference};
use governor::nanos::Nanos;
use tokio::time::Instant;

use super::boottime::since_boot;

/// A point in time, in nanoseconds since the [`Clock`] was made; 584 years fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(
    /// One more than those nanoseconds: so an optional moment takes no more memory.
    NonZeroU64,
);

/// Reads tokio's clock as a [`Moment`]; also governor's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
    /// How long the machine had been up then, suspensions included, in nanoseconds.
    up: u64,
}

/// What [`Clock::instant`] gives for a moment that tokio cannot represent.
const FAR_AWAY: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Moment {
    /// When the clock was made.
    pub(super) const ZERO: Self = Self(NonZeroU64::MIN);

    /// How long after `earlier` this is; zero if it is not.
    pub(super) const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(earlier.nanos()))
    }

    /// This and `span` later, at most the end of time.
    pub(super) const fn after(self, span: Duration) -> Self {
        Self::of_nanos(self.nanos().saturating_add(nanos(span)))
    }

    /// This and `span` earlier, at the earliest when the clock was made.
    pub(super) const fn before(self, span: Duration) -> Self {
        Self::of_nanos(self.nanos().saturating_sub(nanos(span)))
    }

    /// So many nanoseconds after the clock was made.
    pub(super) const fn of_nanos(nanos: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    /// Nanoseconds since the clock was made.
    pub(super) const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// Whole seconds since the clock was made.
    pub(super) const fn seconds(self) -> u64 {
        self.nanos() / 1_000_000_000
    }
}

impl Default for Moment {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Clock {
    /// A clock that begins at zero, here and now.
    pub(super) fn new() -> Self {
        Self::begun(Duration::ZERO)
    }

    /// A clock that began `ago`: what happened since has a moment too.
    pub(super) fn begun(ago: Duration) -> Self {
        let now = Instant::now();
        Self {
            start: now.checked_sub(ago).unwrap_or(now),
            up: nanos(since_boot().saturating_sub(ago)),
        }
    }

    /// How long the machine had been up at a moment, or less: suspensions since the clock was made
    /// are left out.
    pub(super) fn since_boot(&self, moment: Moment) -> Duration {
        Duration::from_nanos(self.up.saturating_add(moment.nanos()))
    }

    /// The time.
    pub(super) fn moment(&self) -> Moment {
        self.at(Instant::now())
    }

    /// The moment of one of tokio's instants; zero if it was before the clock began.
    pub(super) fn at(&self, instant: Instant) -> Moment {
        Moment::of_nanos(nanos(instant.saturating_duration_since(self.start)))
    }

    /// The instant to sleep until.
    pub(super) fn instant(&self, moment: Moment) -> Instant {
        self.start
            .checked_add(Duration::from_nanos(moment.nanos()))
            .unwrap_or_else(|| self.start + FAR_AWAY)
    }
}

/// A span in nanoseconds, at most 584 years.
const fn nanos(span: Duration) -> u64 {
    let nanos = span.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        nanos as u64
    }
}

impl GovernorClock for Clock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        self.moment()
    }
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, span: Nanos) -> Self {
        Self::of_nanos(self.nanos().saturating_add(span.as_u64()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        Nanos::new(self.nanos().saturating_sub(earlier.nanos()))
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self::of_nanos(self.nanos().saturating_sub(span.as_u64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn moments_follow_the_paused_clock_and_come_back_as_instants() {
        let clock = Clock::new();
        tokio::time::advance(Duration::from_millis(1500)).await;
        let moment = clock.moment();
        assert_eq!(moment.since(Moment::default()), Duration::from_millis(1500));
        assert_eq!(clock.instant(moment), Instant::now());
        assert_eq!(moment.seconds(), 1);
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let clock = Clock::new();
        let last = Moment::default().after(Duration::MAX);
        assert_eq!(last.after(Duration::from_secs(1)), last);
        assert!(clock.instant(last) > Instant::now());
    }
}
