//! How many requests an account has in process, counted exactly: every change is an event under one mutex, and every figure
//! is an integral over those events, never a sample.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::ledger::Stamp;

/// Most entries kept of each log of an account; past it the log stops and the sums go on.
const LOG_MAX: usize = 1_000_000;

/// The counter that admits or refuses. Its owner holds it under the account's mutex.
#[derive(Debug)]
pub(crate) struct Admission {
    limit: u32,
    foreign: u32,
    own: u32,
    peak_own: u32,
    peak_all: u32,
    admitted: u64,
    refused: u64,
    busy: f64,
    busy_all: f64,
    over_limit: Duration,
    over_limit_times: u64,
    longest: Duration,
    since: Instant,
    last: Instant,
    refused_at: Vec<Stamp>,
    steps: Option<Vec<Step>>,
}

impl Admission {
    pub(crate) fn new(limit: u32, foreign: u32, now: Instant, steps: Option<Vec<Step>>) -> Self {
        let mut admission = Self {
            limit,
            foreign,
            own: 0,
            peak_own: 0,
            peak_all: foreign,
            admitted: 0,
            refused: 0,
            busy: 0.0,
            busy_all: 0.0,
            over_limit: Duration::ZERO,
            over_limit_times: 0,
            longest: Duration::ZERO,
            since: now,
            last: now,
            refused_at: Vec::new(),
            steps,
        };
        admission.changed(now, Load::Within);
        admission
    }

    /// One more request. `Ok` is the number in process with it, as kintone reports it; `Err` is what the refusal reports.
    pub(crate) fn enter(&mut self, stamp: Stamp) -> Result<u32, u32> {
        self.advance(stamp.at);
        if self.own + self.foreign >= self.limit {
            self.refused += 1;
            if self.refused_at.len() < LOG_MAX {
                self.refused_at.push(stamp);
            }
            return Err(self.limit + 1);
        }
        self.admitted += 1;
        self.own += 1;
        self.changed(stamp.at, Load::Within);
        Ok(self.own + self.foreign)
    }

    /// A request that was admitted at `entered` is done.
    pub(crate) fn leave(&mut self, entered: Instant, now: Instant) {
        let before = self.load();
        self.advance(now);
        self.longest = self.longest.max(now.saturating_duration_since(entered));
        self.own -= 1;
        self.changed(now, before);
    }

    /// The knobs were turned.
    pub(crate) fn set(&mut self, limit: u32, foreign: u32, now: Instant) {
        if (limit, foreign) == (self.limit, self.foreign) {
            return;
        }
        let before = self.load();
        self.advance(now);
        self.limit = limit;
        self.foreign = foreign;
        self.changed(now, before);
    }

    /// Begins the figures anew, at what is in process.
    pub(crate) fn restart(&mut self, now: Instant) {
        let steps = self.steps.is_some().then(Vec::new);
        *self = Self {
            own: self.own,
            ..Self::new(self.limit, self.foreign, now, None)
        };
        self.steps = steps;
        self.changed(now, Load::Within);
    }

