//! What is known of all accounts, from one process to the next: one JSON file in the state directory,
//! written whole.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::book::Known;
use super::standing::Standing;
use crate::model::{Account, Published};

/// Why what was kept could not be read.
#[derive(Debug, thiserror::Error)]
pub enum AcceptanceError {
    /// The file is there and cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is not what was written.
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// The file as it stands on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    accounts: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    account: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    called: Option<Timestamp>,
    addresses: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accepted: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Timestamp>,
}

/// Its name in the state directory.
const FILE: &str = "acceptance.json";
/// Where a damaged one is kept.
const FILE_DAMAGED: &str = "acceptance.damaged";
/// What is around the accounts, in bytes, at most.
const FRAME: usize = 40;
/// Its form.
const VERSION: u32 = 1;

/// What was written to `dir`; nothing if there is no file. It blocks on the disk.
///
/// # Errors
/// [`AcceptanceError`].
pub fn read(dir: &Path) -> Result<Vec<(Account, Known)>, AcceptanceError> {
    let bytes = match fs::read(dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    Ok(decode(&bytes)?)
}

/// What is known of accounts, as [`told`] and [`write()`] make it.
///
/// # Errors
/// What is wrong with the JSON.
pub fn decode(bytes: &[u8]) -> Result<Vec<(Account, Known)>, serde_json::Error> {
    let document: Document = serde_json::from_slice(bytes)?;
    let rows = document.accounts.into_iter();
    Ok(rows
        .map(|row| (Account::from_normal(&row.account), known(&row)))
        .collect())
}

/// The same for other hosts, in at most `bytes_max` bytes, those first that were seen last; and how many
/// are left out.
#[must_use]
pub fn told(mut accounts: Vec<(Account, Known)>, bytes_max: usize) -> (Vec<u8>, usize) {
    let seen = |known: &Known| known.lines.iter().filter_map(|(_, at)| at.seen()).max();
    accounts.retain(|(_, known)| seen(known).is_some());
    accounts.sort_by_cached_key(|(_, known)| Reverse(seen(known)));
    let mut room = bytes_max.saturating_sub(FRAME);
    let rows = accounts.iter().map(row);
    let told: Vec<_> = rows
        .take_while(|row| {
            let length = serde_json::to_vec(row).map_or(usize::MAX, |row| row.len() + 1);
            let rest = room.checked_sub(length);
            room = rest.unwrap_or(0);
            rest.is_some()
        })
        .collect();
    let left_out = accounts.len() - told.len();
    let document = Document {
        version: VERSION,
        accounts: told,
    };
    (serde_json::to_vec(&document).unwrap_or_default(), left_out)
}

/// Writes it to `dir`, so that either this or what was there before is there. It blocks on the disk.
///
/// # Errors
/// What the kernel said.
pub fn write(accounts: &[(Account, Known)], dir: &Path) -> io::Result<()> {
    let document = Document {
        version: VERSION,
        accounts: accounts.iter().map(row).collect(),
    };
    let mut bytes = serde_json::to_vec(&document)?;
    bytes.push(b'\n');
    let new = dir.join(format!("{FILE}.new"));
    let mut file = File::create(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

/// Puts a damaged file aside, for people to look at.
///
/// # Errors
/// What the kernel said.
pub fn put_aside(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(FILE), dir.join(FILE_DAMAGED))
}

fn known(row: &Row) -> Known {
    let lines = row.addresses.iter().map(|line| {
        let standing = Standing {
            accepted: line.accepted,
            refused: line.refused,
            since: line.since,
            asked: line.asked,
        };
        (Published(line.address), standing)
    });
    Known {
        lines: lines.collect(),
        called: row.called,
    }
}

fn row((account, known): &(Account, Known)) -> Row {
    let lines = known.lines.iter();
    let lines = lines.map(|(published, standing)| Line {
        address: published.0,
        accepted: standing.accepted,
        refused: standing.refused,
        since: standing.since,
        asked: standing.asked,
    });
    Row {
        account: account.to_string(),
        called: known.called,
        addresses: lines.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::standing::Taken;
    use super::*;

    #[test]
    fn other_hosts_are_told_of_those_seen_last_as_far_as_there_is_room() {
        let accounts: Vec<_> = (0..10)
            .map(|number| {
                let mut known = Known::default();
                let at = Timestamp::from_second(1_800_000_000 + number).unwrap();
                known
                    .at_mut(Published(Ipv4Addr::new(192, 0, 2, 1)))
                    .see(Taken::Accepted, at);
                let account = Account::from_normal(&format!("a{number}.cybozu.com"));
                (account, known)
            })
            .collect();
        let (all, left_out) = told(accounts.clone(), 1 << 20);
        assert_eq!((decode(&all).unwrap().len(), left_out), (10, 0));
        for bytes_max in [0, 39, 100, 500, 1000] {
            let (some, left_out) = told(accounts.clone(), bytes_max);
            assert!(
                some.len() <= bytes_max.max(FRAME),
                "{} of {bytes_max}",
                some.len()
            );
            let heard = decode(&some).unwrap();
            assert_eq!(heard.len() + left_out, 10);
            for (at, (account, _)) in heard.iter().enumerate() {
                assert_eq!(account.as_str(), format!("a{}.cybozu.com", 9 - at));
            }
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut known = Known {
            called: Some(now),
            ..Known::default()
        };
        known
            .at_mut(Published(Ipv4Addr::new(192, 0, 2, 1)))
            .see(Taken::Refused, now);
        let accounts = [(Account::from_normal("acme.cybozu.com"), known)];
        write(&accounts, dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), accounts);
        fs::write(dir.path().join(FILE), "{\"version\": 1, \"acc").unwrap();
        let error = read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("damaged"), "{error}");
        put_aside(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
    }
}
