//! Requests per second of one account: governor's GCRA, with the look ahead that it lacks.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::clock::{Clock, Moment};

/// The shape of a limiter: two limiters with the same one are the same limiter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RateLimit {
    /// Time between two tokens.
    period: Duration,
    /// Tokens that can be saved up.
    burst: NonZeroU32,
}

/// A limiter and what it last said.
#[derive(Debug)]
pub(super) struct Rate {
    limit: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, Clock, StateInformationMiddleware>,
    /// Tokens left after the last one was spent, and when that was.
    left: u32,
    spent_at: Moment,
    /// When the next token comes, if the last attempt found none.
    due: Option<Moment>,
}

/// The smallest part of a rate.
const PART_MIN: f64 = 0.001;

impl RateLimit {
    /// `per_s` tokens a second and `burst` at once, the `hosts`-th part of each; `None` if there is
    /// no rate.
    pub(super) fn new(per_s: f64, burst: u32, hosts: u32) -> Option<Self> {
        let period = Duration::try_from_secs_f64(f64::from(hosts) / per_s).ok()?;
        let burst = NonZeroU32::new(burst / hosts).unwrap_or(NonZeroU32::MIN);
        Some(Self {
            period: period.max(Duration::from_nanos(1)),
            burst,
        })
    }

    /// That part of a rate, from 0 to 1; `None` if there is no rate. No part is so small that there
    /// are no tokens at all: without permits nobody asks for one.
    pub(super) fn part(per_s: f64, burst: u32, part: f64) -> Option<Self> {
        let part = part.clamp(PART_MIN, 1.0);
        let limit = Self::new(per_s * part, 1, 1)?;
        let burst = NonZeroU32::new((f64::from(burst) * part) as u32);
        Some(Self {
            burst: burst.unwrap_or(NonZeroU32::MIN),
            ..limit
        })
    }

    /// Tokens a second.
    pub(super) fn per_s(&self) -> f64 {
        self.period.as_secs_f64().recip()
    }

    /// Tokens that can be saved up.
    pub(super) const fn burst(&self) -> u32 {
        self.burst.get()
    }
}

impl Rate {
    /// A limiter with all its tokens.
    fn new(limit: RateLimit, clock: Clock) -> Self {
        let quota = Quota::with_period(limit.period)
            .expect("a rate's period is at least a nanosecond")
            .allow_burst(limit.burst);
        Self {
            limit,
            limiter: RateLimiter::direct_with_clock(quota, clock)
                .with_middleware::<StateInformationMiddleware>(),
            left: limit.burst.get(),
            spent_at: clock.moment(),
            due: None,
        }
    }

    /// A limiter of this shape in the place of `before`, whose tokens it goes on with; none if there
    /// is no rate.
    pub(super) fn successor(
        limit: Option<RateLimit>,
        before: Option<Box<Self>>,
        clock: Clock,
        now: Moment,
    ) -> Option<Box<Self>> {
        let mut rate = Box::new(Self::new(limit?, clock));
        if let Some(before) = before {
            rate.carry_over(&before, now);
        }
        Some(rate)
    }

    /// Begins with no more tokens than `before` has left: a new rate is no gift of a whole burst.
    fn carry_over(&mut self, before: &Self, now: Moment) {
        let left = if before.due(now).is_some() {
            0
        } else {
            before.tokens(now)
        };
        let gone = NonZeroU32::new(self.limit.burst.get().saturating_sub(left));
        if let Some(Ok(Ok(state))) = gone.map(|gone| self.limiter.check_n(gone)) {
            self.left = state.remaining_burst_capacity();
            self.spent_at = now;
        }
    }

    /// Its shape.
    pub(super) const fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Spends a token if there is one.
    pub(super) fn spend(&mut self, now: Moment) -> bool {
        if self.due.is_some_and(|due| now < due) {
            return false;
        }
        match self.limiter.check() {
            Ok(state) => {
                self.left = state.remaining_burst_capacity();
                self.spent_at = now;
                self.due = None;
                true
            }
            Err(not_until) => {
                self.due = Some(not_until.earliest_possible());
                false
            }
        }
    }

