//! Whether this process ran all the time: a call during which it was stopped says nothing of how long
//! kintone takes.
//!
//! The clockwork's beats come late after a stop (SIGSTOP, a machine with no time for it). Whoever
//! looks first notices, be it an answer that was read before the clockwork woke.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Moment;

/// When this process was last seen to run, and since when it has.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// The last beat, in nanoseconds; 0: there was none, and nothing is known.
    beat_at: AtomicU64,
    awake_since: AtomicU64,
}

/// The time between two beats.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// A beat that is later than this was late because the process did not run.
const LATE: Duration = Duration::from_secs(2);

impl Pulse {
    /// The process runs now.
    pub(super) fn beat(&self, now: Moment) {
        self.awake_since(now);
        self.beat_at.fetch_max(now.nanos(), Ordering::Release);
    }

    /// Since when the process has run without a stop; the beginning of time if none was noticed.
    pub(super) fn awake_since(&self, now: Moment) -> Moment {
        let beat_at = self.beat_at.load(Ordering::Acquire);
        if beat_at > 0 && now.since(Moment::of_nanos(beat_at)) > LATE {
            // In this order: who sees the beat sees the stop before it.
            self.awake_since.fetch_max(now.nanos(), Ordering::Release);
            self.beat_at.fetch_max(now.nanos(), Ordering::Release);
        }
        Moment::of_nanos(self.awake_since.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Moment::ZERO.after(Duration::from_millis(ms))
    }

    #[test]
    fn a_stop_is_noticed_by_whoever_looks_first_and_counts_once() {
        let pulse = Pulse::default();
        assert_eq!(pulse.awake_since(ms(60_000)), Moment::ZERO, "no beat yet");
        pulse.beat(ms(60_000));
        assert_eq!(pulse.awake_since(ms(61_900)), Moment::ZERO);
        assert_eq!(pulse.awake_since(ms(90_000)), ms(90_000));
        assert_eq!(pulse.awake_since(ms(91_000)), ms(90_000));
        pulse.beat(ms(91_500));
        assert_eq!(pulse.awake_since(ms(92_000)), ms(90_000));
        pulse.beat(ms(94_000));
        assert_eq!(pulse.awake_since(ms(94_100)), ms(94_000));
    }

    #[test]
    fn beats_in_time_and_moments_of_before_a_stop_show_none() {
        let pulse = Pulse::default();
        for beat in 1..100 {
            pulse.beat(ms(beat * 1_100));
        }
        pulse.beat(ms(5_000));
        assert_eq!(pulse.awake_since(ms(110_000)), Moment::ZERO);
    }
}
