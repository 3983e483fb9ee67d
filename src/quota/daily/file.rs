//! The file of the counts that go on: opened, made, and saved from damage.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::posix_fallocate;
use nix::libc::off_t;

use crate::quota::record::{Map, RecordError, SLOTS, SlotNumber, WORDS, Words};

use super::layout::{self, Copied, Header, Row};

/// The counts as they were found.
pub(super) struct Held {
    pub(super) map: Map,
    pub(super) rows: Vec<Row>,
    pub(super) found: FoundCounts,
}

/// What a start found of the daily counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundCounts {
    /// None, and no sign that there ever were any.
    Nothing,
    /// All of them.
    Kept {
        /// Calls that were counted in the instant in which their process was killed: it is not
        /// certain that a byte of them was sent.
        uncertain: u64,
    },
    /// No counts of the day that goes on, although days were counted here before.
    Missing,
    /// A file that is damaged: what could be read of it was taken over.
    Damaged {
        /// Rows that were taken over.
        saved: usize,
        /// Rows that could not be read.
        lost: u32,
    },
}

const COUNTS: &str = "counts";
const UNFINISHED: &str = "counts.new";
/// The last file that could not be read whole.
const DAMAGED: &str = "counts.damaged";
/// Where days go that are over.
pub(super) const ARCHIVE: &str = "days";

/// Takes the counts in the state directory, which must belong to this process alone. Without any it
/// makes an empty file.
pub(super) fn take(dir: &Path) -> Result<Held, RecordError> {
    let failed = |source| RecordError::File {
        path: dir.join(COUNTS),
        source,
    };
    let was_here = dir.join(ARCHIVE).is_dir();
    fs::create_dir_all(dir.join(ARCHIVE)).map_err(failed)?;
    match fs::metadata(dir.join(COUNTS)) {
        Ok(metadata) => open(dir, metadata.len()).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let map = make(dir, &[]).map_err(failed)?;
            Ok(Held {
                map,
                rows: Vec::new(),
                found: if was_here {
                    FoundCounts::Missing
                } else {
                    FoundCounts::Nothing
                },
            })
        }
        Err(error) => Err(failed(error)),
    }
}

fn open(dir: &Path, length: u64) -> io::Result<Held> {
    if length == WORDS as u64 * 8 {
        let mut options = File::options();
        let file = options.read(true).write(true).open(dir.join(COUNTS))?;
        let map = Map::new(&file)?;
        if layout::is_ours(&map) {
            let (rows, lost) = rows(&map, Header::Used.load(&map));
            if lost == 0 {
                let uncertain = rows.iter().map(|row| row.uncertain).sum();
                let found = FoundCounts::Kept { uncertain };
                return Ok(Held { map, rows, found });
            }
        }
    }
    save(dir)
}

/// Takes over what can be read of a damaged file. It is kept as it is, under another name.
fn save(dir: &Path) -> io::Result<Held> {
    let path = dir.join(COUNTS);
    let bytes = fs::read(&path)?;
    let (words, _) = bytes.as_chunks::<8>();
    let words = words.iter().take(WORDS);
    let copied = Copied(words.map(|word| u64::from_ne_bytes(*word)).collect());
    let (mut rows, mut lost) = rows(&copied, u64::from(SLOTS));
    if layout::is_ours(&copied) {
        let used = Header::Used.load(&copied).min(SLOTS.into()) as u32;
        lost += used.saturating_sub(layout::slots_in(bytes.len()));
    }
    for (slot, row) in (0..).map(SlotNumber).zip(&mut rows) {
        row.slot = slot;
    }
    match fs::remove_file(dir.join(DAMAGED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::hard_link(&path, dir.join(DAMAGED))?;
    let map = make(dir, &rows)?;
    if layout::is_ours(&copied)
        && let Some(day) = layout::archived(&copied)
    {
        layout::set_archived(&map, day);
    }
    let saved = rows.len();
    let found = FoundCounts::Damaged { saved, lost };
    Ok(Held { map, rows, found })
}

/// Makes a file of these rows, whole on disk before it has its name. Its blocks are reserved: a
/// store into a hole of a full disk would end the process.
fn make(dir: &Path, rows: &[Row]) -> io::Result<Map> {
    let path = dir.join(UNFINISHED);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&path)?;
    let length = off_t::try_from(WORDS * 8).map_err(io::Error::other)?;
    posix_fallocate(&file, 0, length)?;
    let map = Map::new(&file)?;
    rows.iter()
        .for_each(|row| layout::copy(&map, row.slot, row));
    Header::Used.store(&map, rows.len() as u64);
    layout::begin(&map);
    map.sync()?;
    file.sync_all()?;
    fs::rename(path, dir.join(COUNTS))?;
    File::open(dir)?.sync_all()?;
    Ok(map)
}

/// The rows of the first `used` slots, and how many could not be read.
fn rows(words: &impl Words, used: u64) -> (Vec<Row>, u32) {
    let used = u32::try_from(used).unwrap_or(SLOTS).min(SLOTS);
    let (mut rows, mut lost) = (Vec::new(), 0);
    for slot in (0..used).map(SlotNumber) {
        match layout::read(words, slot) {
            Ok(row) => rows.extend(row),
            Err(layout::Unreadable) => lost += 1,
        }
    }
    (rows, lost)
}