    /// When the next token comes, if there was none at the last attempt and there is none yet.
    pub(super) fn due(&self, now: Moment) -> Option<Moment> {
        self.due.filter(|due| now < *due)
    }

    /// How long until the `nth` token (from 1) can be spent.
    pub(super) fn wait(&self, nth: u32, now: Moment) -> Duration {
        if let Some(due) = self.due(now) {
            return due.since(now) + self.limit.period * nth.saturating_sub(1);
        }
        let there = self.tokens(now);
        self.limit.period * nth.saturating_sub(there)
    }

    /// Whether all tokens are there, so that nothing is lost with the limiter.
    pub(super) fn is_full(&self, now: Moment) -> bool {
        self.due(now).is_none() && self.tokens(now) >= self.limit.burst.get()
    }

    fn tokens(&self, now: Moment) -> u32 {
        let grown = now.since(self.spent_at).as_nanos() / self.limit.period.as_nanos();
        let grown = u32::try_from(grown).unwrap_or(u32::MAX);
        self.left.saturating_add(grown).min(self.limit.burst.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_s: f64, burst: u32) -> (Rate, Clock) {
        let clock = Clock::new();
        let limit = RateLimit::new(per_s, burst, 1).expect("a rate");
        (Rate::new(limit, clock), clock)
    }

    #[test]
    fn no_rate_is_no_limiter_and_hosts_share_one() {
        assert_eq!(RateLimit::new(0.0, 100, 1), None);
        let half = RateLimit::new(10.0, 5, 2).expect("a rate");
        assert_eq!(half.period, Duration::from_millis(200));
        assert_eq!(half.burst.get(), 2);
        let shared = RateLimit::part(10.0, 5, 0.5);
        assert_eq!(shared, Some(half));
        assert_eq!(RateLimit::part(0.0, 5, 0.5), None);
        assert!(
            RateLimit::part(10.0, 5, 0.0).is_some(),
            "no part is no freedom"
        );
        let part = RateLimit::new(1.0, 1, 4).expect("a rate");
        assert_eq!(part.burst.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_begins_with_what_was_left() {
        let (mut before, clock) = rate(1.0, 10);
        let renewed = |per_s, burst, before: &Rate| {
            let (mut renewed, _) = rate(per_s, burst);
            renewed.carry_over(before, clock.moment());
            let mut tokens = 0;
            while renewed.spend(clock.moment()) {
                tokens += 1;
            }
            tokens
        };
        assert_eq!(renewed(2.0, 5, &before), 5, "a full one stays full");
        for _ in 0..7 {
            assert!(before.spend(clock.moment()));
        }
        assert_eq!(renewed(2.0, 10, &before), 3);
        assert_eq!(renewed(2.0, 2, &before), 2);
        while before.spend(clock.moment()) {}
        assert_eq!(renewed(100.0, 50, &before), 0);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(renewed(100.0, 50, &before), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_look_ahead_tells_when_a_token_really_comes() {
        let (mut rate, clock) = rate(10.0, 3);
        for _ in 0..3 {
            assert!(rate.spend(clock.moment()));
        }
        assert!(!rate.spend(clock.moment()));
        assert_eq!(rate.wait(1, clock.moment()), Duration::from_millis(100));
        assert_eq!(rate.wait(4, clock.moment()), Duration::from_millis(400));
        tokio::time::advance(Duration::from_millis(250)).await;
        assert!(rate.spend(clock.moment()));
        assert!(rate.spend(clock.moment()));
        assert!(!rate.spend(clock.moment()));
        assert_eq!(rate.wait(1, clock.moment()), Duration::from_millis(50));
        assert!(!rate.is_full(clock.moment()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(rate.is_full(clock.moment()));
        assert_eq!(rate.wait(3, clock.moment()), Duration::ZERO);
    }
}
