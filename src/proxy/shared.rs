//! What every call uses: the rules in force, the quotas, the way out.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::allowlist::AllowlistHints;
use super::identity::{Directory, Identity};
use super::upload::Outgoing;
use crate::config::Config;
use crate::drain::Drain;
use crate::egress::Egress;
use crate::kintone::cursor::Cursors;
use crate::kintone::domain::Destination;
use crate::model::Mode;
use crate::notify::Feed;
use crate::quota::{Days, Quotas};
use crate::telemetry::Telemetry;
use crate::tls::Authority;

/// The parts of the proxy. One for the process; calls borrow it.
pub(crate) struct Shared {
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) quotas: Quotas,
    pub(crate) days: Days,
    pub(crate) egress: Arc<Egress<Outgoing>>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) drain: Drain,
    pub(crate) cursors: Arc<Cursors>,
    /// Where calls that end are told of.
    pub(crate) feed: OnceLock<Feed>,
}

/// What the configuration says, ready to be asked. Replaced whole by a reload; a call keeps the
/// one it began with.
pub(crate) struct Rules {
    pub(crate) config: Arc<Config>,
    pub(crate) directory: Directory,
    pub(crate) allowlist: AllowlistHints,
    /// Who answers for kintone in inspected connections.
    pub(crate) authority: Option<Arc<Authority>>,
}

impl Rules {
    /// The rules of `config`, which `authority` is of. What was seen of a caller under the rules
    /// `before` stays with it.
    pub(crate) fn new(
        config: Arc<Config>,
        authority: Option<Arc<Authority>>,
        before: Option<&Self>,
    ) -> Arc<Self> {
        let before = before.map(|before| &before.directory);
        let directory = Directory::new(&config.callers, before);
        let allowlist = AllowlistHints::new(&config.addresses);
        Arc::new(Self {
            config,
            directory,
            allowlist,
            authority,
        })
    }

    /// How a CONNECT of that caller is served: inspected where `[inspect]` names account and caller,
    /// the caller may be, and there is a certificate to show; else as a tunnel.
    pub(crate) fn mode_of_connect(&self, identity: &Identity, destination: &Destination) -> Mode {
        let rule = identity.caller.rule();
        let (Some(inspect), Some(authority)) = (&self.config.inspect, &self.authority) else {
            return Mode::Tunnel;
        };
        let account = destination.account.as_str();
        let mut names = inspect.callers.iter();
        let is_inspected = rule.modes.contains(&Mode::Inspect)
            && inspect
                .accounts
                .iter()
                .any(|pattern| pattern.matches(account))
            && names.any(|name| name == "*" || name == rule.name.as_str())
            && authority.covers(&destination.host);
        if is_inspected {
            Mode::Inspect
        } else {
            Mode::Tunnel
        }
    }
}
