//! The notice board: each host hangs up one row and reads those of its peers, by Redis or Valkey.
//!
//! It is not trusted. A row may be lost, old, repeated, forged or nonsense; the ledger holds the
//! limits whatever it is told. So nothing here waits for a replica, retries a write or locks: a beat
//! that fails is left out, and the next one says all there is to say.
//!
//! A beat is two commands, whatever the number of accounts and calls: `SET … PX … GET`, which hangs
//! our row up and gives back what hung there, and `MGET` for the peers'. A nudge is one `PUBLISH`,
//! which makes the peers beat at once. So a user of the store needs four commands:
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

/// Longest row, in bytes: about 2,000 accounts that share at a time.
pub const ROW_BYTES_MAX: usize = 256 << 10;

/// How long a row hangs without being renewed. Only people look at one that old.
const ROW_LIFE: Duration = Duration::from_secs(600);

/// The notice board, with a connection to it while there is one.
#[derive(Debug)]
pub struct Exchange {
    way: Way,
    settings: Settings,
    own_key: String,
    peer_keys: Vec<String>,
    channel: String,
    session: Option<Session>,
    backoff: Backoff,
    nudged: Arc<Notify>,
}

/// What hung on the board at one beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What hung in our own place before.
    pub own: Option<Bytes>,
    /// The peers' rows, in the order of their names; a row longer than [`ROW_BYTES_MAX`] is `None`.
    pub peers: Vec<Option<Bytes>>,
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
        let peers = fleet.hosts.iter().filter(|host| **host != fleet.host);
        Ok(Some(Self {
            way: Way::new(url.clone(), tls, settings.connect_timeout),
            own_key: key(&fleet.host),
            peer_keys: peers.map(key).collect(),
            channel: format!("{}:nudge", settings.prefix),
            session: None,
            backoff: Backoff::default(),
            nudged: Arc::new(Notify::new()),
            settings,
        }))
    }

    /// Goes to another store, or to the same one with other credentials.
    pub fn move_to(&mut self, url: StoreUrl) {
        self.way.url = url;
        self.session = None;
        self.backoff = Backoff::default();
    }

    /// Hangs `row` up and reads what hangs there. Without a connection, it makes one if one is due.
    ///
    /// # Errors
    /// [`ExchangeError`]. Whether `row` hangs there is then unknown. The next call tries again; until
    /// the pause after a failed connection is over it fails at once.
    pub async fn beat(&mut self, row: &[u8]) -> Result<Seen, ExchangeError> {
        if row.len() > ROW_BYTES_MAX {
            return Err(ExchangeError::RowTooLong { bytes: row.len() });
        }
        let limit = self.settings.response_timeout;
        let (own_key, peer_keys) = (self.own_key.clone(), self.peer_keys.clone());
        let session = self.session().await?;
        let seen = session
            .beat(&own_key, row, ROW_LIFE, &peer_keys, limit)
            .await;
        if seen.is_err() {
            self.session = None;
        }
        seen
    }

    /// Makes the peers beat at once. Lost, it costs them a beat; so a failure is not told.
    pub async fn nudge(&mut self, host: &str) {
        let limit = self.settings.response_timeout;
        if let Some(session) = &mut self.session
            && session.publish(&self.channel, host, limit).await.is_err()
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
        (self.peer_keys.len() + 1) * (ROW_BYTES_MAX + 64) + (16 << 10)
    }
}
