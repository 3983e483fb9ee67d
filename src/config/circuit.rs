//! `[circuit]` and `[[maintenance]]`: when kintone is taken to serve an account no more.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use toml::de::DeValue;
use toml::{Table, Value};

use crate::model::Account;

use super::grant::NamePattern;
use super::name;
use super::read;
use super::read::Section;
use super::source::shown;
use super::token::sha256_hex;
use super::unit;

/// When calls to an account stop before kintone, and what lets them go again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Circuit {
    /// `[circuit]`.
    pub settings: CircuitSettings,
    /// `[[maintenance]]`, in the order of the file.
    pub windows: Vec<MaintenanceWindow>,
    /// SHA-256 of each `[account."DOMAIN"]` as it is written, comments and order aside: a change
    /// confirms an account that was closed because kintone did not know it.
    pub tables: BTreeMap<Account, String>,
}

/// `[circuit]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitSettings {
    /// So many answers of maintenance in a row open an account's circuit; 0 is never.
    pub maintenance_after: u32,
    /// They must be spread over at least this.
    pub maintenance_over: Duration,
    /// The first pause before a call is let through to see; it doubles with every one in vain.
    pub probe: Duration,
    /// The longest such pause.
    pub probe_max: Duration,
    /// So many answers in a row that the domain does not exist close it; 0 is never.
    pub unknown_after: u32,
    /// They must be spread over at least this.
    pub unknown_over: Duration,
    /// No more accounts than this are closed within an hour: where kintone knows many no more, it is
    /// kintone that errs.
    pub unknown_per_hour: u32,
}

/// One `[[maintenance]]`: announced, and nothing is sent in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, no longer part of it.
    pub to: Timestamp,
    /// The accounts below these zones.
    pub zones: Vec<String>,
    /// Of them only these.
    pub accounts: Vec<NamePattern>,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Most answers that may have to come in a row.
const ANSWERS_MAX: u64 = 1000;

/// Longer windows are taken for a slip of the pen, in hours.
const WINDOW_HOURS_MAX: i64 = 72;