    /// What an answer that takes no place reports as running.
    pub(crate) fn running(&self) -> u32 {
        self.own + self.foreign
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    pub(crate) fn accounting(&mut self, now: Instant) -> Accounting {
        self.advance(now);
        Accounting {
            at: now,
            elapsed_seconds: (now - self.since).as_secs_f64(),
            limit: self.limit,
            foreign: self.foreign,
            in_process: self.own,
            peak: self.peak_own,
            peak_with_foreign: self.peak_all,
            admitted: self.admitted,
            refused: self.refused,
            busy_seconds: self.busy,
            busy_with_foreign_seconds: self.busy_all,
            over_limit_seconds: self.over_limit.as_secs_f64(),
            over_limit_times: self.over_limit_times,
            longest_seconds: self.longest.as_secs_f64(),
            refused_at: self.refused_at.clone(),
            steps: self.steps.clone().unwrap_or_default(),
            requests_today: BTreeMap::new(),
        }
    }

    fn load(&self) -> Load {
        if self.own + self.foreign > self.limit {
            Load::Over
        } else {
            Load::Within
        }
    }

    /// Adds what has passed since the last event.
    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.last);
        let seconds = passed.as_secs_f64();
        self.busy += f64::from(self.own) * seconds;
        self.busy_all += f64::from(self.own + self.foreign) * seconds;
        if self.load() == Load::Over {
            self.over_limit += passed;
        }
        self.last = now;
    }

    fn changed(&mut self, now: Instant, before: Load) {
        self.peak_own = self.peak_own.max(self.own);
        self.peak_all = self.peak_all.max(self.own + self.foreign);
        if self.load() == Load::Over && before == Load::Within {
            self.over_limit_times += 1;
        }
        let step = Step {
            at: now,
            own: self.own,
            foreign: self.foreign,
        };
        if let Some(steps) = &mut self.steps
            && steps.len() < LOG_MAX
        {
            steps.push(step);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Within,
    Over,
}

/// The exact figures of one account since it was created or [`crate::Sim::restart_accounting`] was called.
///
/// "Own" requests are those that came over the wire; "foreign" ones are the places that [`crate::TenantSettings::foreign`] takes.
/// A request is in process from its head's arrival until just before the last byte of its answer is handed to the socket, or, when
/// its client left, until its work is over. So the interval counted here lies within the one that a correct client counts.
#[derive(Clone, Debug, Serialize)]
pub struct Accounting {
    /// When this snapshot was taken.
    #[serde(skip)]
    pub at: Instant,
    /// Length of the time these figures cover, seconds.
    pub elapsed_seconds: f64,
    /// kintone's limit at that moment.
    pub limit: u32,
    /// Places taken by others at that moment.
    pub foreign: u32,
    /// Own requests in process at that moment.
    pub in_process: u32,
    /// Most own requests at one instant.
    pub peak: u32,
    /// Most requests at one instant, others' included.
    pub peak_with_foreign: u32,
    /// Requests that got a place.
    pub admitted: u64,
    /// Requests refused with GAIA_TO04 because there was no place (injected refusals do not count).
    pub refused: u64,
    /// Integral of own requests over time, request-seconds.
    pub busy_seconds: f64,
    /// The same with the others' places.
    pub busy_with_foreign_seconds: f64,
    /// How long more than the limit were in process (only turning a knob can bring that about), seconds.
    pub over_limit_seconds: f64,
    /// How often that began.
    pub over_limit_times: u64,
    /// The longest that a request was in process, of those that are done, seconds.
    pub longest_seconds: f64,
    /// When each refusal happened.
    #[serde(skip)]
    pub refused_at: Vec<Stamp>,
    /// Every change of the numbers, in order; empty when the simulator keeps counts only.
    #[serde(skip)]
    pub steps: Vec<Step>,
    /// Requests counted per app since 09:00 JST (the daily quota's window).
    pub requests_today: BTreeMap<u64, u64>,
}

impl Accounting {
    /// Time-weighted mean of own requests in process over the whole time covered.
    pub fn mean(&self) -> f64 {
        self.busy_seconds / self.elapsed_seconds.max(f64::MIN_POSITIVE)
    }

    /// Time-weighted mean of own requests in process between an earlier snapshot and this one.
    pub fn mean_since(&self, earlier: &Self) -> f64 {
        let seconds = (self.at - earlier.at).as_secs_f64();
        (self.busy_seconds - earlier.busy_seconds) / seconds.max(f64::MIN_POSITIVE)
    }

    /// Time-weighted mean of own requests in process between two instants, from [`Accounting::steps`].
    pub fn mean_between(&self, from: Instant, until: Instant) -> f64 {
        let ends = self
            .steps
            .iter()
            .skip(1)
            .map(|step| step.at)
            .chain(std::iter::once(self.at));
        let busy: f64 = self
            .steps
            .iter()
            .zip(ends)
            .map(|(step, end)| {
                let seconds = end
                    .min(until)
                    .saturating_duration_since(step.at.max(from))
                    .as_secs_f64();
                f64::from(step.own) * seconds
            })
            .sum();
        busy / (until - from).as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// One change of the number of requests in process.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When.
    pub at: Instant,
    /// Own requests in process from then on.
    pub own: u32,
    /// Places taken by others from then on.
    pub foreign: u32,
}
