//! The notice board: each host hangs up one row and reads those of its peers, by Redis or Valkey.
//!
//! It is not trusted. A row may be lost, old, repeated, forged or nonsense; the ledger holds the
//! limits whatever it is told. So nothing here waits for a replica, retries a write or locks: a beat
//! that fails is left out, and the next one says all there is to say.
//!
//! A beat is two commands, whatever the number of accounts and calls: `MGET` for the rows of all
//! hosts, our own among them, and `SET … PX` for ours. A nudge is one `PUBLISH`, which makes the peers
//! beat at once. So a user of the store needs four commands:
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
use session::Session;
use way::Way;

pub use failure::{ExchangeError, Reason};

mod backoff;
mod failure;
mod sentinel;
mod session;
mod way;

pub use super::row::ROW_BYTES_MAX;

/// How long a row hangs without being renewed. Only people look at one that old.
const ROW_LIFE: Duration = Duration::from_secs(600);

/// The notice board, with a connection to it while there is one.
#[derive(Debug)]
pub struct Exchange {
    way: Way,
    settings: Settings,
    own_key: String,
    /// Of all hosts, in the order of the configuration.
    keys: Vec<String>,
    channel: String,
    session: Option<Session>,
    backoff: Backoff,
    nudged: Arc<Notify>,
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
        let key = |host: &String| format!("{}:row:{host}", settings.prefix);
        Ok(Some(Self {
            way: Way::new(url.clone(), tls, settings.connect_timeout),
            own_key: key(&fleet.host),
            keys: fleet.hosts.iter().map(key).collect(),
            channel: format!("{}:nudge", settings.prefix),
            session: None,
            backoff: Backoff::default(),
            nudged: Arc::new(Notify::new()),
            settings,
        }))
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

    /// Reads the rows of all hosts, our own among them, in the order of `[fleet] hosts`; a row longer
    /// than [`ROW_BYTES_MAX`] is `None`. Without a connection, it makes one if one is due.
    ///
    /// # Errors
    /// [`ExchangeError`]. The next call tries again; until the pause after a failed connection is over
    /// it fails at once.
    pub async fn read(&mut self) -> Result<Vec<Option<Bytes>>, ExchangeError> {
        let limit = self.settings.response_timeout;
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
        if row.len() > ROW_BYTES_MAX {
            return Err(ExchangeError::RowTooLong { bytes: row.len() });
        }
        let limit = self.settings.response_timeout;
        let Some(session) = &mut self.session else {
            return Err(ExchangeError::NotConnected);
        };
        let published = session.put(&self.own_key, row, ROW_LIFE, limit).await;
        self.judge(published)
    }

    /// Makes the peers beat at once. Lost, it costs them a beat; so a failure is not told.
    pub async fn nudge(&mut self, host: &str) {
        let limit = self.settings.response_timeout;
        if let Some(session) = &mut self.session
            && session.say(&self.channel, host, limit).await.is_err()
        {
            self.session = None;
        }
    }

    /// Tells when a peer has nudged us. One notice may stand for several nudges.
    #[must_use]
    pub fn nudged(&self) -> Arc<Notify> {
        Arc::clone(&self.nudged)
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
            let bytes_max = self.bytes_max();
            match Session::open(&self.way, &self.channel, &self.nudged, bytes_max).await {
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

    /// What one beat may bring at most: every row at its longest, and what Redis says around them.
    fn bytes_max(&self) -> usize {
        self.keys.len() * (ROW_BYTES_MAX + 64) + (16 << 10)
    }
}
