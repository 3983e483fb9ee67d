//! What the desk asks of the rest of the gateway.

use std::sync::Arc;

use crate::config::Config;
use crate::model::Published;

/// What the desk asks of the rest of the gateway. Answers come at once: nothing here waits.
pub trait Surroundings: Send + Sync + 'static {
    /// The configuration in force.
    fn config(&self) -> Arc<Config>;

    /// How many accounts are in use on this host.
    fn active_accounts(&self) -> usize;

    /// Whether a published address is usable here and not seen to be wrong by anybody outside.
    fn is_sound(&self, address: Published) -> bool;

    /// The published addresses that are in use.
    fn addresses(&self) -> Vec<Published>;
}
