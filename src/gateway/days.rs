//! The daily counts: opened, warned of, brought to disk, told to other hosts and heard from them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::state::Running;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::fleet::side::{SideRow, Topic};
use crate::notify::Event;
use crate::quota::{
    Budget, DayClock, Days, FoundCounts, RecordError, Silence, ToldError, Warning, Word,
};
use crate::telemetry::{LimitName, Telemetry};

/// A host that has told nothing for so many rounds may go on making calls that nobody hears of.
const SILENT_ROUNDS: u32 = 4;

/// Takes the counts in the state directory, which must be this process's, and says what was found.
pub(super) fn open(config: &Config, telemetry: &Arc<Telemetry>) -> Result<Days, RecordError> {
    let full = Arc::clone(telemetry);
    let full = move || full.limit_hit(LimitName::DailyRows);
    let (days, found) = Days::open(&config.state_dir, DayClock::System, full)?;
    say(&config.state_dir, &found);
    days.judge(|account| Budget::of(config, account).part);
    if config.fleet.redis.is_some() {
        days.expect(silence(config, &[], &[]));
    }
    Ok(days)
}

fn say(dir: &Path, found: &FoundCounts) {
    let dir = dir.display();
    match found {
        FoundCounts::Nothing | FoundCounts::Kept { uncertain: 0 } => {}
        FoundCounts::Kept { uncertain } => tracing::info!(
            %dir,
            uncertain,
            "calls counted in the instant in which their process was killed: kintone may not have \
             had them"
        ),
        FoundCounts::Missing => tracing::error!(
            %dir,
            "the daily counts are gone, although days were counted here before: today begins at 0. \
             Keep [state] dir, or put its file counts back from a backup"
        ),
        FoundCounts::Damaged { saved, lost } => tracing::error!(
            %dir,
            saved,
            lost,
            "the daily counts were damaged: what could be read goes on, and the file is kept as \
             counts.damaged"
        ),
    }
}

/// Runs what the counts need beside the calls, for ever.
pub(super) async fn drive(running: Arc<Running>) {
    let days = running.days.clone();
    days.drive(|warning| warn(&running, warning)).await;
}

fn warn(running: &Running, warning: &Warning) {
    let Warning {
        account,
        app,
        percent,
        requests,
        budget,
    } = warning;
    running.telemetry.budget_warned(account, *percent);
    tracing::warn!(
        %account,
        %app,
        percent,
        requests,
        budget,
        "an app nears the end of its calls of the day, which begins anew at 09:00 Japan time"
    );
    let near = Event::BudgetNear(account.clone(), *app, *percent);
    running.desk.tell(near);
}

/// Brings the counts to disk, so that the end of the machine after this one costs none.
pub(super) async fn close(running: &Arc<Running>) {
    let days = running.days.clone();
    let synced = tokio::task::spawn_blocking(move || days.sync()).await;
    match synced {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the daily counts could not be brought to disk"),
        Err(panic) => tracing::warn!(%panic, "the daily counts could not be brought to disk"),
    }
}

/// Tells the other hosts of today's calls, in each round.
pub(super) fn tell(running: &Running, fleet: &Fleet) {
    let days = running.days.clone();
    // The other half is for what else there is to tell.
    let part = fleet.side_bytes_max() / 2;
    let was_cut = AtomicBool::new(false);
    fleet.supply(Topic::Days, move |room| {
        let (content, left_out) = days.told(room.min(part));
        if !was_cut.swap(left_out > 0, Ordering::Relaxed) && left_out > 0 {
            tracing::warn!(
                left_out,
                "apps whose calls the other hosts do not hear of: [fleet] side_rows has no room for \
                 them. They are those with the fewest calls"
            );
        }
        content.into()
    });
}

/// Hears the other hosts' calls of today, for ever.
pub(super) async fn hear(running: Arc<Running>, fleet: Fleet) {
    let mut rounds = fleet.rounds();
    let mut bad_before = Vec::new();
    while rounds.changed().await.is_ok() {
        let (running, fleet) = (Arc::clone(&running), fleet.clone());
        let heard = tokio::task::spawn_blocking(move || merge(&running, &fleet)).await;
        let bad = heard.unwrap_or_default();
        let bad: Vec<_> = bad
            .into_iter()
            .map(|(host, error)| (host, error.to_string()))
            .collect();
        if bad != bad_before {
            for (host, error) in &bad {
                tracing::error!(
                    host,
                    error,
                    "what a host tells of its calls of the day is of no use"
                );
            }
            bad_before = bad;
        }
    }
}

fn merge(running: &Running, fleet: &Fleet) -> Vec<(String, ToldError)> {
    let rows = fleet.heard(Topic::Days);
    let words = rows.iter().map(|row| Word {
        host: &row.host,
        content: &row.content,
    });
    let words: Vec<_> = words.collect();
    let evicted = fleet.view().ledger.members.evicted;
    let silence = silence(&running.config.load(), &rows, &evicted);
    running.days.hear(&words, silence)
}

/// Whether the host that told it is heard of.
pub(super) fn is_recent(config: &Config, row: &SideRow) -> bool {
    row.age <= config.fleet.exchange.side_every * SILENT_ROUNDS
}

/// How many hosts may make calls that nobody hears of. An evicted one makes none.
fn silence(config: &Config, rows: &[SideRow], evicted: &[String]) -> Silence {
    let is_heard = |host: &String| {
        let mut rows = rows.iter();
        rows.any(|row| row.host == *host && is_recent(config, row))
    };
    let may_call = |host: &&String| **host != config.fleet.host && !evicted.contains(host);
    let others = config.fleet.hosts.iter().filter(may_call);
    let silent = others.clone().filter(|host| !is_heard(host)).count();
    let count = |hosts: usize| u32::try_from(hosts).unwrap_or(u32::MAX);
    Silence {
        silent: count(silent),
        hosts: count(others.count() + 1),
    }
}
