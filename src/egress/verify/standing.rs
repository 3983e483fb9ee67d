//! What is known of one address over time. Pure: the time is passed in.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::judge::Finding;

/// How the internet sees an address, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// No echo has said so since the address came into use on this host, or too long ago.
    Unknown,
    /// As published.
    Published,
    /// As this address.
    Other(Ipv4Addr),
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    verdict: Option<Verdict>,
    /// Whether a round has ended since the address came into use on this host.
    is_asked: bool,
    silent_since: Option<Instant>,
    proven_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    seen: Seen,
    /// How long it stands without another one.
    until: Instant,
}

impl Standing {
    /// Of an address that an earlier process saw as published at `proven_at`; `left` is what remains of
    /// the time that this stands.
    pub(super) fn remembered(proven_at: Timestamp, left: Duration, now: Instant) -> Self {
        Self {
            verdict: Some(Verdict {
                seen: Seen::Published,
                until: now + left,
            }),
            proven_at: Some(proven_at),
            ..Self::default()
        }
    }

    /// The address comes into use, or is back on this host. What was known of it counts only if the
    /// next round finds nothing.
    pub(super) fn arrive(&mut self) {
        self.is_asked = false;
        self.silent_since = None;
    }

    /// A round has come to this.
    pub(super) fn hear(
        &mut self,
        finding: Finding,
        unknown_for: Duration,
        now: Instant,
        clock: Timestamp,
    ) {
        self.is_asked = true;
        let seen = match finding {
            Finding::Published => Seen::Published,
            Finding::Other(other) => Seen::Other(other),
            Finding::Nothing => {
                self.silent_since.get_or_insert(now);
                return;
            }
        };
        self.silent_since = None;
        if seen == Seen::Published {
            self.proven_at = Some(clock);
        }
        self.verdict = Some(Verdict {
            seen,
            until: now + unknown_for,
        });
    }

    /// How the internet sees it.
    pub(super) fn seen(&self, now: Instant) -> Seen {
        match self.verdict {
            Some(Verdict { seen, until }) if now < until => match seen {
                Seen::Published if !self.is_asked => Seen::Unknown,
                Seen::Published | Seen::Other(_) | Seen::Unknown => seen,
            },
            Some(_) | None => Seen::Unknown,
        }
    }

    /// When the verdict ends if no other comes.
    pub(super) fn stands_until(&self) -> Option<Instant> {
        self.verdict.map(|verdict| verdict.until)
    }

    /// Since when rounds come to nothing, if the last one did.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// When it was last seen as published.
    pub(super) fn proven_at(&self) -> Option<Timestamp> {
        self.proven_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN_FOR: Duration = Duration::from_secs(900);
    const OTHER: Ipv4Addr = Ipv4Addr::new(52, 0, 0, 1);

    /// A standing, and a clock that the test moves.
    struct Story {
        standing: Standing,
        now: Instant,
    }

    impl Story {
        fn new() -> Self {
            Self {
                standing: Standing::default(),
                now: Instant::now(),
            }
        }

        fn after(&mut self, seconds: u64) -> &mut Self {
            self.now += Duration::from_secs(seconds);
            self
        }

        fn hear(&mut self, finding: Finding) -> Seen {
            self.standing
                .hear(finding, UNKNOWN_FOR, self.now, Timestamp::UNIX_EPOCH);
            self.seen()
        }

        fn seen(&self) -> Seen {
            self.standing.seen(self.now)
        }
    }

    #[tokio::test]
    async fn nothing_is_known_before_the_first_answer() {
        let mut story = Story::new();
        assert_eq!(story.seen(), Seen::Unknown);
        assert_eq!(story.hear(Finding::Nothing), Seen::Unknown);
        assert_eq!(story.hear(Finding::Published), Seen::Published);
        assert_eq!(story.standing.silent_since(), None);
    }

    #[tokio::test]
    async fn another_address_counts_at_once_and_so_does_the_right_one() {
        let mut story = Story::new();
        story.hear(Finding::Published);
        assert_eq!(story.hear(Finding::Other(OTHER)), Seen::Other(OTHER));
        assert_eq!(story.hear(Finding::Nothing), Seen::Other(OTHER));
        assert_eq!(story.hear(Finding::Published), Seen::Published);
    }

    #[tokio::test]
    async fn without_an_answer_the_last_verdict_stands_for_a_time() {
        let mut story = Story::new();
        story.hear(Finding::Published);
        assert_eq!(story.after(20).hear(Finding::Nothing), Seen::Published);
        let since = story.standing.silent_since();
        assert_eq!(story.after(879).hear(Finding::Nothing), Seen::Published);
        assert_eq!(story.standing.silent_since(), since, "since the first");
        assert_eq!(story.after(1).seen(), Seen::Unknown);
        assert_eq!(story.hear(Finding::Published), Seen::Published);
    }

    #[tokio::test]
    async fn an_address_that_comes_back_is_asked_for_before_its_use() {
        let mut story = Story::new();
        story.hear(Finding::Published);
        story.standing.arrive();
        assert_eq!(story.seen(), Seen::Unknown);
        assert_eq!(story.hear(Finding::Nothing), Seen::Published, "it stands");
        story.standing.arrive();
        assert_eq!(story.hear(Finding::Other(OTHER)), Seen::Other(OTHER));
        story.standing.arrive();
        assert_eq!(story.hear(Finding::Nothing), Seen::Other(OTHER));
    }

    #[tokio::test]
    async fn what_an_earlier_process_knew_counts_if_nobody_answers() {
        let mut story = Story::new();
        let left = Duration::from_secs(60);
        story.standing = Standing::remembered(Timestamp::UNIX_EPOCH, left, story.now);
        assert_eq!(story.seen(), Seen::Unknown, "not before it was asked for");
        assert_eq!(story.hear(Finding::Nothing), Seen::Published);
        assert_eq!(story.after(60).seen(), Seen::Unknown);
    }
}