impl MaintenanceWindow {
    /// Whether calls to `account` stop at `now`.
    #[must_use]
    pub fn holds(&self, account: &Account, now: Timestamp) -> bool {
        let account = account.as_str();
        let is_below = |zone: &String| {
            let rest = account.strip_suffix(zone.as_str());
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        (self.from..self.to).contains(&now)
            && self.zones.iter().any(is_below)
            && self.accounts.iter().any(|known| known.matches(account))
    }

    /// As it is printed back.
    pub(super) fn shown(&self) -> Value {
        let accounts: Vec<_> = self.accounts.iter().map(ToString::to_string).collect();
        let keys = [
            ("from", self.from.to_string().into()),
            ("to", self.to.to_string().into()),
            ("zones", self.zones.clone().into()),
            ("accounts", accounts.into()),
        ];
        let keys = keys.map(|(key, value)| (key.to_owned(), value));
        Table::from_iter(keys).into()
    }
}

impl Circuit {
    /// When the announced maintenance ends that stops calls to `account` at `now`; windows that follow
    /// on one another are one.
    #[must_use]
    pub fn planned_end(&self, account: &Account, now: Timestamp) -> Option<Timestamp> {
        let mut end = None;
        while let Some(later) = self
            .windows
            .iter()
            .filter(|window| window.holds(account, end.unwrap_or(now)))
            .map(|window| window.to)
            .max()
        {
            end = Some(later);
        }
        end
    }
}

impl CircuitSettings {
    /// As it is printed back.
    pub(super) fn shown(&self) -> Table {
        let time = |span| Value::from(unit::format_duration(span));
        let keys = [
            ("maintenance_after", self.maintenance_after.into()),
            ("maintenance_over", time(self.maintenance_over)),
            ("probe", time(self.probe)),
            ("probe_max", time(self.probe_max)),
            ("unknown_after", self.unknown_after.into()),
            ("unknown_over", time(self.unknown_over)),
            ("unknown_per_hour", self.unknown_per_hour.into()),
        ];
        keys.map(|(key, value)| (key.to_owned(), value))
            .into_iter()
            .collect()
    }
}

impl Default for CircuitSettings {
    fn default() -> Self {
        Self {
            maintenance_after: 3,
            maintenance_over: SECOND,
            probe: SECOND,
            probe_max: 30 * SECOND,
            unknown_after: 10,
            unknown_over: 60 * SECOND,
            unknown_per_hour: 5,
        }
    }
}

/// Reads `[circuit]`, `[[maintenance]]` and how the accounts' tables are written.
pub(super) fn read(root: &mut Section<'_>, zones: &[String]) -> Circuit {
    let settings = settings(root);
    let mut windows = Vec::new();
    let entries = root.get("maintenance");
    for entry in entries
        .and_then(|value| value.list("tables"))
        .into_iter()
        .flatten()
    {
        let Some(window) = entry.table().and_then(|section| window(section, zones)) else {
            continue;
        };
        if windows.iter().any(|earlier| overlap(earlier, &window)) {
            entry.warn(
                "overlaps an earlier window of the same zone",
                "nothing is sent in either; expected one for both",
            );
        }
        windows.push(window);
    }
    let tables = root.section("account").entries().into_iter();
    let tables = tables.map(|(domain, _, value)| {
        let mut text = String::new();
        write_down(value.raw(), &mut text);
        (Account::from_normal(domain), sha256_hex(text.as_bytes()))
    });
    Circuit {
        settings,
        windows,
        tables: tables.collect(),
    }
}

fn settings(root: &mut Section<'_>) -> CircuitSettings {
    let mut section = root.section("circuit");
    let default = CircuitSettings::default();
    let answers = |value: &read::Value<'_>| value.integer(0..=ANSWERS_MAX);
    let pause = |value: &read::Value<'_>| value.duration(Duration::from_millis(100)..=HOUR);
    let spread = |value: &read::Value<'_>| value.duration(Duration::ZERO..=24 * HOUR);
    let mut settings = CircuitSettings {
        maintenance_after: section.or("maintenance_after", default.maintenance_after, answers),
        maintenance_over: section.or("maintenance_over", default.maintenance_over, spread),
        probe: section.or("probe", default.probe, pause),
        probe_max: section.or("probe_max", default.probe_max, pause),
        unknown_after: section.or("unknown_after", default.unknown_after, answers),
        unknown_over: section.or("unknown_over", default.unknown_over, spread),
        unknown_per_hour: section.or("unknown_per_hour", default.unknown_per_hour, |value| {
            value.integer(1..=1000)
        }),
    };
    if settings.probe_max < settings.probe {
        section.warn(
            "probe_max",
            "is shorter than `probe`",
            "`probe` is used; expected at least as long",
        );
        settings.probe_max = settings.probe;
    }
    section.finish();
    settings
}

fn window(mut section: Section<'_>, zones: &[String]) -> Option<MaintenanceWindow> {
    const REMEDY: &str = "expected such as 2026-12-13T01:00:00+09:00";
    let from = section.required("from", REMEDY);
    let from = from.and_then(|value| instant(&value));
    let to = section.required("to", REMEDY);
    let to = to.and_then(|value| instant(&value));
    let below = section.or("zones", zones.to_vec(), |value| {
        value.list_of("zones", |entry| known_zone(entry, zones))
    });
    let accounts = section.or("accounts", vec![NamePattern::Any], |value| {
        value.list_of("patterns of accounts", |entry| name::accounts(entry, zones))
    });
    for (key, is_empty) in [
        ("zones", below.is_empty()),
        ("accounts", accounts.is_empty()),
    ] {
        if is_empty {
            section.fault(key, "names none", "expected one, or leave it out for all");
        }
    }
    if let (Some(from), Some(to)) = (from, to) {
        let hours = (to - from).get_seconds() / 3600;
        if from >= to {
            section.fault("to", "is not later than `from`", "expected the end");
        } else if to <= Timestamp::now() {
            section.warn("to", "has passed", "the window can be left out");
        } else if hours >= WINDOW_HOURS_MAX {
            section.warn(
                "to",
                format!("is {hours} h after `from`, and nothing is sent until then"),
                "expected the hours that Cybozu announced",
            );
        }
    }
    section.finish();
    Some(MaintenanceWindow {
        from: from?,
        to: to?,
        zones: below,
        accounts,
    })
}

fn overlap(one: &MaintenanceWindow, other: &MaintenanceWindow) -> bool {
    let shares_zone = one.zones.iter().any(|zone| other.zones.contains(zone));
    let shares_accounts = one.accounts == other.accounts;
    shares_zone && shares_accounts && one.from < other.to && other.from < one.to
}

fn known_zone(value: &read::Value<'_>, zones: &[String]) -> Option<String> {
    let text = value.text("a zone")?;
    if zones.iter().any(|zone| zone == text) {
        return Some(text.to_owned());
    }
    value.fault(
        format!("is {}, which is not one of the zones", shown(text)),
        format!("expected of {}", zones.join(", ")),
    )
}

/// A point in time with its offset, bare or in quotes: Cybozu announces in Japan's time, and hosts
/// may run in another.
fn instant(value: &read::Value<'_>) -> Option<Timestamp> {
    const INSTANT: &str = "a time with its offset such as 2026-12-13T01:00:00+09:00";
    let text = match value.raw().as_datetime() {
        Some(datetime) => datetime.to_string(),
        None => value.text(INSTANT)?.to_owned(),
    };
    text.parse().ok().map_or_else(
        || {
            value.fault(
                format!("is {}", shown(&text)),
                format!("expected {INSTANT}"),
            )
        },
        Some,
    )
}

/// Writes a value down in one form, whatever the layout of the file.
fn write_down(value: &DeValue<'_>, to: &mut String) {
    // Writing to a string does not fail.
    let _ = match value {
        DeValue::String(text) => write!(to, "{text:?}"),
        DeValue::Integer(number) => write!(to, "{number}"),
        DeValue::Float(number) => write!(to, "{number}"),
        DeValue::Boolean(flag) => write!(to, "{flag}"),
        DeValue::Datetime(time) => write!(to, "{time}"),
        DeValue::Array(entries) => {
            to.push('[');
            for entry in entries {
                write_down(entry.get_ref(), to);
                to.push(',');
            }
            write!(to, "]")
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by(|(one, _), (other, _)| one.get_ref().cmp(other.get_ref()));
            to.push('{');
            for (key, entry) in entries {
                let _ = write!(to, "{:?}=", key.get_ref());
                write_down(entry.get_ref(), to);
                to.push(',');
            }
            write!(to, "}}")
        }
    };
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::{Environment, Loaded, parse};
    use super::*;

    fn loaded(tables: &str) -> Result<Loaded, super::super::place::Faults> {
        let text = format!(
            "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n{tables}"
        );
        parse(&text, Path::new("gw.toml"), &Environment::default())
    }

    fn circuit(tables: &str) -> Circuit {
        let loaded = loaded(tables).unwrap_or_else(|faults| panic!("{faults}"));
        loaded.config.circuit
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_holds_its_accounts_from_its_beginning_until_before_its_end() {
        let circuit = circuit(
            "[[maintenance]]\nfrom = 2099-12-13T01:00:00+09:00\nto = \"2099-12-13T07:00:00+09:00\"\n\
             zones = [\"cybozu.com\"]\naccounts = [\"acme.cybozu.com\", \"*.kintone.com\"]\n\
             [[maintenance]]\nfrom = 2099-12-13T07:00:00+09:00\nto = 2099-12-13T08:00:00+09:00\n",
        );
        let end = |domain, now| circuit.planned_end(&Account::from_normal(domain), at(now));
        let last = Some(at("2099-12-12T23:00:00Z"));
        assert_eq!(end("acme.cybozu.com", "2099-12-12T15:59:59Z"), None);
        assert_eq!(end("acme.cybozu.com", "2099-12-12T16:00:00Z"), last);
        assert_eq!(end("acme.cybozu.com", "2099-12-12T22:59:59Z"), last);
        assert_eq!(end("acme.cybozu.com", "2099-12-12T23:00:00Z"), None);
        for other in ["other.cybozu.com", "acme.kintone.com"] {
            assert_eq!(end(other, "2099-12-12T16:00:00Z"), None, "{other}");
            assert_eq!(end(other, "2099-12-12T22:30:00Z"), last, "{other}");
        }
    }

    #[test]
    fn windows_that_cannot_be_meant_are_faults_and_old_ones_warnings() {
        for (tables, said) in [
            (
                "from = 2099-12-13T01:00:00\nto = 2099-12-13T07:00:00+09:00",
                "maintenance[0].from: is",
            ),
            (
                "from = 2099-12-13T01:00:00Z",
                "maintenance[0].to: is missing",
            ),
            (
                "from = 2099-12-13T01:00:00Z\nto = 2099-12-13T01:00:00Z",
                "is not later than",
            ),
            (
                "from = 2099-12-13T01:00:00Z\nto = 2099-12-13T02:00:00Z\nzones = [\"x.jp\"]",
                "not one of",
            ),
            (
                "from = 2099-12-13T01:00:00Z\nto = 2099-12-13T02:00:00Z\nzones = []",
                "names none",
            ),
        ] {
            let faults = loaded(&format!("[[maintenance]]\n{tables}\n")).unwrap_err();
            assert!(faults.to_string().contains(said), "{faults}");
        }
        let old = "[[maintenance]]\nfrom = 2019-12-13T01:00:00Z\nto = 2019-12-13T02:00:00Z\n";
        let warnings = loaded(old).unwrap().warnings;
        assert!(
            warnings[0].to_string().contains("has passed"),
            "{}",
            warnings[0]
        );
        let window = "[[maintenance]]\nfrom = 2099-12-13T01:00:00Z\nto = 2099-12-13T02:00:00Z\n";
        let warnings = loaded(&window.repeat(2)).unwrap().warnings;
        assert!(
            warnings[0]
                .to_string()
                .contains("maintenance[1]: warning: overlaps")
        );
        let long = "[[maintenance]]\nfrom = 2099-12-13T01:00:00Z\nto = 2100-01-13T02:00:00Z\n";
        let warnings = loaded(long).unwrap().warnings;
        assert!(warnings[0].to_string().contains("745 h"), "{}", warnings[0]);
    }

    #[test]
    fn a_table_is_the_same_until_it_says_something_else() {
        let table = |lines: &str| {
            let circuit = circuit(&format!("[account.\"acme.cybozu.com\"]\n{lines}"));
            circuit.tables.into_values().next().unwrap()
        };
        let first = table("queue = 9\nmax_wait = \"1s\"\n");
        assert_eq!(
            first,
            table("# Since May.\nmax_wait = \"1s\"\nqueue = 9\n[quota]\nrate = 3\n")
        );
        assert_ne!(first, table("queue = 9\nmax_wait = \"2s\"\n"));
        assert_ne!(first, table(""));
    }
}
