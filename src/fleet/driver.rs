//! The beat: read the board, let the ledger think, keep, hang up.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::budget::Budget;
use super::desk::Desk;
use super::exchange::{Exchange, ExchangeError};
use super::fleet::{Fleet, Shared};
use super::ledger::{Before, Heard, Kept, Ledger, Left, Pace, Setup, Terms};
use super::moment::Moment;
use super::row::Row;
use super::side::SideDriver;
use crate::config::Config;
use crate::quota::{Quotas, since_boot};

/// Brings to disk what a later start must find again. It blocks on the disk.
pub type Keep = Arc<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// What makes the fleet beat. It runs for ever, as one task.
pub struct Driver {
    fleet: Fleet,
    exchange: Exchange,
    desk: Desk,
    keep: Keep,
    /// What could not be brought to disk: nothing is told before it is.
    owed: Option<Kept>,
    /// The time between two beats while there is something to do.
    beat: Duration,
    hosts: Vec<String>,
    budget: Budget,
    nudged: Arc<Notify>,
    pressed: Arc<Notify>,
}

/// Idle, a host beats once in so many of its beats.
const IDLE_BEATS: u32 = 5;
/// The shortest time between two beats.
const BEAT_MIN: Duration = Duration::from_millis(20);
/// Commands of a beat, and of one that is nudged and nudges.
const BEAT_COMMANDS: u32 = 2;
/// How long data that we sent may stay without acknowledgement (`egress/dial`).
const UNACKED: Duration = Duration::from_secs(20);

impl Driver {
    /// A fleet that begins, with its first beat: the look at the store takes a moment. `left` is what
    /// an earlier start of this host left, `workers` how many threads serve calls. Both drivers are to
    /// run, each as its own task.
    pub async fn begin(
        config: &Config,
        mut exchange: Exchange,
        quotas: Quotas,
        Left { before, access }: Left,
        keep: Keep,
        workers: u32,
    ) -> (Fleet, Self, SideDriver) {
        let kept = match &before {
            Before::Kept(kept) => kept.incarnation,
            Before::Nothing | Before::Unknown(_) => 0,
        };
        let rows = exchange.read().await.unwrap_or_default();
        let host = &config.fleet.host;
        let own = rows
            .iter()
            .flatten()
            .filter_map(|row| Row::decode(row).ok());
        let stored = own.filter(|row| row.host == *host);
        let stored = stored.map(|row| row.stamp.incarnation).max().unwrap_or(0);
        let incarnation = wall_clock_ms().max(kept + 1).max(stored + 1);
        let began_at = Moment::from_boot(since_boot());
        let setup = Setup {
            host: host.clone(),
            hosts: config.fleet.hosts.clone(),
            process: random_word(),
            incarnation,
            before,
            access,
            terms: terms(config, workers),
        };
        let settings = &config.fleet.exchange;
        let fleet = Fleet::new(Ledger::new(setup, began_at), began_at, settings.side_rows);
        let side = SideDriver::new(
            Arc::clone(&fleet.0.side),
            exchange.beside(config),
            host,
            &config.fleet.hosts,
            incarnation,
            settings.side_every,
        );
        let mut driver = Self {
            nudged: exchange.nudged(),
            pressed: quotas.pressed(),
            fleet: fleet.clone(),
            exchange,
            desk: Desk::new(quotas),
            keep,
            owed: None,
            beat: settings.beat,
            hosts: config.fleet.hosts.clone(),
            budget: Budget::new(),
        };
        driver.beat().await;
        (fleet, driver, side)
    }

    /// Beats for ever.
    pub async fn run(mut self) {
        loop {
            let began = Instant::now();
            self.budget.spend(BEAT_COMMANDS);
            let pace = self.beat().await;
            let due = began + pace;
            if self.wait(began, due).await == Woken::Early {
                // A nudged beat takes the place of the one that was due.
                let wait = self.budget.wait(BEAT_COMMANDS);
                let soon = (began + BEAT_MIN).max(Instant::now() + wait);
                sleep_until(soon.min(due)).await;
            }
        }
    }

