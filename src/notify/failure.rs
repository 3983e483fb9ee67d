//! Why a message did not go, by either way.

use std::time::Duration;

/// Why a message did not go.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The server cannot be reached, spoken to or logged in to: no message goes.
    #[error("{0}")]
    Server(String),
    /// It asks to be left alone for a time: no message goes until then.
    #[error("{said}, and asks to wait {wait:?}")]
    Busy {
        /// What it said.
        said: String,
        /// `Retry-After`.
        wait: Duration,
    },
    /// It does not take this message now.
    #[error("{0}")]
    Later(String),
    /// It refuses this message, which may be its own fault or that of the configuration.
    #[error("{0}")]
    Refused(String),
    /// It never takes this message.
    #[error("{0}")]
    Never(String),
}
