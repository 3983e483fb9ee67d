//! Days that are over: one text file each, written once, deleted when it is too old.
//!
//! ```text
//! account,app,purpose,tenant,requests,uncertain
//! acme.cybozu.com,7,incoming,company-1,1203,0
//! end,1,1203
//! ```
//!
//! The last line has the number of rows and their sum: a file that was cut off is not taken for a
//! whole one. No name can hold a comma or a quote.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::kintone::day::Day;
use crate::model::{Account, CountedApp, Purpose, Tenant};

use super::layout::{Row, optional};

/// For so many days counts are kept.
pub(super) const KEPT_DAYS: u32 = 400;

/// The calls of one day of an account, for one app, purpose and tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRow {
    /// The day.
    pub day: Day,
    /// The app.
    pub app: CountedApp,
    /// What for; `None`: not said.
    pub purpose: Option<Purpose>,
    /// For whom; `None`: not said.
    pub tenant: Option<Tenant>,
    /// Calls of which a byte was sent to kintone.
    pub requests: u64,
    /// Those of them for which that is not certain: the process was killed in the instant in which
    /// the first byte was to go.
    pub uncertain: u64,
}

/// Why the counts of a day cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file cannot be read.
    #[error("the daily counts in {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "the daily counts in {path} are damaged from line {line} on; put the file back from a \
         backup, or remove it to go without that day"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        line: usize,
    },
}

const HEAD: &str = "account,app,purpose,tenant,requests,uncertain";
const END: &str = "end";

/// Writes the rows of `day`, whole on disk before the file has its name.
pub(super) fn write(dir: &Path, day: Day, rows: &[Row]) -> io::Result<()> {
    let (path, unfinished) = (file_of(dir, day), dir.join(format!("{day}.new")));
    let file = File::create(&unfinished)?;
    let mut out = BufWriter::new(&file);
    writeln!(out, "{HEAD}")?;
    let counted = rows.iter().filter(|row| row.requests > 0);
    let (mut number, mut sum) = (0, 0);
    for row in counted {
        let purpose = row.key.purpose.as_ref().map_or("", Purpose::as_str);
        let tenant = row.key.tenant.as_ref().map_or("", Tenant::as_str);
        let (account, app) = (&row.key.account, row.key.app);
        let (requests, uncertain) = (row.requests, row.uncertain);
        writeln!(
            out,
            "{account},{app},{purpose},{tenant},{requests},{uncertain}"
        )?;
        number += 1;
        sum += requests;
    }
    writeln!(out, "{END},{number},{sum}")?;
    out.flush()?;
    drop(out);
    file.sync_all()?;
    fs::rename(unfinished, path)?;
    File::open(dir)?.sync_all()
}

/// The rows of an account of `day`; none if that day has no file. The whole file is looked at.
pub(super) fn read(dir: &Path, day: Day, account: &Account) -> Result<Vec<DayRow>, ArchiveError> {
    let path = file_of(dir, day);
    let failed = |source| ArchiveError::Read {
        path: path.clone(),
        source,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let (mut rows, mut number, mut sum, mut is_whole) = (Vec::new(), 0_u64, 0_u64, false);
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(failed)?;
        let understood = match (index, line.strip_prefix("end,")) {
            (0, _) => line == HEAD,
            (_, Some(end)) => {
                is_whole = end == format!("{number},{sum}");
                is_whole
            }
            (_, None) => row(&line, day).is_some_and(|(of, row)| {
                number += 1;
                sum += row.requests;
                if of == account.as_str() {
                    rows.push(row);
                }
                !is_whole
            }),
        };
        if !understood {
            let (path, line) = (path.clone(), index + 1);
            return Err(ArchiveError::Damaged { path, line });
        }
    }
    if is_whole {
        return Ok(rows);
    }
    let line = number as usize + 2;
    Err(ArchiveError::Damaged { path, line })
}

/// Deletes what is older than [`KEPT_DAYS`], and what was never finished.
pub(super) fn delete_old(dir: &Path, today: Day) -> io::Result<()> {
    let oldest = today.before(KEPT_DAYS);
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some((stem, ending)) = name.to_str().and_then(|name| name.split_once('.')) else {
            continue;
        };
        let is_over = match (Day::parse(stem), ending) {
            (Some(day), "csv") => day < oldest,
            (Some(_), "new") => true,
            (Some(_) | None, _) => false,
        };
        if is_over {
            fs::remove_file(dir.join(&name))?;
        }
    }
    Ok(())
}

fn file_of(dir: &Path, day: Day) -> PathBuf {
    dir.join(format!("{day}.csv"))
}

fn row(line: &str, day: Day) -> Option<(&str, DayRow)> {
    let mut fields = line.split(',');
    let mut field = || fields.next();
    let account = field()?;
    let row = DayRow {
        day,
        app: CountedApp::parse(field()?)?,
        purpose: optional(field()?, Purpose::parse)?,
        tenant: optional(field()?, |tenant| Tenant::parse(tenant).ok())?,
        requests: field()?.parse().ok()?,
        uncertain: field()?.parse().ok()?,
    };
    field().is_none().then_some((account, row))
}
