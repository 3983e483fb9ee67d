//! The program's own log, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

use crate::config::Log;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line, for collectors.
    Json,
    /// For people.
    Text,
}

/// Why the log could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// `[log] level` is not a list of filter directives.
    #[error("[log] level: {0}")]
    Level(#[from] ParseError),
    /// Another one is installed already.
    #[error("the log: {0}")]
    Installed(#[from] TryInitError),
}

/// Installs the log of the whole program.
///
/// # Errors
/// [`LoggingError`].
pub fn install(log: &Log, format: Format) -> Result<(), LoggingError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&log.level)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        Format::Json => lines.json().flatten_event(true).finish().try_init()?,
        Format::Text => lines.finish().try_init()?,
    }
    Ok(())
}

impl Format {
    /// Text where somebody watches, JSON where a collector does.
    #[must_use]
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}
