//! Where connections left from is written down, told to other hosts and heard from them.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::{MissedTickBehavior, interval};

use super::days;
use super::state::Running;
use crate::config::Config;
use crate::egress::Hear;
use crate::fleet::Fleet;
use crate::fleet::side::{SideRow, Topic};
use crate::model::{Host, Published};
use crate::published::Publisher;
use crate::published::evidence::{
    FleetStatement, Known, Reader, Recorder, Statement, Voice, read_day, told,
};

/// How often what was recorded goes to the disk: what a crash can lose.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Writes down each connection that egress tells of.
pub(super) fn observer(
    config: &Config,
    recorder: &Arc<Recorder>,
    publisher: &Arc<Publisher>,
) -> Hear {
    let (recorder, publisher) = (Arc::clone(recorder), Arc::clone(publisher));
    let binds = config.addresses.iter();
    let binds: Vec<(Ipv4Addr, Published)> = binds
        .filter_map(|address| Some((address.bind?.0, address.published)))
        .collect();
    Box::new(move |host, local| {
        let of = binds.iter().find(|(bind, _)| *bind == local);
        let listed = of.filter(|(_, published)| {
            let shown = publisher.shown();
            let mut entries = shown.list.entries.iter();
            entries.any(|one| one.address == *published)
        });
        let published = listed.map(|(_, published)| published.0);
        recorder.record(&account_of(host), local, published, Timestamp::now());
    })
}

/// The account of a host name: without the `s` of hosts that ask for a client certificate.
fn account_of(host: &Host) -> String {
    let name = host.as_str();
    match name.split_once(".s.") {
        Some((account, zone)) => format!("{account}.{zone}"),
        None => name.to_owned(),
    }
}

/// Saves what was recorded every ten seconds. Never returns.
pub(super) async fn watch(recorder: Arc<Recorder>) {
    let mut tick = interval(SAVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let recorder = Arc::clone(&recorder);
        let saved = tokio::task::spawn_blocking(move || recorder.save(Timestamp::now())).await;
        if let Err(panic) = saved {
            tracing::error!(%panic, "evidence could not be written");
        }
    }
}

/// Closes the record of a gateway that has drained; after another end the time since the last
/// writing is a gap.
pub(super) async fn close(running: &Arc<Running>) {
    if running.drain.running() > 0 {
        return;
    }
    let recorder = Arc::clone(&running.recorder);
    let closed = tokio::task::spawn_blocking(move || recorder.close(Timestamp::now())).await;
    if let Err(panic) = closed {
        tracing::warn!(%panic, "the evidence of this day could not be closed");
    }
}

impl Running {
    /// What is known of an account's connections on a day. It may wait for the disk.
    pub(super) fn evidence(&self, account: &str, day: Date) -> Result<FleetStatement, String> {
        let now = Timestamp::now();
        let config = self.config.load();
        let live = self.recorder.today(day, now);
        let reader = match &live {
            Some(_) => Reader::Running,
            None => Reader::Files,
        };
        let recorded = match live {
            Some(live) => Some(live),
            None => read_day(&config.state_dir, day).map_err(|error| error.to_string())?,
        };
        let host = &config.fleet.host;
        let own = Statement::new(account, day, recorded.as_ref(), host, now, reader);
        let rows = self.fleet.get().map(|fleet| fleet.heard(Topic::Evidence));
        let rows = rows.unwrap_or_default();
        let mut told = Vec::new();
        for other in config.fleet.hosts.iter().filter(|other| *other != host) {
            let of_day = self.recorder.peers().day(other, day);
            told.push((
                other,
                of_day.map_err(|error| format!("of {other}: {error}"))?,
            ));
        }
        let is_heard = |host: &String| {
            let mut rows = rows.iter();
            rows.any(|row| row.host == *host && days::is_recent(&config, row))
        };
        let others = told.iter().map(|(host, told)| Known {
            host,
            told: told.as_ref(),
            voice: if is_heard(host) {
                Voice::Heard
            } else {
                Voice::Silent
            },
        });
        Ok(FleetStatement::new(own, day, others, now))
    }
}

/// Tells the other hosts what this one has recorded, in each round.
pub(super) fn tell(running: &Running, fleet: &Fleet) {
    let recorder = Arc::clone(&running.recorder);
    fleet.supply(Topic::Evidence, move |room| {
        let told = recorder.told(room, Timestamp::now());
        told.unwrap_or_default().into()
    });
}

/// Keeps what the other hosts tell of their records, for ever.
pub(super) async fn hear(recorder: Arc<Recorder>, fleet: Fleet) {
    let mut rounds = fleet.rounds();
    let mut problems_before = Vec::new();
    while rounds.changed().await.is_ok() {
        let (recorder, rows) = (Arc::clone(&recorder), fleet.heard(Topic::Evidence));
        let kept = tokio::task::spawn_blocking(move || keep(&recorder, &rows)).await;
        let problems = kept.unwrap_or_default();
        if problems != problems_before {
            for (host, problem) in &problems {
                tracing::error!(
                    host,
                    problem,
                    "what a host tells of its connections is not kept"
                );
            }
            problems_before = problems;
        }
    }
}

fn keep(recorder: &Recorder, rows: &[SideRow]) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    for SideRow { host, content, .. } in rows.iter().filter(|row| !row.content.is_empty()) {
        let kept = match told::decode(content) {
            Ok(days) => recorder.peers().hear(host, days, Timestamp::now()),
            Err(error) => Err(io::Error::other(error)),
        };
        problems.extend(kept.err().map(|error| (host.clone(), error.to_string())));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_doors_of_an_account_are_one() {
        let of = |name: &str| account_of(&Host::from_normal(name));
        assert_eq!(of("acme.cybozu.com"), "acme.cybozu.com");
        assert_eq!(of("acme.s.cybozu.com"), "acme.cybozu.com");
        assert_eq!(of("s.cybozu.com"), "s.cybozu.com");
    }
}
