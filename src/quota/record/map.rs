//! A file of words in memory, the flight record's and that of the daily counts: the one place with
//! unsafe code.
//!
//! Why not `pwrite`: two calls of 0.5 µs for each call to kintone, under the account's lock, and each
//! can be held up by a busy disk; a store costs a nanosecond. The kernel writes the pages back when
//! it likes. The price: the file must keep its length and its blocks, or a store is SIGBUS. So its
//! blocks are reserved when it is made, its length is checked before it is mapped, and the directory
//! belongs to one process.

#![expect(
    unsafe_code,
    reason = "words of a shared mapping have no safe reference"
)]

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::layout::{WORDS, Words};

/// The words of a file.
#[derive(Debug)]
pub(in crate::quota) struct Map(MmapRaw);

impl Map {
    /// Maps a file of [`WORDS`] words, to be read and written.
    pub(in crate::quota) fn new(file: &File) -> io::Result<Self> {
        let map = MmapOptions::new().len(WORDS * 8).map_raw(file)?;
        Ok(Self(map))
    }

    /// Adds to the word at `index`, whoever else does; returns what it was.
    pub(in crate::quota) fn add(&self, index: usize, more: u64) -> u64 {
        self.word(index).fetch_add(more, Ordering::AcqRel)
    }

    /// Takes from the word at `index`, whoever else does.
    pub(in crate::quota) fn take(&self, index: usize, less: u64) {
        self.word(index).fetch_sub(less, Ordering::AcqRel);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS, "a word of the record");
        let first = self.0.as_mut_ptr().cast::<u64>();
        // SAFETY: the mapping has WORDS * 8 bytes (`new`), so the word lies within; it begins at a
        // page, so the word is aligned; it lives as long as `self`; and nobody reads or writes it
        // but by atomic operations: this process only here, others are kept out by the lock on the
        // directory.
        unsafe { AtomicU64::from_ptr(first.add(index)) }
    }
}

impl Words for Map {
    fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    fn store(&self, index: usize, word: u64) {
        self.word(index).store(word, Ordering::Release);
    }

    fn sync(&self) -> io::Result<()> {
        self.0.flush()
    }
}
