//! Where the access log's bytes end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that can be opened again by its name, or something that is only written.
pub enum Sink {
    /// A file and its name.
    File {
        /// Its name.
        path: PathBuf,
        /// The file.
        file: File,
    },
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

impl Sink {
    /// Appends to the file at `path`, which is made if it is absent.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let path = path.to_owned();
        Ok(Self::File { path, file })
    }

    /// Where bytes go.
    pub fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::File { file, .. } => file,
            Self::Writer(writer) => writer,
        }
    }

    /// Opens the file again by its name; if that fails, the old one goes on.
    pub fn reopen(&mut self) {
        let Self::File { path, file } = self else {
            return;
        };
        match open(path) {
            Ok(opened) => *file = opened,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the access log stays in its old file");
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
