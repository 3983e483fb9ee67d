//! Where a gateway comes from: its program and its configuration.

use std::path::PathBuf;

use crate::config::file::Environment;

/// This program's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the configuration came from, to read it again.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The process's surroundings.
    pub environment: Environment,
}
