//! What a host tells the others of its record, as JSON:
//!
//! ```text
//! {"v":1,"days":[{"day":"2026-11-25","runs":[["…T00:00:00Z","…T03:00:00Z",false]],"unrecorded":0,
//!   "accounts":{"acme.cybozu.com":[["10.0.12.34","18.177.83.94",3,1764028800,1764029000]]}}]}
//! ```
//!
//! of each account and local address what was published for it, how many connections, and the first and
//! the last one in seconds since 1970.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::day::{Day, LAYOUT, Run, Seen};

/// The form that this program writes and reads.
const VERSION: u32 = 1;

/// Days that are told: today, and the one before until nothing of it can be new.
const DAYS_MAX: usize = 2;

/// Why what a host has told of its record is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ToldError {
    /// It is no such JSON.
    #[error(transparent)]
    Nonsense(#[from] serde_json::Error),
    /// It is of another version of the program.
    #[error("it is of version {0}, and this program reads {VERSION}")]
    Version(u32),
    /// It has a time that is none, or too many days.
    #[error("it has times or days that make no sense")]
    Times,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    v: u32,
    days: Vec<DayTold>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DayTold {
    day: Date,
    runs: Vec<(Timestamp, Timestamp, bool)>,
    unrecorded: u64,
    accounts: BTreeMap<String, Vec<SeenTold>>,
}

type SeenTold = (Ipv4Addr, Option<Ipv4Addr>, u64, i64, i64);

/// The content in at most `bytes_max` bytes; `None` if not even the times fit. Accounts for which there
/// is no room are those with the fewest connections, and theirs are told as not recorded.
#[must_use]
pub fn encode(days: &[Day], bytes_max: usize) -> Option<Vec<u8>> {
    let frame = Document {
        v: VERSION,
        days: Vec::new(),
    };
    let mut room = bytes_max.checked_sub(length(&frame)?)?;
    let mut document = frame;
    for day in days.iter().take(DAYS_MAX) {
        let Some(told) = fit(day, &mut room) else {
            break;
        };
        document.days.push(told);
    }
    if document.days.is_empty() && !days.is_empty() {
        return None;
    }
    serde_json::to_vec(&document).ok()
}

/// What a host has told.
///
/// # Errors
/// [`ToldError`].
pub fn decode(content: &[u8]) -> Result<Vec<Day>, ToldError> {
    let Document { v, days } = serde_json::from_slice(content)?;
    if v != VERSION {
        return Err(ToldError::Version(v));
    }
    if days.len() > DAYS_MAX {
        return Err(ToldError::Times);
    }
    days.into_iter().map(day_of).collect()
}

/// The part of a day that there is room for, which it takes.
fn fit(day: &Day, room: &mut usize) -> Option<DayTold> {
    let runs = day.runs.iter();
    let mut told = DayTold {
        day: day.day,
        runs: runs.map(|run| (run.from, run.until, run.closed)).collect(),
        // As long as any number that it can become.
        unrecorded: u64::MAX,
        accounts: BTreeMap::new(),
    };
    // A comma behind it.
    *room = room.checked_sub(length(&told)? + 1)?;
    told.unrecorded = day.unrecorded;
    let connections = |seen: &[Seen]| seen.iter().map(|one| one.connections).sum::<u64>();
    let mut accounts: Vec<_> = day.accounts.iter().collect();
    accounts.sort_by_cached_key(|(_, seen)| Reverse(connections(seen)));
    for (account, seen) in accounts {
        let of_account: Vec<SeenTold> = seen.iter().map(seen_told).collect();
        // `"":,` beside the name and what is of it.
        let bytes = length(&of_account)? + account.len() + 4;
        match room.checked_sub(bytes) {
            Some(rest) => {
                *room = rest;
                told.accounts.insert(account.clone(), of_account);
            }
            None => told.unrecorded = told.unrecorded.saturating_add(connections(seen)),
        }
    }
    Some(told)
}

fn seen_told(seen: &Seen) -> SeenTold {
    (
        seen.local,
        seen.published,
        seen.connections,
        seen.first.as_second(),
        seen.last.as_second(),
    )
}

fn day_of(told: DayTold) -> Result<Day, ToldError> {
    let mut accounts = BTreeMap::new();
    for (account, of_account) in told.accounts {
        let seen: Option<Vec<Seen>> = of_account.into_iter().map(seen_of).collect();
        accounts.insert(account, seen.ok_or(ToldError::Times)?);
    }
    let runs = told.runs.into_iter();
    let runs = runs.map(|(from, until, closed)| Run {
        from,
        until,
        closed,
    });
    let runs: Vec<Run> = runs.collect();
    if runs.iter().any(|run| run.until < run.from) {
        return Err(ToldError::Times);
    }
    Ok(Day {
        layout: LAYOUT,
        day: told.day,
        runs,
        accounts,
        unrecorded: told.unrecorded,
    })
}

fn seen_of((local, published, connections, first, last): SeenTold) -> Option<Seen> {
    Some(Seen {
        local,
        published,
        connections,
        first: Timestamp::from_second(first).ok()?,
        last: Timestamp::from_second(last).ok()?,
    })
}

fn length(of: &impl Serialize) -> Option<usize> {
    serde_json::to_vec(of).ok().map(|bytes| bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIND: Ipv4Addr = Ipv4Addr::new(10, 0, 12, 34);
    const PUBLISHED: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 94);

    fn day(of: i8, accounts: u64) -> Day {
        let now: Timestamp = "2026-11-25T03:00:00Z".parse().expect("a time");
        let mut day = Day::new(Date::constant(2026, 11, of));
        day.runs.push(Run {
            from: now,
            until: now,
            closed: false,
        });
        for account in 0..accounts {
            for _ in 0..=account {
                let name = format!("a{account}.cybozu.com");
                day.record(&name, BIND, Some(PUBLISHED), now, 1000);
            }
        }
        day
    }

    fn all(day: &Day) -> u64 {
        let seen = day.accounts.values().flatten();
        seen.map(|one| one.connections).sum::<u64>() + day.unrecorded
    }

    #[test]
    fn what_is_told_is_heard() {
        let days = [day(25, 50), day(24, 3)];
        let content = encode(&days, 1 << 20).expect("has room");
        assert_eq!(decode(&content).expect("is heard"), days);
        assert_eq!(decode(&encode(&[], 100).expect("fits")).expect("none"), []);
    }

    #[test]
    fn what_has_no_room_is_told_as_not_recorded() {
        let days = [day(25, 50), day(24, 3)];
        for bytes_max in [0, 100, 200, 1000, 3000] {
            let Some(content) = encode(&days, bytes_max) else {
                assert!(bytes_max <= 200, "{bytes_max}");
                continue;
            };
            assert!(
                content.len() <= bytes_max,
                "{} of {bytes_max}",
                content.len()
            );
            let heard = decode(&content).expect("is heard");
            assert_eq!(all(&heard[0]), all(&days[0]));
            assert!(heard[0].unrecorded > 0);
            let most = heard[0].accounts.contains_key("a49.cybozu.com");
            assert!(most || heard[0].accounts.is_empty());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for content in [
            &b"{}"[..],
            b"{\"v\":2,\"days\":[]}",
            b"{\"v\":1,\"days\":[{\"day\":\"2026-11-25\",\"runs\":[[\"2026-11-25T03:00:00Z\",\"2026-11-25T02:00:00Z\",false]],\"unrecorded\":0,\"accounts\":{}}]}",
            b"{\"v\":1,\"days\":[{\"day\":\"2026-11-25\",\"runs\":[],\"unrecorded\":0,\"accounts\":{\"a\":[[\"10.0.0.1\",null,1,9999999999999,1]]}}]}",
        ] {
            decode(content).expect_err("is refused");
        }
    }
}
