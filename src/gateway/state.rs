//! The parts of a running gateway, and how a new configuration reaches them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::peers::{self, Neighbours};
use super::source::Source;
use crate::config::Config;
use crate::config::Limits;
use crate::config::file::{Loaded, load};
use crate::config::place::Faults;
use crate::drain::Drain;
use crate::egress::Egress;
use crate::fleet::Fleet;
use crate::notify::Desk;
use crate::proxy::{Outgoing, Proxy};
use crate::published::evidence::Recorder;
use crate::published::{Publisher, in_force};
use crate::quota::{Days, Quotas};
use crate::server::Server;
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::AccessLogHandle;
use crate::telemetry::logging;
use crate::tls::{Authority, Outbound};

/// Everything that lives as long as the gateway.
pub(super) struct Running {
    pub(super) config: ArcSwap<Config>,
    pub(super) source: Source,
    pub(super) server: Server,
    pub(super) proxy: Proxy,
    pub(super) quotas: Quotas,
    pub(super) days: Days,
    pub(super) egress: Arc<Egress<Outgoing>>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) desk: Desk,
    /// Held while a configuration or a list goes to the parts, so that an older one never comes last.
    pub(super) changing: Mutex<()>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) drain: Drain,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) peer_limits: Arc<ArcSwap<Limits>>,
    pub(super) neighbours: Neighbours,
    pub(super) log: AccessLogHandle,
    /// Set before the first call is served, where hosts share permits.
    pub(super) fleet: OnceLock<Fleet>,
}

/// A configuration that is in use from here on.
#[derive(Debug)]
pub(super) struct Reloaded {
    pub(super) warnings: Vec<String>,
    /// Keys that differ but are only read at the start; what they said then goes on.
    pub(super) needs_restart: Vec<String>,
}

impl Running {
    /// Reads the configuration again and uses it: callers, accounts, quotas, limits, secrets, trust
    /// anchors, the level of the log. A wrong file is refused whole, with every fault, and the old
    /// configuration stays; so does what only a restart can change.
    ///
    /// It waits for the disk, and is to be called once at a time.
    pub(super) fn reload(&self) -> Result<Reloaded, Vec<String>> {
        let refused = |faults| {
            self.telemetry.reload_refused();
            Err(faults)
        };
        let Loaded {
            mut config,
            warnings,
        } = match load(&self.source.path, &self.source.environment) {
            Ok(loaded) => loaded,
            Err(Faults(mut faults)) => {
                // What the file was refused for comes first.
                faults.sort_by_key(|fault| fault.severity);
                return refused(faults.iter().map(ToString::to_string).collect());
            }
        };
        let workers = super::fleet::workers();
        let needs_restart = config.keep_until_restart(&self.config.load());
        // All that can fail comes before anything changes.
        let tls = match Outbound::new(config.upstream.ca_file.as_deref()) {
            Ok(tls) => tls,
            Err(error) => {
                let file = self.source.path.display();
                return refused(vec![format!("{file}:1:1: upstream.ca_file: {error}")]);
            }
        };
        let authority = match Authority::of(&config, self.proxy.authority().as_ref()) {
            Ok(authority) => authority,
            Err(error) => {
                let file = self.source.path.display();
                return refused(vec![format!("{file}:1:1: inspect.ca_key: {error}")]);
            }
        };
        let neighbours = match self.neighbours.prepare(&config) {
            Ok(tls) => tls,
            Err(error) => {
                let file = self.source.path.display();
                return refused(vec![format!("{file}:1:1: fleet.peer: {error}")]);
            }
        };
        if let Err(error) = logging::set_level(&config.log) {
            return refused(vec![error.to_string()]);
        }
        let config = Arc::new(config);
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.egress.trust(tls);
        self.limits.store(Arc::new(config.limits.clone()));
        self.server.limits_changed();
        self.peer_limits.store(Arc::new(peers::limits(&config)));
        self.neighbours.reload(&config, neighbours);
        self.quotas.reload(&config);
        if let Some(fleet) = self.fleet.get() {
            fleet.reload(&config, workers);
        }
        self.publisher.refresh(&config, Timestamp::now());
        let states = self.publisher.states();
        self.egress.obey(&states);
        self.proxy.reload(in_force(&config, &states), authority);
        if config.verify != self.config.load().verify {
            self.egress.verifier().change(config.verify.as_ref());
        }
        self.telemetry.reloaded(&config);
        self.config.store(config);
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(Reloaded {
            warnings,
            needs_restart,
        })
    }
}
