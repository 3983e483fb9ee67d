//! The published list as customers and operators meet it: a real gateway, its public listener read by
//! others' programs, and calls that leave from what is published as in use.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod command;
mod evidence;
mod list;
mod page;

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const FIRST: &str = "18.177.83.94";
const SECOND: &str = "35.73.236.241";
/// In no configuration of these tests.
const FORMER: &str = "203.0.113.9";

/// The public listener, on any free port.
const PUBLIC: &str = "public = \"127.0.0.1:0\"";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program that the tests need; without it they fail, and say how to get it.
fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is not installed; tests/setup.sh (make setup) does it"))
}

/// What a gateway remembers that published these addresses for the first time so many days ago.
fn memory(addresses: &[(&str, &str, i64)]) -> String {
    let ago = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    let remembered = addresses.iter().map(|(address, state, days)| {
        let at = ago(*days).to_string();
        json!({
            "address": address, "state": state, "since": at, "listed": at,
            "valid_from": Value::Null, "retire_after": Value::Null,
        })
    });
    let days = addresses.iter().map(|(_, _, days)| *days).min().unwrap();
    json!({
        "layout": 1,
        "changed": ago(days).to_string(),
        "addresses": remembered.collect::<Vec<_>>(),
        "changes": [],
    })
    .to_string()
}
