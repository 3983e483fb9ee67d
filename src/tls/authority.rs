//! The private authority behind inspected connections: one certificate for each zone, signed when it
//! is needed and used for all its accounts.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;

use super::leaf::{MintError, Minter};
use crate::config::{Config, Inspect};
use crate::model::Host;

/// Signs what callers are shown in place of kintone's own certificate.
///
/// It is cheap to ask for each connection: a certificate is kept for half of its life, and is then
/// replaced by whoever asks first, while the others go on with the old one.
pub struct Authority {
    inspect: Inspect,
    minter: Minter,
    zones: Vec<Zone>,
}

struct Zone {
    name: String,
    minted: ArcSwap<Minted>,
    /// Held by the one who mints.
    minting: Mutex<()>,
}

struct Minted {
    server: Arc<ServerConfig>,
    begin: Timestamp,
    /// From when on it is replaced.
    renewal: Timestamp,
    end: Timestamp,
}

impl Authority {
    /// The authority of `config`, with a certificate for each zone that it may sign for; `None` where
    /// nothing is inspected. Where nothing has changed that it depends on, `before` goes on.
    ///
    /// # Errors
    /// [`MintError`], if the key cannot sign. A configuration that was read by
    /// [`load`](crate::config::file::load) has a certificate and the key to it.
    pub fn of(config: &Config, before: Option<&Arc<Self>>) -> Result<Option<Arc<Self>>, MintError> {
        let Some(inspect) = &config.inspect else {
            return Ok(None);
        };
        let issuer = inspect.ca_cert.issuer();
        let zones = config.upstream.zones.iter();
        let zones: Vec<_> = zones.filter(|zone| issuer.permits(zone)).collect();
        if let Some(before) = before.filter(|before| before.is_of(inspect, &zones)) {
            return Ok(Some(Arc::clone(before)));
        }
        let minter = Minter::new(inspect)?;
        let now = Timestamp::now();
        let zones = zones
            .into_iter()
            .map(|zone| Zone::new(zone, &minter, now))
            .collect::<Result<_, _>>()?;
        Ok(Some(Arc::new(Self {
            inspect: inspect.clone(),
            minter,
            zones,
        })))
    }

    /// Whether a connection to `host` can be answered with a certificate of ours: not those that ask
    /// for the caller's own (`acme.s.cybozu.com`), nor any of a zone that the CA may not sign for.
    #[must_use]
    pub fn covers(&self, host: &Host) -> bool {
        self.zone_of(host).is_some()
    }

    /// How to answer a TLS connection to `host`: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, with the
    /// certificate of its zone. `None` if it is not [covered](Self::covers).
    ///
    /// It waits only where a certificate's life has ended, unused; to sign one takes as long as a
    /// handshake does.
    #[must_use]
    pub fn server_config(&self, host: &Host) -> Option<Arc<ServerConfig>> {
        self.server_config_at(host, Timestamp::now())
    }

    pub(super) fn server_config_at(
        &self,
        host: &Host,
        now: Timestamp,
    ) -> Option<Arc<ServerConfig>> {
        let zone = self.zone_of(host)?;
        Some(zone.server_config(&self.minter, now))
    }

    fn zone_of(&self, host: &Host) -> Option<&Zone> {
        let (_, zone) = host.as_str().split_once('.')?;
        self.zones.iter().find(|known| known.name == zone)
    }

    fn is_of(&self, inspect: &Inspect, zones: &[&String]) -> bool {
        let names = self.zones.iter().map(|zone| &zone.name);
        self.inspect.ca_cert.certificates == inspect.ca_cert.certificates
            && self.inspect.ca_key.expose() == inspect.ca_key.expose()
            && self.inspect.leaf_life == inspect.leaf_life
            && names.eq(zones.iter().copied())
    }
}

impl Zone {
    fn new(name: &str, minter: &Minter, now: Timestamp) -> Result<Self, MintError> {
        Ok(Self {
            name: name.to_owned(),
            minted: ArcSwap::from_pointee(Minted::new(name, minter, now)?),
            minting: Mutex::new(()),
        })
    }

    fn server_config(&self, minter: &Minter, now: Timestamp) -> Arc<ServerConfig> {
        let minted = self.minted.load();
        if minted.is_fresh(now) {
            return Arc::clone(&minted.server);
        }
        let turn = match self.minting.try_lock() {
            Ok(turn) => turn,
            Err(_) if minted.is_valid(now) => return Arc::clone(&minted.server),
            // The last holder did nothing that could be left half done.
            Err(_) => self.minting.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let minted = self.minted.load();
        if minted.is_fresh(now) {
            return Arc::clone(&minted.server);
        }
        let server = match Minted::new(&self.name, minter, now) {
            Ok(new) => {
                let server = Arc::clone(&new.server);
                self.minted.store(Arc::new(new));
                server
            }
            Err(error) => {
                tracing::error!(zone = self.name, %error, "no new certificate; the old one stays");
                Arc::clone(&minted.server)
            }
        };
        drop(turn);
        server
    }
}

impl Minted {
    fn new(zone: &str, minter: &Minter, now: Timestamp) -> Result<Self, MintError> {
        let leaf = minter.mint(zone, now)?;
        Ok(Self {
            server: leaf.server,
            begin: leaf.not_before,
            renewal: now + SignedDuration::try_from(minter.life() / 2).unwrap_or_default(),
            end: leaf.not_after,
        })
    }

    /// Not before its renewal, nor from a future that the clock has taken back.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.begin <= now && now < self.renewal
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        self.begin <= now && now < self.end
    }
}
