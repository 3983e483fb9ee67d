//! The parts of a running gateway, and how a new configuration reaches them.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::source::Source;
use crate::config::Config;
use crate::config::Limits;
use crate::config::file::{Loaded, load};
use crate::drain::Drain;
use crate::egress::Egress;
use crate::proxy::{Outgoing, Proxy};
use crate::quota::Quotas;
use crate::server::Server;
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::AccessLogHandle;

/// Everything that lives as long as the gateway.
pub(super) struct Running {
    pub(super) config: ArcSwap<Config>,
    pub(super) source: Source,
    pub(super) server: Server,
    pub(super) proxy: Proxy,
    pub(super) quotas: Quotas,
    pub(super) egress: Arc<Egress<Outgoing>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) drain: Drain,
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) log: AccessLogHandle,
}

/// A configuration that is in use from here on.
#[derive(Debug)]
pub(super) struct Reloaded {
    pub(super) warnings: Vec<String>,
    /// Keys that differ but are only read at the start.
    pub(super) needs_restart: Vec<String>,
}

impl Running {
    /// Reads the configuration again and uses it: callers, accounts, quotas, limits. A wrong file
    /// is refused whole, with every fault, and the old configuration stays.
    pub(super) fn reload(&self) -> Result<Reloaded, Vec<String>> {
        let loaded = load(&self.source.path, &self.source.environment);
        let Loaded { config, warnings } = match loaded {
            Ok(loaded) => loaded,
            Err(faults) => {
                self.telemetry.reload_refused();
                return Err(faults.0.iter().map(ToString::to_string).collect());
            }
        };
        let needs_restart = needs_restart(&self.config.load(), &config);
        let config = Arc::new(config);
        self.limits.store(Arc::new(config.limits.clone()));
        self.server.limits_changed();
        self.quotas.reload(&config);
        self.proxy.reload(Arc::clone(&config));
        self.telemetry.reloaded(&config);
        self.config.store(config);
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Ok(Reloaded {
            warnings,
            needs_restart,
        })
    }
}

/// What only a restart can change: sockets, the way out, the neighbours, the disk.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let changed = [
        ("listen", old.listen != new.listen),
        ("egress.address", old.addresses != new.addresses),
        ("upstream", old.upstream != new.upstream),
        ("fleet.host", old.fleet.host != new.fleet.host),
        ("fleet.hosts", old.fleet.hosts != new.fleet.hosts),
        ("state.dir", old.state_dir != new.state_dir),
        ("log", old.log != new.log),
    ];
    changed
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(key, _)| key.to_owned())
        .collect()
}
