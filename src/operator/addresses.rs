//! `addresses`: the published list, as the public listener shows it.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::Config;
use crate::published::documents::{CSV, JSON, TEXT};
use crate::published::{Site, current, write_all};

/// A form of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `egress-ips.json`.
    Json,
    /// One CIDR a line.
    Text,
    /// What cybozu.com imports, in Shift-JIS.
    Csv,
}

/// The list that a configuration publishes, rendered.
#[derive(Debug)]
pub struct Addresses {
    site: Site,
    /// Where the list is not what the configuration says, one sentence each.
    warnings: Vec<String>,
}

/// What the person at the terminal is told.
#[derive(Debug, Default)]
pub struct Told {
    /// Lines about it.
    pub said: Vec<String>,
    /// The list itself.
    pub printed: Vec<u8>,
}

/// The files cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write into {}: {source}", dir.display())]
pub struct WriteError {
    dir: PathBuf,
    source: io::Error,
}

impl Addresses {
    /// Renders the list as of `now`, with what the state directory of this host remembers of the one
    /// published last. Nothing is written there.
    #[must_use]
    pub fn new(config: &Config, now: Timestamp) -> Self {
        let (list, alarms) = current(config, now);
        Self {
            // The files of one list are the same, whenever they are written.
            site: Site::render(&list, &config.public, list.changed),
            warnings: alarms.iter().map(ToString::to_string).collect(),
        }
    }

    /// Writes every file of the public listener into `dir`, if one is given, each whole or not at all;
    /// prints the list in one form, if that is asked for or there is no `dir`.
    ///
    /// # Errors
    /// [`WriteError`]; files before the one that failed are written.
    pub fn tell(self, format: Option<Format>, dir: Option<&Path>) -> Result<Told, WriteError> {
        let warnings = self.warnings.iter();
        let mut told = Told {
            said: warnings
                .map(|warning| format!("warning: {warning}"))
                .collect(),
            printed: Vec::new(),
        };
        if let Some(dir) = dir {
            write_all(dir, &self.site.documents).map_err(|source| WriteError {
                dir: dir.to_owned(),
                source,
            })?;
            let names: Vec<_> = self.site.documents.iter().map(|one| one.name).collect();
            told.said
                .push(format!("{}: {}", dir.display(), names.join(", ")));
        }
        if dir.is_none() || format.is_some() {
            told.printed = self.text(format.unwrap_or(Format::Text)).to_vec();
        }
        Ok(told)
    }

    fn text(&self, format: Format) -> &[u8] {
        let name = match format {
            Format::Json => JSON,
            Format::Text => TEXT,
            Format::Csv => CSV,
        };
        let document = self.site.document(name);
        document.map_or(&[], |document| &document.bytes)
    }
}

impl Format {
    /// The form of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}
