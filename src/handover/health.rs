//! Whether another host is to be tried: how long to pause after it could not be reached.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest one.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Doublings after which the longest pause is reached.
const DOUBLINGS_MAX: u32 = 5;

/// Pauses that double up to [`PAUSE_MAX`], each shortened by up to a quarter so that hosts do not come
/// back together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    failures: u32,
    until: Option<Instant>,
}

impl Health {
    /// Whether the last attempt was a success, or none was made.
    pub(super) const fn is_up(&self) -> bool {
        self.failures == 0
    }

    /// What is left of the pause.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// An attempt has failed. Those that were begun before the pause count for one.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.left(now).is_some() {
            return;
        }
        let pause = PAUSE_MIN * 2_u32.pow(self.failures.min(DOUBLINGS_MAX));
        let pause = pause.min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause - pause.mul_f32(random_part() / 4.0));
    }
}

/// From 0 to 1; without randomness, 0: then hosts may come back together, which is no harm.
fn random_part() -> f32 {
    let drawn = getrandom::u32().unwrap_or(0);
    drawn as f32 / u32::MAX as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_five_seconds_and_end() {
        let mut health = Health::default();
        assert!(health.is_up() && health.left(Instant::now()).is_none());
        for pause_ms in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            health.failed(Instant::now());
            health.failed(Instant::now());
            let left = health.left(Instant::now()).expect("a pause");
            let pause = Duration::from_millis(pause_ms);
            assert!(left <= pause && left >= pause.mul_f32(0.74), "{left:?}");
            tokio::time::advance(pause).await;
            assert!(health.left(Instant::now()).is_none() && !health.is_up());
        }
    }
}
