//! `[acceptance]`: what is kept of which accounts take which published address, and who is asked.

use std::time::Duration;

use toml::{Table, Value};

use crate::model::Account;

use super::read::{self, Section};
use super::shape::Config;
use super::unit::format_duration;

/// `[acceptance]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// For how many accounts; of more, those that nobody has heard of for longest are forgotten.
    pub accounts: usize,
    /// Whether accounts are asked that do not say so themselves.
    pub probe: bool,
    /// How often at most an account is asked at an address.
    pub probe_interval: Duration,
    /// The same while it refuses the address and is called.
    pub probe_open_interval: Duration,
    /// How many are asked at once.
    pub probes_at_once: usize,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self {
            accounts: 20_000,
            probe: true,
            probe_interval: Duration::from_hours(6),
            probe_open_interval: Duration::from_mins(5),
            probes_at_once: 4,
        }
    }
}

impl Acceptance {
    /// As it is printed back.
    pub(super) fn shown(&self) -> Table {
        let count = |count| Value::from(i64::try_from(count).unwrap_or(i64::MAX));
        let duration = |duration| Value::from(format_duration(duration));
        let keys = [
            ("accounts", count(self.accounts)),
            ("probe", self.probe.into()),
            ("probe_interval", duration(self.probe_interval)),
            ("probe_open_interval", duration(self.probe_open_interval)),
            ("probes_at_once", count(self.probes_at_once)),
        ];
        Table::from_iter(keys.map(|(key, value)| (key.to_owned(), value)))
    }
}

impl Config {
    /// Whether that account may be asked by the gateway itself.
    #[must_use]
    pub fn may_probe(&self, account: &Account) -> bool {
        match self.accounts.get(account) {
            Some(settings) => settings.enabled && settings.probe.unwrap_or(self.acceptance.probe),
            None => self.acceptance.probe,
        }
    }
}

/// Reads `[acceptance]`.
pub(super) fn read(root: &mut Section<'_>) -> Acceptance {
    const SECOND: Duration = Duration::from_secs(1);
    const WEEK: Duration = Duration::from_hours(7 * 24);
    let mut section = root.section("acceptance");
    let default = Acceptance::default();
    let interval = |value: &read::Value<'_>| value.duration(SECOND..=WEEK);
    let acceptance = Acceptance {
        accounts: section.or("accounts", default.accounts, |value| {
            value.integer(1..=1_000_000)
        }),
        probe: section.or("probe", default.probe, read::Value::flag),
        probe_interval: section.or("probe_interval", default.probe_interval, interval),
        probe_open_interval: section.or(
            "probe_open_interval",
            default.probe_open_interval,
            interval,
        ),
        probes_at_once: section.or("probes_at_once", default.probes_at_once, |value| {
            value.integer(1..=100)
        }),
    };
    section.finish();
    acceptance
}
