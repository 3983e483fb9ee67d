//! The bounds that the documentation declares.

use std::path::Path;

/// What one of each costs at most, in bytes of memory.
#[derive(Debug)]
pub struct Declared {
    pub connection: u64,
    pub head: u64,
    pub call: u64,
    pub tunnel: u64,
    pub stalled_tunnel: u64,
    pub inspected_h1: u64,
    pub inspected_h2: u64,
}

impl Declared {
    /// Reads the table "Memory" of `docs/limits.md`.
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/limits.md");
        let text = std::fs::read_to_string(path).expect("docs/limits.md");
        let kib = |what: &str| {
            let row = text
                .lines()
                .find(|line| line.starts_with(&format!("| {what} |")));
            let row = row.unwrap_or_else(|| panic!("docs/limits.md has no row {what:?}"));
            let cell = row.split('|').nth(2).expect("a second cell").trim();
            let kib = cell.strip_suffix(" KiB").expect("a size in KiB");
            1024 * kib.parse::<u64>().expect("a number")
        };
        Self {
            connection: kib("caller's connection, idle"),
            head: kib("request head as long as `head_size` allows"),
            call: kib("call whose caller does not read"),
            tunnel: kib("tunnel, idle"),
            stalled_tunnel: kib("tunnel whose caller does not read"),
            inspected_h1: kib("inspected connection in HTTP/1, idle"),
            inspected_h2: kib("inspected connection in HTTP/2, idle"),
        }
    }

    /// So many idle connections.
    pub const fn connections(&self, count: usize) -> u64 {
        self.connection * count as u64
    }

    /// So many calls whose callers do not read.
    pub const fn calls(&self, count: usize) -> u64 {
        self.call * count as u64
    }
}
