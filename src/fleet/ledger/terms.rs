//! How long things last, and how far hosts' clocks and threads are trusted.

use std::time::Duration;

/// Times that all hosts of a fleet agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub struct Terms {
    /// For how long calls may start on a loan, from the borrower's beat that its lender last saw.
    pub loan: Duration,
    /// A call that runs on a loan so long after the loan's end is aborted, so that fewer than the own
    /// permits are in use.
    pub overrun: Duration,
    /// For how long the kernel may go on sending what a process has written (`TCP_USER_TIMEOUT`).
    pub unacked: Duration,
    /// The longest `settle` of any account: how long kintone may work on a call whose end we did not
    /// see.
    pub settle: Duration,
    /// By how much one host's clock may be faster than another's, in percent.
    pub drift_percent: u32,
    /// Added to every span that another host's clock measures too: clocks are read in steps.
    pub margin: Duration,
    /// Threads that can be between the look at the clock and the first byte of a call: stopped there
    /// and woken late, so many calls go out on a loan that is over.
    pub workers: u32,
}

impl Terms {
    /// The usual times, for accounts that settle within `settle` and a process of so many threads.
    /// A loan lives on through a short absence of the store, and a host's death costs the others its
    /// loans for less than 45 s, a few beats late: (16 s + 20 s) and a tenth, and 1 s.
    #[must_use]
    pub const fn usual(settle: Duration, workers: u32) -> Self {
        Self {
            loan: Duration::from_secs(16),
            overrun: Duration::from_secs(60),
            unacked: Duration::from_secs(20),
            settle,
            drift_percent: 10,
            margin: Duration::from_secs(1),
            workers,
        }
    }

    /// How long after the end of a loan kintone may still count a call that began on it.
    #[must_use]
    pub fn tail(&self) -> Duration {
        self.overrun + self.unacked + self.settle
    }

    /// What is certainly `span` on another host's clock, by this one's.
    #[must_use]
    pub fn certainly(&self, span: Duration) -> Duration {
        span + span * self.drift_percent / 100 + self.margin
    }
}
