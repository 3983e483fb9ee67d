//! What every call uses: the rules in force, the quotas, the way out.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::allowlist::AllowlistHints;
use super::identity::Directory;
use super::upload::Outgoing;
use crate::config::Config;
use crate::drain::Drain;
use crate::egress::Egress;
use crate::kintone::cursor::Cursors;
use crate::quota::{Days, Quotas};
use crate::telemetry::Telemetry;

/// The parts of the proxy. One for the process; calls borrow it.
pub(crate) struct Shared {
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) quotas: Quotas,
    pub(crate) days: Days,
    pub(crate) egress: Arc<Egress<Outgoing>>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) drain: Drain,
    pub(crate) cursors: Arc<Cursors>,
}

/// What the configuration says, ready to be asked. Replaced whole by a reload; a call keeps the
/// one it began with.
pub(crate) struct Rules {
    pub(crate) config: Arc<Config>,
    pub(crate) directory: Directory,
    pub(crate) allowlist: AllowlistHints,
}

impl Rules {
    /// The rules of `config`. What was seen of a caller under the rules `before` stays with it.
    pub(crate) fn new(config: Arc<Config>, before: Option<&Self>) -> Arc<Self> {
        let before = before.map(|before| &before.directory);
        let directory = Directory::new(&config.callers, before);
        let allowlist = AllowlistHints::new(&config.addresses);
        Arc::new(Self {
            config,
            directory,
            allowlist,
        })
    }
}
