//! What connections are served under.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::guard::Hooks;
use crate::config::Limits;
use crate::drain::Drain;

/// The limits, the drain and the hooks of one server.
#[derive(Debug)]
pub(super) struct Terms {
    /// A reload replaces them: connections that begin from then on are held to the new ones.
    pub(super) limits: Arc<ArcSwap<Limits>>,
    pub(super) drain: Drain,
    pub(super) hooks: Hooks,
}
