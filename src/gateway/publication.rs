//! What is published reaches the parts that go by it: the way out, and the hints to customers.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use super::evidence;
use super::state::Running;
use crate::config::Config;
use crate::egress::Egress;
use crate::fleet::Fleet;
use crate::fleet::side::{SideRow, Topic};
use crate::proxy::Outgoing;
use crate::published::calendar::next_midnight;
use crate::published::evidence::Recorder;
use crate::published::{Memory, Publisher, in_force};

/// How often the list is judged beside the midnights of Japan: the clock may be set, and the disk may
/// have been full.
const JUDGE_EVERY: Duration = Duration::from_secs(60);

/// Publishes the list at the start, has its active addresses used and no other, and writes down where
/// connections leave from.
pub(super) fn open(config: &Config, egress: &Egress<Outgoing>) -> (Arc<Publisher>, Arc<Recorder>) {
    let now = Timestamp::now();
    let publisher = Arc::new(Publisher::open(config, now));
    egress.obey(&publisher.states());
    let recorder = Arc::new(Recorder::open(&config.state_dir, &config.evidence, now));
    egress.observe(evidence::observer(config, &recorder, &publisher));
    (publisher, recorder)
}

/// Judges the list at each midnight of Japan and every minute. Never returns.
pub(super) async fn watch(running: Arc<Running>) {
    loop {
        sleep(until_next(Timestamp::now())).await;
        let judging = Arc::clone(&running);
        let judged = tokio::task::spawn_blocking(move || judging.publish(Timestamp::now())).await;
        if let Err(panic) = judged {
            tracing::error!(%panic, "the published list could not be judged");
        }
    }
}

/// A moment after midnight rather than before it.
fn until_next(now: Timestamp) -> Duration {
    let midnight = now.duration_until(next_midnight(now)).unsigned_abs();
    (midnight + Duration::from_millis(1)).min(JUDGE_EVERY)
}

/// Tells the other hosts what this one has published, in each round.
pub(super) fn tell(running: &Running, fleet: &Fleet) {
    let publisher = Arc::clone(&running.publisher);
    fleet.supply(Topic::Published, move |_| publisher.told().into());
}

/// Learns from the other hosts since when addresses are published, for ever.
pub(super) async fn hear(running: Arc<Running>, fleet: Fleet) {
    let mut rounds = fleet.rounds();
    let mut problems_before = Vec::new();
    while rounds.changed().await.is_ok() {
        let (learning, rows) = (Arc::clone(&running), fleet.heard(Topic::Published));
        let learned = tokio::task::spawn_blocking(move || learn(&learning, &rows)).await;
        let problems = learned.unwrap_or_default();
        if problems != problems_before {
            for (host, problem) in &problems {
                tracing::error!(
                    host,
                    problem,
                    "what a host tells of its published list is of no use"
                );
            }
            problems_before = problems;
        }
    }
}

fn learn(running: &Running, rows: &[SideRow]) -> Vec<(String, String)> {
    let now = Timestamp::now();
    let (mut told, mut problems) = (Vec::new(), Vec::new());
    for SideRow { host, content, .. } in rows {
        match Memory::heard(content, now) {
            Ok(memory) => told.push(memory),
            Err(error) => problems.push((host.clone(), error.to_string())),
        }
    }
    if running.publisher.learn(&told) {
        running.publish(now);
    }
    problems
}

impl Running {
    /// Publishes the list as of `now`, and uses the addresses that it has in use. It may wait for the
    /// disk.
    pub(super) fn publish(&self, now: Timestamp) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.config.load_full();
        if self.publisher.refresh(&config, now) {
            let states = self.publisher.states();
            self.egress.obey(&states);
            let authority = self.proxy.authority();
            self.proxy.reload(in_force(&config, &states), authority);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file::{Environment, load};
    use crate::gateway::{Gateway, Source};
    use crate::model::Published;
    use crate::telemetry::AccessLogHandle;

    #[test]
    fn the_list_is_judged_each_minute_and_at_midnight() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(until_next(at("2026-11-30T12:00:00Z")), JUDGE_EVERY);
        let short = until_next(at("2026-11-30T14:59:58Z"));
        assert_eq!(short, Duration::from_millis(2001));
        assert_eq!(until_next(at("2026-11-30T15:00:00Z")), JUDGE_EVERY);
    }

    const CONFIG: &str = r#"
[listen]
proxy = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.2.94"
retire_after = 2199-06-01
[[egress.address]]
published = "35.73.236.241"
bind = "127.0.2.241"
state = "planned"
valid_from = 2199-03-01
[callers]
anonymous = true
"#;

    fn gateway(dir: &Path) -> Gateway {
        let path = dir.join("gateway.toml");
        std::fs::write(&path, CONFIG).unwrap();
        let environment = Environment::default();
        let config = load(&path, &environment).unwrap().config;
        let source = Source { path, environment };
        Gateway::build(config, source, AccessLogHandle::off()).unwrap()
    }

    #[tokio::test]
    async fn calls_leave_by_the_calendar_of_japan() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = gateway(dir.path());
        let running = &gateway.running;
        let used = || {
            let mut used: Vec<Published> = Vec::new();
            while let Ok(source) = running.egress.choose() {
                if used.contains(&source.published) {
                    break;
                }
                used.push(source.published);
            }
            used.sort();
            used.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (first, second) = ("18.177.83.94", "35.73.236.241");
        assert_eq!(used(), [first]);
        for (at, expected) in [
            ("2199-02-28T14:59:59Z", &[first][..]),
            ("2199-02-28T15:00:00Z", &[first, second]),
            ("2199-05-31T14:59:59Z", &[first, second]),
            ("2199-05-31T15:00:00Z", &[second]),
        ] {
            running.publish(at.parse().unwrap());
            assert_eq!(used(), expected, "{at}");
        }
        let alarms = &running.publisher.shown().alarms;
        assert!(alarms.is_empty(), "{alarms:?}");
    }
}
