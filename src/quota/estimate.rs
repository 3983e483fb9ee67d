//! When will a permit be free: service times learnt, and the n-th completion foretold.

use std::time::Duration;

use smallvec::SmallVec;

use super::clock::Moment;

/// A moving average of how long permits are held.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceTime {
    mean_s: f32,
    seen: u8,
}

/// Times, in seconds, after which the permits in use are expected to come back.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    left_s: SmallVec<[f32; 128]>,
    cycle_s: f64,
}

/// How long a call has run, as far as that says when it ends. One that became overdue while this
/// process was stopped is as late as the process has run since, which is when it could have been seen
/// to end.
pub(super) fn elapsed(
    granted_at: Moment,
    awake_since: Moment,
    now: Moment,
    service_s: f32,
) -> Duration {
    let elapsed = now.since(granted_at);
    if granted_at >= awake_since {
        return elapsed;
    }
    let service = Duration::try_from_secs_f32(service_s).unwrap_or(Duration::MAX);
    elapsed.min(service.saturating_add(now.since(awake_since)))
}

impl ServiceTime {
    /// Weight of a new value once the average is settled: half of it is forgotten after 22 calls.
    const GAIN: f32 = 1.0 / 32.0;
    /// Calls after which it is.
    const SETTLED: u8 = 32;

    /// Takes one more call into account.
    pub(super) fn learn(&mut self, held: Duration) {
        let gain = if self.seen < Self::SETTLED {
            self.seen += 1;
            1.0 / f32::from(self.seen)
        } else {
            Self::GAIN
        };
        self.mean_s += gain * (held.as_secs_f32() - self.mean_s);
    }

    /// The average in seconds, once anything is known.
    pub(super) const fn mean_s(&self) -> Option<f32> {
        if self.seen > 0 {
            Some(self.mean_s)
        } else {
            None
        }
    }
}

impl Outlook {
    /// Adds a call that has run for `elapsed` of an expected `service_s`. One that is overdue is
    /// taken to need as long again as it is late: right for steady and for widely spread times.
    pub(super) fn running(&mut self, elapsed: Duration, service_s: f32) {
        self.left_s.push((service_s - elapsed.as_secs_f32()).abs());
        self.cycle_s += f64::from(service_s);
    }

    /// When the `nth` completion (from 1) comes, if each completed call is followed by another one
    /// of the average length; `None` if nothing runs that could complete.
    pub(super) fn completion(&mut self, nth: u32) -> Option<Duration> {
        let places = self.left_s.len();
        if places == 0 {
            return None;
        }
        let index = nth.saturating_sub(1) as usize;
        let (_, left_s, _) = self
            .left_s
            .select_nth_unstable_by(index % places, f32::total_cmp);
        let rounds = (index / places) as f64;
        let wait_s = f64::from(*left_s) + rounds * self.cycle_s / places as f64;
        Duration::try_from_secs_f64(wait_s).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_begins_with_the_first_value_and_follows() {
        let mut service = ServiceTime::default();
        assert_eq!(service.mean_s(), None);
        service.learn(Duration::from_secs(2));
        assert_eq!(service.mean_s(), Some(2.0));
        for _ in 0..300 {
            service.learn(Duration::from_secs(8));
        }
        assert!((service.mean_s().expect("learnt") - 8.0).abs() < 0.1);
    }

    #[test]
    fn a_stop_makes_no_call_later_than_the_process_runs_since() {
        let s = |s| Moment::ZERO.after(Duration::from_secs(s));
        let elapsed = |awake_since| elapsed(s(10), s(awake_since), s(75), 2.0).as_secs();
        assert_eq!(elapsed(0), 65);
        assert_eq!(elapsed(10), 65, "it began afterwards");
        assert_eq!(elapsed(75), 2);
        assert_eq!(elapsed(70), 7);
        assert_eq!(elapsed(11), 65);
    }

    #[test]
    fn steady_calls_are_foretold_exactly() {
        let mut outlook = Outlook::default();
        for started in 0..10 {
            outlook.running(Duration::from_secs(started), 10.0);
        }
        assert_eq!(outlook.completion(1), Some(Duration::from_secs(1)));
        assert_eq!(outlook.completion(10), Some(Duration::from_secs(10)));
        assert_eq!(outlook.completion(11), Some(Duration::from_secs(11)));
        assert_eq!(outlook.completion(35), Some(Duration::from_secs(35)));
        assert_eq!(Outlook::default().completion(1), None);
    }
}
