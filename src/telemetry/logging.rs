//! The program's own log, on standard error.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload::Handle;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

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
    let level = filter(log)?;
    let lines = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        Format::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.with_env_filter(level).with_filter_reloading();
            follow(lines.reload_handle());
            lines.finish().try_init()?;
        }
        Format::Text => {
            let lines = lines.with_env_filter(level).with_filter_reloading();
            follow(lines.reload_handle());
            lines.finish().try_init()?;
        }
    }
    Ok(())
}

/// Sets the level that `log` says from here on; without an installed log there is nothing to set.
///
/// # Errors
/// [`LoggingError::Level`]; the old level stays.
pub fn set_level(log: &Log) -> Result<(), LoggingError> {
    let level = filter(log)?;
    if let Some(set) = SET_LEVEL.get() {
        set(level);
    }
    Ok(())
}

/// What is logged. At its lower levels rustls writes down hellos whole, names asked for among them.
fn filter(log: &Log) -> Result<EnvFilter, ParseError> {
    Ok(EnvFilter::try_new(&log.level)?.add_directive("rustls=warn".parse()?))
}

/// Sets the level of the one log that a program has.
type SetLevel = Box<dyn Fn(EnvFilter) + Send + Sync>;

static SET_LEVEL: OnceLock<SetLevel> = OnceLock::new();

fn follow<S: 'static>(handle: Handle<EnvFilter, S>) {
    // It fails only when the log is gone, and then nothing is logged at any level.
    let set: SetLevel = Box::new(move |level| drop(handle.reload(level)));
    let _ = SET_LEVEL.set(set);
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
