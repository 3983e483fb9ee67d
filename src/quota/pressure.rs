//! How much room the customer's own users and other tools leave us at kintone.
//!
//! Every answer of kintone says how many calls of the account run (`X-ConcurrencyLimit-Running`).
//! What exceeds ours is outside load. One answer can mislead, so the median of three counts, and of
//! those the largest of the last seconds; an answer that says that no place is left is believed at
//! once. The allowance falls at once and rises steadily.

use std::time::Duration;

use super::clock::Moment;

/// The outside load of one account and what kintone last said.
#[derive(Debug, Clone, Default)]
pub(super) struct Pressure {
    limit: Option<u32>,
    running: Option<u32>,
    /// The two samples before the next one.
    before: [u32; 2],
    /// The last median or exact sample, and when it came.
    latest: u32,
    sampled_at: Option<Moment>,
    /// The largest of each of the last seconds; `second` is that of the first.
    peaks: [u32; WINDOW_S],
    second: u64,
    /// What is believed, and when it was last brought up to date.
    load: f32,
    load_at: Moment,
    /// The number of sent calls at the last cut by a refusal; a call sent before it tells nothing new.
    cut_after: u64,
}

/// One sight of kintone's counter beside our own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// `X-ConcurrencyLimit-Limit`.
    pub limit: Option<u32>,
    /// `X-ConcurrencyLimit-Running`.
    pub running: Option<u32>,
    /// Calls that are ours in that number: those in flight, those settling, and the peers' share.
    pub ours: u32,
    /// kintone's limit as it counts here: the smaller of the configured and the reported one.
    pub effective_limit: u32,
}

/// Whether samples can come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// A call of ours is at kintone, or nobody waits for one.
    Clear,
    /// Calls wait, and none is at kintone.
    None,
}

/// Seconds for which the largest sample counts.
const WINDOW_S: usize = 5;
/// Without any sample for this long the load is taken to be over.
const STALE: Duration = Duration::from_secs(60);
/// The same where calls wait and none of ours is at kintone, so that no sample can come: calls whose
/// end was not seen hold all the places that the load leaves.
const BLIND: Duration = Duration::from_secs(WINDOW_S as u64);

/// The part of kintone's limit by which the allowance rises in a second.
const RISE_PER_S: f32 = 0.2;
/// Places kept free beside the outside load.
const MARGIN: u32 = 2;
/// What a refusal by kintone leaves of our calls in flight, if its own figures do not ask for less.
const CUT: f32 = 0.7;

impl Pressure {
    /// kintone's limit as it counts: a smaller reported one wins, a larger one does not.
    pub(super) fn effective_limit(&self, configured: u32) -> u32 {
        self.limit.map_or(configured, |said| said.min(configured))
    }

    /// What kintone last said about its limit.
    pub(super) const fn limit_said(&self) -> Option<u32> {
        self.limit
    }

    /// What kintone last said about its running calls.
    pub(super) const fn running_said(&self) -> Option<u32> {
        self.running
    }

    /// The outside load that is believed, in calls.
    pub(super) fn outside(&self) -> u32 {
        self.load.ceil() as u32
    }

    /// Permits that are ours: `max(1, limit - max(headroom, outside + 2))`.
    pub(super) fn allowed(&self, effective_limit: u32, headroom: u32) -> u32 {
        let left = headroom.max(self.outside() + MARGIN);
        effective_limit.saturating_sub(left).max(1)
    }

    /// Whether the load can fall by itself as time passes.
    pub(super) fn is_passing(&self) -> bool {
        self.load > 0.0
    }

    /// Takes an answer into account.
    pub(super) fn answered(&mut self, now: Moment, sample: Sample) {
        self.limit = sample.limit.filter(|said| *said > 0).or(self.limit);
        let Some(running) = sample.running else {
            return;
        };
        self.running = Some(running);
        let outside = running.saturating_sub(sample.ours);
        if self.sampled_at.is_none_or(|at| now.since(at) >= STALE) {
            self.before = [0; 2];
        }
        let [first, second] = self.before;
        self.before = [second, outside];
        let believed = if running >= sample.effective_limit {
            outside
        } else {
            first.max(second).min(outside).max(first.min(second))
        };
        self.believe(now, believed, sample.effective_limit);
    }

    /// Takes a refusal (`GAIA_TO04`) into account: the refused call was the `sent`-th of `in_flight`
    /// of ours, and `sent_so_far` have been sent. kintone counts no further than one above its
    /// limit, so its figure is only the least that the load can be.
    pub(super) fn refused(&mut self, now: Moment, sample: Sample, cut: Cut) {
        self.limit = sample.limit.filter(|said| *said > 0).or(self.limit);
        self.running = sample.running.or(self.running);
        let full = sample.effective_limit + 1;
        let least = sample.running.unwrap_or(full).max(full) - sample.ours.min(full);
        let mut load = least;
        if cut.sent > self.cut_after {
            self.cut_after = cut.sent_so_far;
            let keep = (cut.at_kintone as f32 * CUT * cut.hosts) as u32;
            load = load.max(sample.effective_limit.saturating_sub(keep + MARGIN));
        }
        self.before = [load; 2];
        self.believe(
            now,
            load.min(sample.effective_limit),
            sample.effective_limit,
        );
    }

