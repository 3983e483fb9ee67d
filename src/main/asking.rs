//! Verbs that ask the gateway which runs on this host.

use std::process::ExitCode;

use kintone_egress::config::Config;
use kintone_egress::config::file::Environment;
use kintone_egress::operator::fleet::AskError;

use super::arguments::ConfigFile;
use super::terminal::{BAD_CONFIG, REFUSED, read, say, single_threaded, write_out};

/// Asks it under the configuration of a file and prints its answer, which may be that it refuses.
pub(super) fn ask(
    file: &ConfigFile,
    asking: impl AsyncFnOnce(&Config) -> Result<String, AskError>,
) -> anyhow::Result<ExitCode> {
    let Some(config) = read(file, &Environment::from_process()) else {
        return Ok(ExitCode::from(BAD_CONFIG));
    };
    match single_threaded()?.block_on(asking(&config)) {
        Ok(answer) => {
            write_out(&answer)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ AskError::Refused(_)) => {
            say(&format!("kintone-egress: {error}"));
            Ok(ExitCode::from(REFUSED))
        }
        Err(error) => Err(error.into()),
    }
}
