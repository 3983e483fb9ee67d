//! What verbs have in common: the configuration, a runtime, what is said, exit status.

use std::io::Write as _;

use anyhow::Context as _;
use kintone_egress::config::Config;
use kintone_egress::config::file::{Environment, Loaded, load};

use super::arguments::ConfigFile;

/// Exit status of a configuration that is wrong (`EX_CONFIG` of sysexits.h).
pub(super) const BAD_CONFIG: u8 = 78;

/// Exit status of `explain` when the call would be refused, and of `doctor` with findings.
pub(super) const REFUSED: u8 = 3;

/// Reads the configuration and prints everything that is wrong with it; `None` if it cannot be used.
pub(super) fn read(file: &ConfigFile, environment: &Environment) -> Option<Config> {
    match load(&file.path, environment) {
        Ok(Loaded { config, warnings }) => {
            for warning in warnings {
                say(&warning.to_string());
            }
            Some(config)
        }
        Err(faults) => {
            for fault in &faults.0 {
                say(&fault.to_string());
            }
            None
        }
    }
}

/// A runtime for a verb that asks something and ends.
pub(super) fn single_threaded() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Prints a text.
pub(super) fn write_out(text: &str) -> anyhow::Result<()> {
    write_bytes(text.as_bytes())
}

/// Prints bytes as they are.
pub(super) fn write_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(bytes)
        .context("cannot write to standard output")
}

/// Says something to the person at the terminal; nothing is to be done if nobody can hear it.
pub(super) fn say(line: &str) {
    if line.is_empty() {
        return;
    }
    let _ = writeln!(std::io::stderr(), "{line}");
}