    /// Brings the load up to date: it rises at once to the largest recent sample and falls steadily.
    pub(super) fn settle(&mut self, now: Moment, effective_limit: u32, sight: Sight) {
        let quiet = self.sampled_at.map_or(STALE, |at| now.since(at));
        if sight == Sight::None && quiet >= BLIND {
            self.sampled_at = None;
            (self.before, self.latest, self.peaks) = ([0; 2], 0, [0; WINDOW_S]);
        }
        let target = if self.sampled_at.is_none() || quiet >= STALE {
            0
        } else {
            self.forget(now);
            self.peaks.into_iter().max().unwrap_or(0).max(self.latest)
        } as f32;
        let fall = now.since(self.load_at).as_secs_f32() * RISE_PER_S * effective_limit as f32;
        self.load = target.max(self.load - fall);
        self.load_at = now;
    }

    fn believe(&mut self, now: Moment, load: u32, effective_limit: u32) {
        self.forget(now);
        self.latest = load;
        self.sampled_at = Some(now);
        self.peaks[0] = self.peaks[0].max(load);
        self.settle(now, effective_limit, Sight::Clear);
    }

    fn forget(&mut self, now: Moment) {
        let passed = now.seconds().saturating_sub(self.second);
        if passed > 0 {
            let passed = (passed as usize).min(WINDOW_S);
            self.peaks.rotate_right(passed);
            self.peaks[..passed].fill(0);
            self.second = now.seconds();
        }
    }
}

/// Which of our calls kintone refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    /// The number of the refused call, in the order of sending.
    pub sent: u64,
    /// The number of the last call sent.
    pub sent_so_far: u64,
    /// Our calls that kintone may have been working on when it was sent, itself among them.
    pub at_kintone: u32,
    /// For each permit of this host, so many of all hosts: with equal parts, their number.
    pub hosts: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::default().after(Duration::from_millis(ms))
    }

    fn sample(running: u32, ours: u32) -> Sample {
        Sample {
            limit: Some(100),
            running: Some(running),
            ours,
            effective_limit: 100,
        }
    }

    #[test]
    fn one_odd_answer_changes_nothing_and_three_do() {
        let mut pressure = Pressure::default();
        pressure.answered(at(0), sample(50, 10));
        assert_eq!(pressure.allowed(100, 20), 80);
        pressure.answered(at(1), sample(10, 10));
        pressure.answered(at(2), sample(50, 10));
        pressure.answered(at(3), sample(50, 10));
        assert_eq!(pressure.outside(), 40);
        assert_eq!(pressure.allowed(100, 20), 58);
    }

    #[test]
    fn an_answer_that_says_full_is_believed_at_once() {
        let mut pressure = Pressure::default();
        pressure.answered(at(0), sample(139, 79));
        assert_eq!(pressure.allowed(100, 20), 38);
    }

    #[test]
    fn refusals_cut_once_for_all_that_was_under_way() {
        let mut pressure = Pressure::default();
        let cut = |sent| Cut {
            sent,
            sent_so_far: 1000,
            at_kintone: 80,
            hosts: 1.0,
        };
        pressure.refused(at(0), sample(101, 80), cut(990));
        assert_eq!(pressure.allowed(100, 20), 56);
        pressure.refused(at(1), sample(101, 80), cut(991));
        assert_eq!(pressure.allowed(100, 20), 56);
        pressure.refused(
            at(60),
            sample(101, 56),
            Cut {
                at_kintone: 56,
                ..cut(1001)
            },
        );
        assert_eq!(pressure.allowed(100, 20), 39);
    }

    #[test]
    fn the_allowance_is_back_within_eight_seconds_and_not_before_four() {
        let mut pressure = Pressure::default();
        pressure.answered(at(0), sample(139, 79));
        for ms in (0..20_000).step_by(10) {
            pressure.answered(at(ms), sample(if ms < 10_000 { 98 } else { 38 }, 38));
            if ms < 14_000 {
                assert_eq!(pressure.allowed(100, 20), 38, "at {ms} ms");
            }
            if ms > 18_000 {
                assert_eq!(pressure.allowed(100, 20), 80, "at {ms} ms");
            }
        }
    }

    #[test]
    fn a_load_nobody_confirms_passes() {
        let mut pressure = Pressure::default();
        pressure.answered(at(0), sample(139, 79));
        pressure.settle(at(50_000), 100, Sight::Clear);
        assert_eq!(pressure.outside(), 60);
        pressure.settle(at(61_000), 100, Sight::Clear);
        assert_eq!(pressure.outside(), 0);
    }

    #[test]
    fn a_load_nobody_can_confirm_passes_sooner() {
        let mut pressure = Pressure::default();
        pressure.answered(at(0), sample(139, 79));
        pressure.settle(at(4900), 100, Sight::None);
        assert_eq!(pressure.outside(), 60);
        for ms in (5000..8000).step_by(100) {
            pressure.settle(at(ms), 100, Sight::None);
        }
        assert_eq!(pressure.outside(), 0);
        // The first sample is believed as the first one ever is: not alone.
        pressure.answered(at(8000), sample(98, 38));
        assert_eq!(pressure.outside(), 0);
        pressure.answered(at(8001), sample(98, 38));
        assert_eq!(pressure.outside(), 60);
    }

    #[test]
    fn a_smaller_limit_of_kintone_wins_and_a_larger_does_not() {
        let mut pressure = Pressure::default();
        pressure.answered(
            at(0),
            Sample {
                limit: Some(50),
                ..sample(1, 1)
            },
        );
        assert_eq!(pressure.effective_limit(100), 50);
        pressure.answered(
            at(1),
            Sample {
                limit: Some(200),
                ..sample(1, 1)
            },
        );
        assert_eq!(pressure.effective_limit(100), 100);
        assert_eq!(pressure.limit_said(), Some(200));
    }
}
