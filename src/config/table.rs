//! TOML tables, put together.

use std::time::Duration;

use toml::{Table, Value};

use super::unit::format_duration;

pub(super) fn strings<T: ToString>(values: &[T]) -> Value {
    values
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .into()
}

pub(super) fn duration(duration: Duration) -> Value {
    format_duration(duration).into()
}

pub(super) fn count(count: usize) -> Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

pub(super) fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

pub(super) fn set(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.insert(key.to_owned(), value.into());
}

pub(super) fn set_some(table: &mut Table, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        set(table, key, value);
    }
}
