//! Where a fault of the configuration is, what is wrong there, and what is allowed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One thing that is wrong, or that the operator should know.
///
/// Printed as `FILE:LINE:COL: KEY: what is wrong, what is allowed`; a warning says so after the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// The full key, such as `caller[0].token_sha256`; list entries are counted from 0.
    pub key: String,
    /// What is wrong. Never holds a secret.
    pub problem: String,
    /// What is allowed, or what to do.
    pub remedy: String,
    /// Whether it can be lived with.
    pub severity: Severity,
}

/// Whether a fault can be lived with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// It is said, and the file is taken.
    Warning,
}

/// Everything found in one file, warnings too, in the order of the places; at least one is an
/// error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

/// The beginnings of a text's lines: turns byte offsets into lines and columns.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(after_breaks).collect();
        Self { text, starts }
    }

    /// The line and column, both from 1, of the character at or before byte `offset`.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text[start..offset].trim_start_matches('\u{feff}');
        (line, before.chars().count() + 1)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line, column, key, ..
        } = self;
        write!(f, "{}:{line}:{column}: {key}: ", self.file.display())?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        write!(f, "{}, {}", self.problem, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let lines = Lines::of("\u{feff}a = 1\r\n企業 = 2\n");
        assert_eq!(lines.place(0), (1, 1));
        assert_eq!(lines.place(3), (1, 1));
        assert_eq!(lines.place(7), (1, 5));
        let second = "\u{feff}a = 1\r\n".len();
        assert_eq!(lines.place(second), (2, 1));
        assert_eq!(lines.place(second + "企業".len()), (2, 3));
        assert_eq!(lines.place(usize::MAX), (3, 1), "past the end is the end");
    }
}
