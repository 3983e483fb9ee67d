//! How long to pause after a connection that could not be made.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses that double, up to [`PAUSE_MAX`], each shortened by up to a quarter so that hosts do not
/// come back together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest one: hosts are to share again within two seconds of the store's return.
const PAUSE_MAX: Duration = Duration::from_millis(500);

impl Backoff {
    /// What is left of the pause.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A try has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = PAUSE_MIN * 2_u32.pow(self.failures.min(3));
        self.failures = self.failures.saturating_add(1);
        let pause = pause.min(PAUSE_MAX);
        self.until = Some(now + pause - pause.mul_f32(random_part() / 4.0));
    }
}

/// From 0 to 1; without randomness, 0: then hosts may come back together, which is no harm.
pub(in crate::fleet) fn random_part() -> f32 {
    let drawn = getrandom::u32().unwrap_or(0);
    drawn as f32 / u32::MAX as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_half_a_second_and_end() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.left(Instant::now()), None);
        for pause_ms in [100, 200, 400, 500, 500] {
            backoff.failed(Instant::now());
            let left = backoff.left(Instant::now()).expect("a pause");
            let pause = Duration::from_millis(pause_ms);
            assert!(left <= pause && left >= pause.mul_f32(0.74), "{left:?}");
            tokio::time::advance(pause).await;
            assert_eq!(backoff.left(Instant::now()), None);
        }
    }
}
