//! When customers are told of an address that will be used: at its publication, and again 14 and 3 days
//! before. Pure but for the file that remembers it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::model::Published;

/// An address that will be used, and from which day on, 00:00 JST, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The address.
    pub address: Published,
    /// The first day of its use.
    pub from: Option<Date>,
}

/// Which announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is on the list.
    Published,
    /// Two weeks are left.
    TwoWeeks,
    /// Three days are left.
    ThreeDays,
}

/// Who is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Every customer: nobody was told of it yet.
    All,
    /// Those who are not seen to accept it.
    TheOthers,
}

/// What was announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced(BTreeMap<Ipv4Addr, Row>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    address: Ipv4Addr,
    from: Option<Date>,
    stage: Stage,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    announced: Vec<Row>,
}

/// Its name in the state directory.
const FILE: &str = "announcements.json";

/// Its form.
const VERSION: u32 = 1;

impl Stage {
    /// The latest one that is due on `today`; `None` after the first day of use.
    fn on(today: Date, from: Option<Date>) -> Option<Self> {
        let Some(from) = from else {
            return Some(Self::Published);
        };
        let left = today.until(from).map_or(0, |span| span.get_days());
        match left {
            ..0 => None,
            0..=3 => Some(Self::ThreeDays),
            4..=14 => Some(Self::TwoWeeks),
            _ => Some(Self::Published),
        }
    }
}

impl Announced {
    /// What is to be announced on `today`; it counts as announced from here on. One whose day was
    /// changed is announced anew.
    pub(super) fn due(&mut self, planned: &[Planned], today: Date) -> Vec<(Planned, Stage, Whom)> {
        let mut due = Vec::new();
        for &one in planned {
            let Some(stage) = Stage::on(today, one.from) else {
                continue;
            };
            let address = one.address.0;
            let known = self.0.get(&address).filter(|known| known.from == one.from);
            let whom = match known {
                Some(known) if known.stage >= stage => continue,
                Some(_) => Whom::TheOthers,
                None => Whom::All,
            };
            let row = Row {
                address,
                from: one.from,
                stage,
            };
            self.0.insert(address, row);
            due.push((one, stage, whom));
        }
        due
    }

    /// What an earlier process announced; nothing if there is no file. It blocks on the disk.
    pub(super) fn read(state_dir: &Path) -> io::Result<Self> {
        let bytes = match fs::read(state_dir.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let document: Document = serde_json::from_slice(&bytes)?;
        let rows = document.announced.into_iter();
        Ok(Self(rows.map(|row| (row.address, row)).collect()))
    }

    /// Writes it, so that either this or what was before is there. It blocks on the disk.
    pub(super) fn write(&self, state_dir: &Path) -> io::Result<()> {
        let document = Document {
            version: VERSION,
            announced: self.0.values().copied().collect(),
        };
        let new = state_dir.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, &document)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, state_dir.join(FILE))?;
        File::open(state_dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    fn planned(from: &str) -> Planned {
        Planned {
            address: Published([192, 0, 2, 1].into()),
            from: Some(date(from)),
        }
    }

    #[test]
    fn each_stage_comes_once_and_the_later_ones_only_to_those_who_lack_it() {
        let mut announced = Announced::default();
        let planned = [planned("2027-03-01")];
        let mut told = Vec::new();
        let mut day = date("2027-01-15");
        while day < date("2027-03-10") {
            for (_, stage, whom) in announced.due(&planned, day) {
                told.push((day.to_string(), stage, whom));
            }
            day = day.tomorrow().unwrap();
        }
        let expected = [
            ("2027-01-15", Stage::Published, Whom::All),
            ("2027-02-15", Stage::TwoWeeks, Whom::TheOthers),
            ("2027-02-26", Stage::ThreeDays, Whom::TheOthers),
        ];
        assert_eq!(
            told,
            expected.map(|(day, stage, whom)| (day.to_owned(), stage, whom))
        );
    }

    #[test]
    fn what_comes_late_is_announced_to_all_and_a_new_day_anew() {
        let mut announced = Announced::default();
        let today = date("2027-02-27");
        let late = announced.due(&[planned("2027-03-01")], today);
        assert_eq!(late[0].1, Stage::ThreeDays);
        assert_eq!(late[0].2, Whom::All);
        let moved = announced.due(&[planned("2027-05-01")], today);
        assert_eq!((moved[0].1, moved[0].2), (Stage::Published, Whom::All));
    }

    #[test]
    fn what_was_announced_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut announced = Announced::read(dir.path()).unwrap();
        let today = date("2027-01-15");
        assert_eq!(announced.due(&[planned("2027-03-01")], today).len(), 1);
        announced.write(dir.path()).unwrap();
        let mut again = Announced::read(dir.path()).unwrap();
        assert_eq!(again, announced);
        assert_eq!(again.due(&[planned("2027-03-01")], today), []);
    }
}
