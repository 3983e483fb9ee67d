//! How many commands the store is asked, whatever happens.

use std::time::Duration;

use tokio::time::Instant;

/// Commands that may be sent. Beats are always sent, at their own pace; what is left over is for
/// nudges and the beats that follow them.
#[derive(Debug)]
pub(super) struct Budget {
    left: f64,
    at: Instant,
}

/// Commands a second in the long run; 15 are promised.
const PER_S: f64 = 14.0;
/// Commands saved up at most: a rush of hand-overs.
const BURST: f64 = 40.0;

impl Budget {
    /// With all that can be saved up.
    pub(super) fn new() -> Self {
        Self {
            left: BURST,
            at: Instant::now(),
        }
    }

    /// Counts commands that are sent in any case.
    pub(super) fn spend(&mut self, commands: u32) {
        self.grow();
        self.left -= f64::from(commands);
    }

    /// Counts commands that can be left out, if there is room for them.
    pub(super) fn try_spend(&mut self, commands: u32) -> bool {
        self.grow();
        let fits = self.left >= f64::from(commands);
        if fits {
            self.left -= f64::from(commands);
        }
        fits
    }

    /// How long until so many may be sent.
    pub(super) fn wait(&mut self, commands: u32) -> Duration {
        self.grow();
        let missing = (f64::from(commands) - self.left).max(0.0);
        Duration::from_secs_f64(missing / PER_S)
    }

    fn grow(&mut self) {
        let now = Instant::now();
        let grown = now.duration_since(self.at).as_secs_f64() * PER_S;
        self.left = (self.left + grown).min(BURST);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nudges_get_what_beats_leave_and_no_more_than_promised() {
        let mut budget = Budget::new();
        let mut sent = 0;
        for beat in 0..3000 {
            if beat % 10 == 0 {
                budget.spend(2);
                sent += 2;
            }
            if budget.try_spend(3) {
                sent += 3;
            }
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        let per_s = f64::from(sent) / 60.0;
        assert!((13.0..15.0).contains(&per_s), "{per_s} a second");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_is_as_long_as_needed() {
        let mut budget = Budget::new();
        assert_eq!(budget.wait(3), Duration::ZERO);
        while budget.try_spend(3) {}
        let wait = budget.wait(3);
        assert!(wait > Duration::ZERO && !budget.try_spend(3));
        tokio::time::advance(wait + Duration::from_millis(1)).await;
        assert!(budget.try_spend(3));
    }
}
