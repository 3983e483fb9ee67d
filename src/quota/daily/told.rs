//! What a host tells the others of its calls of the day, as JSON:
//!
//! ```text
//! {"v":1,"day":20783,"accounts":{"acme.cybozu.com":{"7":[8000,80],"unknown":[3,0]}}}
//! ```
//!
//! of each account and app the calls begun, and the highest warning given in percent. Tenants and
//! purposes are not told.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kintone::day::Day;
use crate::model::{Account, CountedApp};

/// The form that this program writes and reads.
const VERSION: u32 = 1;

/// Room for the braces, the version and the day, in bytes.
const FRAME_BYTES: usize = 64;

/// A host's calls of a day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) day: Day,
    pub(super) apps: Vec<((Account, CountedApp), AppTold)>,
}

/// An app's calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct AppTold {
    /// Calls begun.
    pub(super) requests: u64,
    /// The highest warning given, in percent.
    pub(super) warned: u64,
}

/// Why what a host has told of its calls is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ToldError {
    /// It is no such JSON.
    #[error(transparent)]
    Nonsense(#[from] serde_json::Error),
    /// It is of another version of the program.
    #[error("it is of version {0}, and this program reads {VERSION}")]
    Version(u32),
    /// An app or the day is none.
    #[error("{0} is neither an app nor a day")]
    Name(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    v: u32,
    day: u32,
    accounts: BTreeMap<String, BTreeMap<String, (u64, u64)>>,
}

impl Told {
    /// The content in at most `bytes_max` bytes, and how many apps found no room: those with the fewest
    /// calls.
    pub(super) fn encode(mut self, bytes_max: usize) -> (Vec<u8>, usize) {
        self.apps
            .sort_unstable_by_key(|(_, told)| Reverse(told.requests));
        let mut document = Document {
            v: VERSION,
            day: self.day.number(),
            accounts: BTreeMap::new(),
        };
        let mut room = bytes_max.saturating_sub(FRAME_BYTES);
        let mut left_out = 0;
        for ((account, app), AppTold { requests, warned }) in &self.apps {
            let (account, app) = (account.as_str(), app.to_string());
            // `"app":[requests,warned],` and `"account":{},`.
            let mut bytes = app.len() + digits(*requests) + digits(*warned) + 7;
            if !document.accounts.contains_key(account) {
                bytes += account.len() + 6;
            }
            match room.checked_sub(bytes) {
                Some(rest) => {
                    room = rest;
                    let apps = document.accounts.entry(account.to_owned()).or_default();
                    apps.insert(app, (*requests, *warned));
                }
                None => left_out += 1,
            }
        }
        // Only maps with keys that are no text, and writers that fail, can make it fail.
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        (bytes, left_out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ToldError> {
        let Document { v, day, accounts } = serde_json::from_slice(bytes)?;
        if v != VERSION {
            return Err(ToldError::Version(v));
        }
        let day = Day::from_number(day).ok_or_else(|| ToldError::Name(day.to_string()))?;
        let mut apps = Vec::new();
        for (account, of_account) in accounts {
            let account = Account::from_normal(&account);
            for (app, (requests, warned)) in of_account {
                let app = CountedApp::parse(&app).ok_or(ToldError::Name(app))?;
                apps.push(((account.clone(), app), AppTold { requests, warned }));
            }
        }
        Ok(Self { day, apps })
    }
}

const fn digits(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AppId;

    fn told(apps: u64) -> Told {
        let app = |number: u64| {
            let account = Account::from_normal(&format!("a{}.cybozu.com", number % 7));
            let told = AppTold {
                requests: number * number,
                warned: 80,
            };
            ((account, CountedApp::Known(AppId(number))), told)
        };
        Told {
            day: Day::from_number(20_783).expect("a day"),
            apps: (0..apps).map(app).collect(),
        }
    }

    fn sorted(mut told: Told) -> Told {
        told.apps.sort_by_key(|(of, _)| (of.0.clone(), of.1));
        told
    }

    #[test]
    fn what_is_told_is_heard() {
        let (bytes, left_out) = told(100).encode(1 << 20);
        assert_eq!(left_out, 0);
        let heard = Told::decode(&bytes).expect("is heard");
        assert_eq!(sorted(heard), sorted(told(100)));
    }

    #[test]
    fn the_apps_with_most_calls_are_told_in_the_room_there_is() {
        for bytes_max in [64, 200, 1000, 2000] {
            let (bytes, left_out) = told(100).encode(bytes_max);
            assert!(bytes.len() <= bytes_max, "{} of {bytes_max}", bytes.len());
            let heard = Told::decode(&bytes).expect("is heard");
            assert_eq!(heard.apps.len() + left_out, 100);
            let least = heard.apps.iter().map(|(_, told)| told.requests).min();
            // Shorter ones may fit where the next one does not.
            let count = heard.apps.len() as u64;
            assert!(least.is_none_or(|least| least >= (100 - count) * (100 - count) / 2));
        }
    }

    #[test]
    fn what_makes_no_sense_is_told_apart() {
        for (bytes, expected) in [
            (&b"{}"[..], "missing field"),
            (b"{\"v\":2,\"day\":1,\"accounts\":{}}", "version 2"),
            (
                b"{\"v\":1,\"day\":1,\"accounts\":{\"a\":{\"seven\":[1,0]}}}",
                "seven",
            ),
            (
                b"{\"v\":1,\"day\":4000000000,\"accounts\":{}}",
                "4000000000",
            ),
        ] {
            let error = Told::decode(bytes).expect_err("is refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
