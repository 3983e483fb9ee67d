//! Typed readers of the file: each takes what it understands and reports the rest with its place.
//!
//! A [`Section`] remembers which keys were asked for; those that nobody asked for are unknown. A
//! reader that reports a fault returns `None` and its caller goes on with the default, so that
//! every fault of a file is found in one pass; the file is refused at the end.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::place::Severity;
use super::source::{Source, join, kind, quoted, shown};
use super::suggest::nearest;
use super::unit;

/// A table, or the place where one could stand.
pub(super) struct Section<'a> {
    pub(super) source: &'a Source<'a>,
    key: String,
    span: Range<usize>,
    table: Option<&'a DeTable<'a>>,
    known: Vec<&'static str>,
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            key: String::new(),
            span: 0..0,
            table: Some(table),
            known: Vec::new(),
        }
    }

    /// Whether the file has this table.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key`, if it is set.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get_key_value(key).map(|(_, value)| Value {
            source: self.source,
            key: join(&self.key, key),
            span: value.span(),
            value: value.get_ref(),
        })
    }

    /// The value of `key`; a fault of the table if it is not set.
    pub(super) fn required(&mut self, key: &'static str, remedy: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.fault(key, "is missing", remedy);
        }
        value
    }

    /// What `read` makes of the value of `key`, or `default`.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> T {
        self.get(key)
            .and_then(|value| read(&value))
            .unwrap_or(default)
    }

    /// The table `key` below this one; an empty one if it is not set or not a table.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let value = self.get(key);
        value
            .and_then(|value| value.table())
            .unwrap_or_else(|| Self {
                source: self.source,
                key: join(&self.key, key),
                span: self.span.clone(),
                table: None,
                known: Vec::new(),
            })
    }

    /// Every entry of a table whose keys are the operator's own words, with the place of the key.
    pub(super) fn entries(&self) -> Vec<(&'a str, Key<'a>, Value<'a>)> {
        let entries = self.table.into_iter().flatten();
        entries
            .map(|(name, value)| {
                let key = join(&self.key, &quoted(name.get_ref()));
                let place = Key {
                    source: self.source,
                    key: key.clone(),
                    span: name.span(),
                };
                let value = Value {
                    source: self.source,
                    key,
                    span: value.span(),
                    value: value.get_ref(),
                };
                (name.get_ref().as_ref(), place, value)
            })
            .collect()
    }

    /// Reports a fault at the value of `key`, or at the table if it is not set.
    pub(super) fn fault(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.report(Severity::Error, key, problem, remedy);
    }

    /// Reports a warning at the value of `key`, or at the table if it is not set.
    pub(super) fn warn(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.report(Severity::Warning, key, problem, remedy);
    }

    fn report(
        &self,
        severity: Severity,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let value = self.table.and_then(|table| table.get(key));
        let offset = value.map_or(self.span.start, |value| value.span().start);
        self.source
            .report(severity, offset, &join(&self.key, key), problem, remedy);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (name, value) in self.table.into_iter().flatten() {
            let name_text = name.get_ref().as_ref();
            if self.known.contains(&name_text) {
                continue;
            }
            let remedy = match nearest(name_text, &self.known) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("allowed: {}", self.known.join(", ")),
            };
            let offset = if name.span().is_empty() {
                value.span().start
            } else {
                name.span().start
            };
            let key = join(&self.key, &quoted(name_text));
            self.source
                .report(Severity::Error, offset, &key, "unknown key", remedy);
        }
    }
}

/// The place of a key that is the operator's own word.
pub(super) struct Key<'a> {
    source: &'a Source<'a>,
    key: String,
    span: Range<usize>,
}

impl Key<'_> {
    pub(super) fn fault(&self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.source
            .report(Severity::Error, self.span.start, &self.key, problem, remedy);
    }

    pub(super) fn warn(&self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.source.report(
            Severity::Warning,
            self.span.start,
            &self.key,
            problem,
            remedy,
        );
    }
}

impl<'a> Value<'a> {
    /// Reports a fault here; the `None` ends a reader.
    pub(super) fn fault<T>(
        &self,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        self.source
            .report(Severity::Error, self.span.start, &self.key, problem, remedy);
        None
    }

    /// Reports a warning here.
    pub(super) fn warn(&self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.source.report(
            Severity::Warning,
            self.span.start,
            &self.key,
            problem,
            remedy,
        );
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.fault(
            format!("is {}", kind(self.value)),
            format!("expected {expected}"),
        )
    }

