//! `notify`: mails tried, shown, held, released and dropped.

use std::process::ExitCode;

use jiff::Timestamp;
use kintone_egress::config::file::Environment;
use kintone_egress::operator::notify;

use super::arguments::{ConfigFile, NotifyVerb};
use super::asking::ask;
use super::terminal::{BAD_CONFIG, read, single_threaded, write_out};

/// Does what is asked.
pub(super) fn run(verb: NotifyVerb) -> anyhow::Result<ExitCode> {
    match verb {
        NotifyVerb::Test { file, address, .. } => {
            let Some(config) = read(&file, &Environment::from_process()) else {
                return Ok(ExitCode::from(BAD_CONFIG));
            };
            let now = Timestamp::now();
            let said = single_threaded()?.block_on(async {
                match address {
                    Some(address) => notify::test(&config, &address, now).await,
                    None => notify::test_webhook(&config, now).await,
                }
            })?;
            write_out(&said)?;
            Ok(ExitCode::SUCCESS)
        }
        NotifyVerb::Preview { file, cause } => {
            let Some(config) = read(&file, &Environment::from_process()) else {
                return Ok(ExitCode::from(BAD_CONFIG));
            };
            let text = notify::preview(&config, cause.as_deref(), Timestamp::now())?;
            anyhow::ensure!(!text.is_empty(), "nobody is told of such a cause");
            write_out(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        NotifyVerb::Held(file) => decide(&file, &notify::Wish::Held),
        NotifyVerb::Release { file, cause } => decide(&file, &notify::Wish::Release(cause)),
        NotifyVerb::Drop { file, cause } => decide(&file, &notify::Wish::Drop(cause)),
    }
}

fn decide(file: &ConfigFile, wish: &notify::Wish) -> anyhow::Result<ExitCode> {
    ask(file, async |config| notify::ask(config, wish).await)
}
