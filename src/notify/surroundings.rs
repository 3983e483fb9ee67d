//! What the desk asks of the rest of the gateway.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;

use super::announce::Planned;
use crate::config::Config;
use crate::model::{Account, Published};

/// What the desk asks of the rest of the gateway. Answers come at once: nothing here waits.
pub trait Surroundings: Send + Sync + 'static {
    /// The configuration in force.
    fn config(&self) -> Arc<Config>;

    /// How many accounts are in use on this host.
    fn active_accounts(&self) -> usize;

    /// Whether a published address is usable here and not seen to be wrong by anybody outside.
    fn is_sound(&self, address: Published) -> bool;

    /// Whether this host is the one of its fleet that tells people; a host alone is.
    fn leads(&self) -> bool;

    /// Room for what this host tells the others, in bytes; 0 for a host alone.
    fn word_bytes_max(&self) -> usize;

    /// The addresses on the list that will be used.
    fn planned(&self) -> Vec<Planned>;

    /// Whether an account is seen to accept an address.
    fn is_accepted(&self, account: &Account, address: Published) -> bool;

    /// The published addresses that are in use.
    fn addresses(&self) -> Vec<Published>;

    /// TLS to servers of the operator's own, with the anchors of `ca_file` (PEM) besides the system's. It
    /// alone blocks on the disk.
    ///
    /// # Errors
    /// What is wrong with the anchors.
    fn connector(&self, ca_file: Option<&Path>) -> Result<TlsConnector, String>;
}
