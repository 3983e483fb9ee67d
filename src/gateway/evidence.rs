//! Where connections left from is written down.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use tokio::time::{MissedTickBehavior, interval};

use super::state::Running;
use crate::config::Config;
use crate::egress::Hear;
use crate::model::{Host, Published};
use crate::published::Publisher;
use crate::published::evidence::{Reader, Recorder, Statement, read_day};

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
    pub(super) fn evidence(&self, account: &str, day: Date) -> Result<Statement, String> {
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
        Ok(Statement::new(
            account,
            day,
            recorded.as_ref(),
            host,
            now,
            reader,
        ))
    }
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
