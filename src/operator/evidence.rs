//! `evidence`: what this host recorded of an account's connections on a day, and what the others told.

use std::io;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::config::Config;
use crate::kintone::domain;
use crate::published::evidence::{
    FleetStatement, Known, Reader, Statement, Voice, read_day, read_peer_day,
};

/// Why nothing can be stated.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It is no account.
    #[error("{0:?} is no account: expected a domain such as acme.cybozu.com, of [upstream] zones")]
    Account(String),
    /// The record cannot be read.
    #[error("the record of {day} in [state] dir cannot be read: {source}")]
    Record {
        /// The day.
        day: Date,
        /// Why.
        source: io::Error,
    },
}

/// How a statement is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// As the API gives it.
    Json,
}

/// The statement about `domain` on `day`, from the files of the state directory.
///
/// # Errors
/// [`EvidenceError`].
pub fn print(
    config: &Config,
    domain: &str,
    day: Date,
    form: Form,
    now: Timestamp,
) -> Result<String, EvidenceError> {
    let statement = state(config, domain, day, now)?;
    Ok(match form {
        Form::Text => statement.to_string(),
        Form::Json => serde_json::to_string_pretty(&statement).unwrap_or_default() + "\n",
    })
}

fn state(
    config: &Config,
    domain: &str,
    day: Date,
    now: Timestamp,
) -> Result<FleetStatement, EvidenceError> {
    let judged = domain::judge(domain, &config.upstream.zones);
    let account = judged.map_err(|_| EvidenceError::Account(domain.to_owned()))?;
    let account = account.account;
    let recorded = read_day(&config.state_dir, day);
    let recorded = recorded.map_err(|source| EvidenceError::Record { day, source })?;
    let host = &config.fleet.host;
    let account = account.as_str();
    let own = Statement::new(account, day, recorded.as_ref(), host, now, Reader::Files);
    let mut told = Vec::new();
    for other in config.fleet.hosts.iter().filter(|other| *other != host) {
        let of_day = read_peer_day(&config.state_dir, other, day);
        told.push((
            other,
            of_day.map_err(|source| EvidenceError::Record { day, source })?,
        ));
    }
    let others = told.iter().map(|(host, told)| Known {
        host,
        told: told.as_ref(),
        voice: Voice::Silent,
    });
    Ok(FleetStatement::new(own, day, others, now))
}
