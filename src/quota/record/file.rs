//! The state directory: its lock, and the record's file in it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::posix_fallocate;
use nix::libc::off_t;

use super::boot::{Boot, BootError};
use super::layout::{self, Damage, WORDS, Words as _};
use super::log::Log;
use super::map::Map;
use super::takeover::{Found, Takeover};

/// Why the record cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The state directory cannot be written.
    #[error(
        "[state] dir = {path} cannot be written; create it and give this user the right to write, \
         or set another"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "[state] dir = {path}: another gateway runs on it, process {holder}; end that one first, or \
         set another directory. Two on one directory would exceed kintone's limits together"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process's id, as it wrote it down.
        holder: String,
    },
    /// The record's file cannot be made, read or written.
    #[error(
        "[state] dir: {path} cannot be kept; make room for 16 MiB on a local disk, or set another"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not say which run it is.
    #[error(transparent)]
    Boot(#[from] BootError),
}

/// A record in this process's hands.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) log: Log<Map>,
    pub(super) takeover: Takeover,
    /// Locked while it is open.
    pub(super) lock: File,
}

/// Locked by the running gateway. It stays when that ends, and tells the next one that a record was
/// kept here: so it never is deleted, and names the last process.
const LOCK: &str = "lock";
const FLIGHT: &str = "flight";
const UNFINISHED: &str = "flight.new";
/// The last record that could not be read.
const DAMAGED: &str = "flight.damaged";

/// Takes the directory, and the record in it. Without a record it makes one.
pub(super) fn take(dir: &Path, boot: Boot) -> Result<Held, RecordError> {
    let lock = fs::create_dir_all(dir)
        .and_then(|()| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(dir.join(LOCK))
        })
        .map_err(|source| RecordError::Directory {
            path: dir.to_owned(),
            source,
        })?;
    let failed = |source| RecordError::File {
        path: dir.join(FLIGHT),
        source,
    };
    let holder = io::read_to_string(&lock).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let (path, holder) = (dir.to_owned(), holder.trim_end().to_owned());
            return Err(RecordError::InUse { path, holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let none = if holder.is_empty() {
        Found::Nothing
    } else {
        Found::Missing
    };
    let (log, takeover) = match open(dir, boot).map_err(failed)? {
        Opened::Record(log, takeover) => (*log, takeover),
        Opened::Nothing => make(dir, boot, none).map_err(failed)?,
        Opened::Damaged(damage) => {
            let kept = fs::rename(dir.join(FLIGHT), dir.join(DAMAGED));
            kept.and_then(|()| make(dir, boot, Found::Damaged(damage)))
                .map_err(failed)?
        }
    };
    sign(&lock).map_err(failed)?;
    Ok(Held {
        log,
        takeover,
        lock,
    })
}

enum Opened {
    Record(Box<Log<Map>>, Takeover),
    Nothing,
    Damaged(Damage),
}

fn open(dir: &Path, boot: Boot) -> io::Result<Opened> {
    let file = match File::options()
        .read(true)
        .write(true)
        .open(dir.join(FLIGHT))
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Nothing),
        Err(error) => return Err(error),
    };
    let (found, expected) = (file.metadata()?.len(), WORDS as u64 * 8);
    if found != expected {
        return Ok(Opened::Damaged(Damage::Length { found, expected }));
    }
    let map = Map::new(&file)?;
    Ok(match Log::open(map, boot)? {
        Ok((log, takeover)) => Opened::Record(Box::new(log), takeover),
        Err(damage) => Opened::Damaged(damage),
    })
}

/// Makes an empty record, whole on disk before it has its name.
fn make(dir: &Path, boot: Boot, found: Found) -> io::Result<(Log<Map>, Takeover)> {
    let known_since = (found != Found::Nothing).then(|| boot.now());
    let path = dir.join(UNFINISHED);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&path)?;
    let length = off_t::try_from(WORDS * 8).map_err(io::Error::other)?;
    posix_fallocate(&file, 0, length)?;
    let map = Map::new(&file)?;
    layout::begin(&map, boot.id, known_since);
    map.sync()?;
    file.sync_all()?;
    fs::rename(path, dir.join(FLIGHT))?;
    File::open(dir)?.sync_all()?;
    let opened = Log::open(map, boot)?.map_err(io::Error::other)?;
    let (log, takeover) = opened;
    Ok((log, Takeover { found, ..takeover }))
}

/// Writes down who holds the directory. At no instant is it empty.
fn sign(lock: &File) -> io::Result<()> {
    let name = format!("{}\n", std::process::id());
    lock.write_all_at(name.as_bytes(), 0)?;
    lock.set_len(name.len() as u64)
}