    /// The value as the parser gave it, for the few that have several forms.
    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.value
    }

    /// A string; `expected` says which.
    pub(super) fn text(&self, expected: &str) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.wrong_type(expected))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        self.value
            .as_bool()
            .or_else(|| self.wrong_type("true or false"))
    }

    /// A whole number within `range`.
    pub(super) fn integer<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>) -> Option<T> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = self.value.as_integer() else {
            return self.wrong_type(&allowed);
        };
        let value = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let value = value.filter(|value| range.contains(value));
        match value.and_then(|value| T::try_from(value).ok()) {
            Some(value) => Some(value),
            None => self.fault(format!("is {integer}"), format!("allowed is {allowed}")),
        }
    }

    /// A number of at least 0 and at most `max`.
    pub(super) fn number(&self, max: f64) -> Option<f64> {
        let allowed = format!("a number from 0 to {max}");
        let (value, shown) = match self.value {
            DeValue::Integer(integer) => {
                let value = i64::from_str_radix(integer.as_str(), integer.radix());
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "allowed values are far below 2^53"
                )]
                (value.ok().map(|value| value as f64), integer.to_string())
            }
            DeValue::Float(float) => (float.as_str().parse().ok(), float.to_string()),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => return self.wrong_type(&allowed),
        };
        match value.filter(|value| (0.0..=max).contains(value)) {
            Some(value) => Some(value),
            None => self.fault(format!("is {shown}"), format!("allowed is {allowed}")),
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let [min, max] = [range.start(), range.end()].map(|bound| unit::format_duration(*bound));
        let allowed =
            format!("a duration from \"{min}\" to \"{max}\", such as \"250ms\" or \"1m30s\"");
        let text = self.text(&allowed)?;
        let duration = unit::parse_duration(text);
        match duration.filter(|duration| range.contains(duration)) {
            Some(duration) => Some(duration),
            None => self.fault(
                format!("is {}", shown(text)),
                format!("allowed is {allowed}"),
            ),
        }
    }

    /// A size within `range`, in bytes.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<usize> {
        let [min, max] = [range.start(), range.end()].map(|bound| unit::format_size(*bound));
        let allowed =
            format!("a size from \"{min}\" to \"{max}\", such as \"64KiB\", or bytes as a number");
        let (bytes, written) = match self.value {
            DeValue::Integer(integer) => {
                let bytes = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
                (bytes, integer.to_string())
            }
            DeValue::String(text) => (unit::parse_size(text), shown(text)),
            DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => return self.wrong_type(&allowed),
        };
        let bytes = bytes.filter(|bytes| range.contains(bytes));
        match bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) => Some(bytes),
            None => self.fault(format!("is {written}"), format!("allowed is {allowed}")),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let names: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        let allowed = names
            .iter()
            .map(|name| format!("{name:?}"))
            .collect::<Vec<_>>()
            .join(" or ");
        let text = self.text(&allowed)?;
        match words.iter().find(|(name, _)| *name == text) {
            Some((_, meaning)) => Some(*meaning),
            None => self.fault(
                format!("is {}", shown(text)),
                format!("allowed is {allowed}"),
            ),
        }
    }

    /// The entries of a list; `expected` says of what.
    pub(super) fn list(&self, expected: &str) -> Option<Vec<Self>> {
        let Some(array) = self.value.as_array() else {
            return self.wrong_type(&format!("a list of {expected}"));
        };
        let entries = array.iter().enumerate().map(|(index, entry)| Self {
            source: self.source,
            key: format!("{}[{index}]", self.key),
            span: entry.span(),
            value: entry.get_ref(),
        });
        Some(entries.collect())
    }

    /// What `read` makes of each entry of a list; entries with a fault are left out.
    pub(super) fn list_of<T>(
        &self,
        expected: &str,
        read: impl FnMut(&Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        Some(self.list(expected)?.iter().filter_map(read).collect())
    }

    /// A table.
    pub(super) fn table(&self) -> Option<Section<'a>> {
        let table = self
            .value
            .as_table()
            .or_else(|| self.wrong_type("a table"))?;
        Some(Section {
            source: self.source,
            key: self.key.clone(),
            span: self.span.clone(),
            table: Some(table),
            known: Vec::new(),
        })
    }

    /// A path to a file, made absolute by the place of the configuration.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text("a path")?;
        if text.is_empty() {
            return self.fault("is empty", "expected a path");
        }
        let resolved = self.source.resolve(text);
        resolved.map_or_else(
            |problem| {
                self.fault(
                    problem,
                    "run under systemd with LoadCredential=, or give the whole path",
                )
            },
            Some,
        )
    }
}