    async fn wait(&self, began: Instant, due: Instant) -> Woken {
        let shared = &*self.fleet.0;
        tokio::select! {
            () = sleep_until(due.max(began + BEAT_MIN)) => Woken::Due,
            () = self.nudged.notified() => Woken::Early,
            () = self.pressed.notified() => Woken::Early,
            () = shared.ordered.notified() => Woken::Early,
        }
    }

    /// One beat; how long until the next.
    async fn beat(&mut self) -> Duration {
        let shared = Arc::clone(&self.fleet.0);
        if let Some(url) = shared.moved.swap(None) {
            self.exchange.move_to((*url).clone());
        }
        let read = self.exchange.read().await;
        // Behind the rows: a lender must not count from before its borrower's beat.
        let now = Moment::from_boot(since_boot());
        let (keep, row, nudge, pace) = {
            let mut ledger = shared.ledger();
            if let Ok(rows) = &read {
                self.hear(&shared, &mut ledger, now, rows);
            }
            let beat = ledger.beat(now, &mut self.desk);
            (beat.keep, beat.row, beat.nudge, beat.pace)
        };
        let is_kept = self.keep(keep).await;
        let done = match read {
            Err(error) => Err(error),
            Ok(_) if !is_kept => Ok(()),
            Ok(_) => self.hang_up(row.as_ref(), nudge).await,
        };
        shared.store().note(done.as_ref().copied(), now);
        match pace {
            Pace::Busy => self.beat,
            Pace::Idle => self.beat * IDLE_BEATS,
        }
    }

    fn hear(&self, shared: &Shared, ledger: &mut Ledger, now: Moment, rows: &[Option<Bytes>]) {
        let mut bad = Vec::new();
        for (host, bytes) in self.hosts.iter().zip(rows) {
            let Some(bytes) = bytes else { continue };
            let row = match Row::decode(bytes) {
                Ok(row) if row.host == *host => Arc::new(row),
                Ok(_) => {
                    bad.push((host.clone(), "it is another host's".to_owned()));
                    continue;
                }
                Err(error) => {
                    bad.push((host.clone(), error.to_string()));
                    continue;
                }
            };
            match ledger.hear(now, &row) {
                Heard::Twin => bad.push((
                    host.clone(),
                    "another process that began later has this host's name".to_owned(),
                )),
                Heard::OtherHosts => bad.push((
                    host.clone(),
                    "its [fleet] hosts are not those of this host".to_owned(),
                )),
                Heard::New | Heard::Old | Heard::Stranger | Heard::Own | Heard::Earlier => {}
            }
        }
        let mut store = shared.store();
        if store.bad_rows != bad {
            for (host, why) in &bad {
                tracing::error!(host, why, "a row on the fleet's board is of no use");
            }
            store.bad_rows = bad;
        }
    }

    async fn hang_up(&mut self, row: Option<&Row>, nudge: bool) -> Result<(), ExchangeError> {
        let Some(row) = row else {
            return Ok(());
        };
        self.exchange.publish(&row.encode()).await?;
        if nudge && self.budget.try_spend(1) {
            self.exchange.nudge(&row.host).await;
        }
        Ok(())
    }

    /// Brings to disk what a later start must find. Without it nothing may be told.
    async fn keep(&mut self, news: Option<Kept>) -> bool {
        let Some(kept) = news.or_else(|| self.owed.take()) else {
            return true;
        };
        let (keep, bytes) = (Arc::clone(&self.keep), kept.encode());
        let written = tokio::task::spawn_blocking(move || keep(&bytes)).await;
        let written = written.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        if let Err(error) = &written {
            tracing::error!(%error, "[state] dir cannot be written: other hosts hear nothing");
            self.owed = Some(kept);
        }
        written.is_ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Due,
    Early,
}

/// The times of a configuration. All hosts have the same file.
pub(super) fn terms(config: &Config, workers: u32) -> Terms {
    let settings = &config.fleet.exchange;
    let accounts = config.accounts.values().map(|account| account.quota.settle);
    let settle = accounts.fold(config.quota.settle, Duration::max);
    Terms {
        loan: settings.loan,
        overrun: settings.overrun,
        unacked: UNACKED,
        ..Terms::usual(settle, workers)
    }
}

/// Where the kernel gives none, the clock is as good: it only tells processes apart.
fn random_word() -> u64 {
    getrandom::u64().unwrap_or_else(|_| wall_clock_ms())
}

pub(super) fn wall_clock_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
