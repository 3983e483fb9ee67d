//! The text being read: what was found in it, and how its keys and paths are spelled.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeValue;

use super::place::{Fault, Lines, Severity};

/// The text being read, and what was found in it.
pub(super) struct Source<'a> {
    file: Arc<Path>,
    lines: Lines<'a>,
    credentials_directory: Option<&'a Path>,
    faults: RefCell<Vec<Fault>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &Path, text: &'a str, credentials_directory: Option<&'a Path>) -> Self {
        Self {
            file: file.into(),
            lines: Lines::of(text),
            credentials_directory,
            faults: RefCell::default(),
        }
    }

    /// Records what is wrong at byte `offset`.
    pub(super) fn report(
        &self,
        severity: Severity,
        offset: usize,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (line, column) = self.lines.place(offset);
        self.faults.borrow_mut().push(Fault {
            file: Arc::clone(&self.file),
            line,
            column,
            key: printable(key),
            problem: printable(&problem.into()),
            remedy: remedy.into(),
            severity,
        });
    }

    /// What was found, in the order of the places.
    pub(super) fn into_faults(self) -> Vec<Fault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| (fault.line, fault.column, fault.severity));
        faults.dedup();
        faults
    }

    /// A path of the file: `$CREDENTIALS_DIRECTORY/NAME` is where systemd put the credential, and
    /// a relative path starts beside the configuration file.
    pub(super) fn resolve(&self, path: &str) -> Result<PathBuf, &'static str> {
        let Some(name) = path.strip_prefix("$CREDENTIALS_DIRECTORY/") else {
            return Ok(beside(&self.file, Path::new(path)));
        };
        let directory = self.credentials_directory;
        directory.map_or(Err("$CREDENTIALS_DIRECTORY is not set"), |directory| {
            Ok(directory.join(name))
        })
    }
}

/// `path` as seen from the directory of `file`.
pub(super) fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or_else(|| Path::new("")).join(path)
}

/// `text` in quotes, escaped, cut where it is long.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_CHARACTERS: usize = 64;
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The full key of `key` below `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

/// A key as TOML writes it.
pub(super) fn quoted(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        shown(key)
    }
}

/// Without control characters, so that a fault is one line and cannot steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// What a value is, in words.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
