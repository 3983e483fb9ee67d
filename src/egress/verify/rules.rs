//! How echoes are asked, and when.

use std::time::Duration;

use super::echo::Echo;
use crate::config::{Verify, Vouching};

/// How echoes are asked.
#[derive(Debug)]
pub(in crate::egress) struct Rules {
    pub(super) echoes: Vec<Echo>,
    pub(super) timeout: Duration,
    pub(super) unknown_for: Duration,
    pub(super) connections: Vouching,
    pub(super) connection_pause: Duration,
    interval: Duration,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Calls leave from it, and the last round said that they may.
    Proven,
    /// No call leaves from it, or calls leave although the last round came to nothing.
    Doubtful,
}

/// An address in doubt is asked for so many times as often: to be back soon, or to be proven again.
const DOUBTFUL_OFTENER: u32 = 6;

impl Rules {
    /// By the configuration.
    pub(in crate::egress) fn new(verify: &Verify) -> Self {
        Self {
            echoes: verify
                .urls
                .iter()
                .filter_map(|url| Echo::parse(url))
                .collect(),
            interval: verify.interval,
            timeout: verify.timeout,
            unknown_for: verify.unknown_for,
            connections: verify.connections,
            connection_pause: verify.connection_pause,
        }
    }

    /// The shortest time from the beginning of a round to one that somebody's doubt asks for: a customer
    /// who refuses every call must not have the echoes asked with every call.
    pub(super) fn pause_of_doubt(&self) -> Duration {
        self.interval / DOUBTFUL_OFTENER
    }

    /// From the beginning of a round to the next: so that even where that one is answered at the last
    /// moment, what has changed is known within `interval`; shortened by up to a quarter, so that hosts
    /// do not ask together.
    pub(super) fn pause(&self, now: Use) -> Duration {
        let longest = self.interval.saturating_sub(self.timeout);
        let longest = match now {
            Use::Proven => longest,
            Use::Doubtful => longest.min(self.interval / DOUBTFUL_OFTENER),
        };
        longest - longest.mul_f32(random_part() / 4.0)
    }
}

/// From 0 to 1; without randomness, 0: then hosts may ask together, which is no harm.
fn random_part() -> f32 {
    let drawn = getrandom::u32().unwrap_or(0);
    drawn as f32 / u32::MAX as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(interval_ms: u64, timeout_ms: u64) -> Rules {
        Rules::new(&Verify {
            urls: vec!["https://echo.example/ip".to_owned()],
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_millis(timeout_ms),
            unknown_for: Duration::from_secs(900),
            connections: Vouching::Each,
            connection_pause: Duration::from_millis(50),
        })
    }

    #[test]
    fn what_has_changed_is_known_within_an_interval() {
        for (interval, timeout) in [(30_000, 5000), (1000, 333), (1000, 500)] {
            let rules = rules(interval, timeout);
            for _ in 0..100 {
                let used = rules.pause(Use::Proven);
                assert!(used + rules.timeout <= rules.interval, "{used:?}");
                assert!(used >= (rules.interval - rules.timeout).mul_f32(0.74));
                let unused = rules.pause(Use::Doubtful);
                assert!(
                    unused <= rules.interval / 6 && unused >= rules.interval / 9,
                    "{unused:?}"
                );
            }
        }
    }
}
