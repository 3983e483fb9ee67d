//! The notice board: each host hangs up one row and reads those of its peers, by Redis or Valkey.
//!
//! It is not trusted. A row may be lost, old, repeated, forged or nonsense; the ledger holds the
//! limits whatever it is told. So nothing here waits for a replica, retries a write or locks: a beat
//! that fails is left out, and the next one says all there is to say.
//!
//! A beat is two commands, whatever the number of accounts and calls: `MGET` for the rows of all
//! hosts, our own among them, and `SET … PX` for ours. A nudge is one `PUBLISH`, which makes the peers
//! beat at once. Side rows (`fleet/side`) hang beside them, and are read and hung up by the same two
//! commands over another connection. So a user of the store needs four commands:
//!
//! ```text
//! user kintone-egress on >PASSWORD resetkeys ~kintone-egress:* resetchannels &kintone-egress:* -@all +set +mget +publish +subscribe
//! ```
//!
//! and `+select` for a database other than 0.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Config, Exchange as Settings, StoreUrl};
use crate::tls::{TlsError, to_own_server};

use backoff::Backoff;
use session::{Bounds, Nudges, Session};
use way::Way;

pub use failure::{ExchangeError, Reason};

pub(super) use backoff::random_part;

mod backoff;
mod failure;
mod sentinel;
mod session;
mod way;

pub use super::row::ROW_BYTES_MAX;

/// How long a row hangs without being renewed. Only people look at one that old.
const ROW_LIFE: Duration = Duration::from_secs(600);
/// How long a side row does: what a host has last told of a day is read on that day, and the next.
const SIDE_ROW_LIFE: Duration = Duration::from_secs(48 * 3600);

/// The notice board, with a connection to it while there is one.
#[derive(Debug)]
pub struct Exchange {
    way: Way,
    settings: Settings,
    own_key: String,
    /// Of all hosts, in the order of the configuration.
    keys: Vec<String>,
    kind: Kind,
    nudges: Nudges,
    session: Option<Session>,
    backoff: Backoff,
}

/// What hangs on a board.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// What its keys have after the prefix.
    name: &'static str,
    /// The longest row, in bytes.
    row_bytes_max: usize,
    /// How long a row hangs without being renewed.
    life: Duration,
    /// Longest wait for an answer.
    answer_max: Duration,
    /// Whether nudges are heard on its connection.
    hears_nudges: bool,
}

impl Exchange {
    /// The board of a configuration; `None` if hosts share nothing. Nobody is connected to yet.
    ///
    /// # Errors
    /// [`TlsError`] if the file of extra trust anchors cannot be used.
    pub fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        let fleet = &config.fleet;
        let Some(url) = &fleet.redis else {
            return Ok(None);
        };
        let settings = fleet.exchange.clone();
        let tls = to_own_server(settings.ca_file.as_deref())?;
        let kind = Kind {
            name: "row",
            row_bytes_max: ROW_BYTES_MAX,
            life: ROW_LIFE,
            answer_max: settings.response_timeout,
            hears_nudges: true,
        };
        let way = Way::new(url.clone(), tls, settings.connect_timeout);
        Ok(Some(Self::of_kind(kind, way, config)))
    }

    /// The board beside this one, for side rows: over a connection of its own.
    #[must_use]
    pub fn beside(&self, config: &Config) -> Self {
        let settings = &config.fleet.exchange;
        let kind = Kind {
            name: "side",
            row_bytes_max: settings.side_rows,
            life: SIDE_ROW_LIFE,
            answer_max: settings.side_every,
            hears_nudges: false,
        };
        Self::of_kind(kind, self.way.clone(), config)
    }

    fn of_kind(kind: Kind, way: Way, config: &Config) -> Self {
        let fleet = &config.fleet;
        let settings = fleet.exchange.clone();
        let key = |host: &String| format!("{}:{}:{host}", settings.prefix, kind.name);
        Self {
            way,
            own_key: key(&fleet.host),
            keys: fleet.hosts.iter().map(key).collect(),
            kind,
            nudges: Nudges {
                channel: format!("{}:nudge", settings.prefix),
                bell: Arc::new(Notify::new()),
            },
            session: None,
            backoff: Backoff::default(),
            settings,
        }
    }

    /// Goes to another store, or to the same one with other credentials, if it is not there already.
    pub fn move_to(&mut self, url: StoreUrl) {
        if url.is_same(&self.way.url) {
            return;
        }
        self.way.url = url;
        self.session = None;
        self.backoff = Backoff::default();
    }

    /// Reads the rows of all hosts, our own among them, in the order of `[fleet] hosts`; a row that is
    /// too long ([`ROW_BYTES_MAX`], `[fleet] side_rows`) is `None`. Without a connection, it makes one if one is due.
    ///
    /// # Errors
    /// [`ExchangeError`]. The next call tries again; until the pause after a failed connection is over
    /// it fails at once.
    pub async fn read(&mut self) -> Result<Vec<Option<Bytes>>, ExchangeError> {
        let limit = self.kind.answer_max;
        let keys = self.keys.clone();
        let session = self.session().await?;
        let rows = session.read(&keys, limit).await;
        self.judge(rows)
    }

    /// Hangs our row up, on the connection that there is.
    ///
    /// # Errors
    /// [`ExchangeError`]. Whether the row hangs there is then unknown.
    pub async fn publish(&mut self, row: &[u8]) -> Result<(), ExchangeError> {
        let longest = self.kind.row_bytes_max;
        if row.len() > longest {
            let bytes = row.len();
            return Err(ExchangeError::RowTooLong { bytes, longest });
        }
        let (life, limit) = (self.kind.life, self.kind.answer_max);
        let Some(session) = &mut self.session else {
            return Err(ExchangeError::NotConnected);
        };
        let published = session.put(&self.own_key, row, life, limit).await;
        self.judge(published)
    }

    /// Makes the peers beat at once. Lost, it costs them a beat; so a failure is not told.
    pub async fn nudge(&mut self, host: &str) {
        let limit = self.settings.response_timeout;
        if let Some(session) = &mut self.session
            && session
                .say(&self.nudges.channel, host, limit)
                .await
                .is_err()
        {
            self.session = None;
        }
    }

    /// Tells when a peer has nudged us. One notice may stand for several nudges.
    #[must_use]
    pub fn nudged(&self) -> Arc<Notify> {
        Arc::clone(&self.nudges.bell)
    }

    /// Whether there is a connection.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// A connection on which something failed is not used again: what it says next may be late.
    fn judge<T>(&mut self, done: Result<T, ExchangeError>) -> Result<T, ExchangeError> {
        if done.is_err() {
            self.session = None;
        }
        done
    }

    async fn session(&mut self) -> Result<&mut Session, ExchangeError> {
        if self.session.is_none() {
            let now = Instant::now();
            if let Some(left) = self.backoff.left(now) {
                return Err(ExchangeError::Pausing { left });
            }
            let nudges = self.kind.hears_nudges.then_some(&self.nudges);
            match Session::open(&self.way, nudges, self.bounds()).await {
                Ok(session) => self.session = Some(session),
                Err(error) => {
                    self.backoff.failed(Instant::now());
                    return Err(error);
                }
            }
            self.backoff = Backoff::default();
        }
        Ok(self.session.as_mut().expect("made just now"))
    }

    fn bounds(&self) -> Bounds {
        let row = self.kind.row_bytes_max;
        Bounds {
            row,
            answer: self.keys.len() * (row + 64) + (16 << 10),
        }
    }
}
