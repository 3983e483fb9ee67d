//! Files: what was published last, and what is published.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::documents::Document;
use super::memory::{LAYOUT, Memory};

/// The memory's file in the state directory.
pub const MEMORY: &str = "published.json";

/// A memory that could not be read is kept under this name.
pub const DAMAGED: &str = "published.json.damaged";

/// Largest memory, in bytes: a thousand changes are a tenth of it.
const MEMORY_BYTES_MAX: u64 = 4 << 20;

/// Why a memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is no memory.
    #[error(transparent)]
    Damaged(#[from] serde_json::Error),
    /// It is of another version of the program.
    #[error("its layout is {0}, and this version of the program knows {LAYOUT}")]
    Layout(u32),
    /// It is longer than any that was written.
    #[error("it is longer than {MEMORY_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads what was published last; `None` if nothing was.
///
/// # Errors
/// [`MemoryError`].
pub fn read(dir: &Path) -> Result<Option<Memory>, MemoryError> {
    let file = match File::open(dir.join(MEMORY)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(MEMORY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MEMORY_BYTES_MAX {
        return Err(MemoryError::TooLong);
    }
    let memory: Memory = serde_json::from_slice(&bytes)?;
    if memory.layout == LAYOUT {
        Ok(Some(memory))
    } else {
        Err(MemoryError::Layout(memory.layout))
    }
}

/// Puts a memory that cannot be used aside.
///
/// # Errors
/// The kernel's.
pub fn put_aside(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(MEMORY), dir.join(DAMAGED))
}

/// Remembers what is published.
///
/// # Errors
/// The kernel's.
pub fn write(dir: &Path, memory: &Memory) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(memory)?;
    bytes.push(b'\n');
    replace(dir, MEMORY, &bytes)
}

/// Writes each document into `dir`, whole or not at all. It makes the directory if there is none.
///
/// # Errors
/// The kernel's; documents before the one that failed are written.
pub fn write_all(dir: &Path, documents: &[Document]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for document in documents {
        replace(dir, document.name, &document.bytes)?;
    }
    Ok(())
}

/// Replaces a file in one step that is on the disk when this returns.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = dir.join(format!(".{name}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(name))?;
    File::open(dir)?.sync_all()
}
