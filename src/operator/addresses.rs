//! `addresses`: the published list, as the public listener shows it.

use std::io;
use std::path::Path;

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
    pub warnings: Vec<String>,
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

    /// The list in one form.
    #[must_use]
    pub fn text(&self, format: Format) -> &[u8] {
        let name = match format {
            Format::Json => JSON,
            Format::Text => TEXT,
            Format::Csv => CSV,
        };
        let document = self.site.document(name);
        document.map_or(&[], |document| &document.bytes)
    }

    /// Writes every file of the public listener into `dir`, each whole or not at all, and makes the
    /// directory if there is none. Names the files.
    ///
    /// # Errors
    /// The kernel's; files before the one that failed are written.
    pub fn write(&self, dir: &Path) -> io::Result<Vec<&'static str>> {
        write_all(dir, &self.site.documents)?;
        let documents = self.site.documents.iter();
        Ok(documents.map(|document| document.name).collect())
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
