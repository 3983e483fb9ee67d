//! How the side rows stand.

use std::time::Duration;

use super::topic::Topic;

/// How the side rows stand.
#[derive(Debug, Clone, Default)]
pub struct SideView {
    /// How long ago all rows were last read and ours hung up.
    pub age: Option<Duration>,
    /// Why the last round that failed did, while none has succeeded since.
    pub last_error: Option<String>,
    /// Rounds that failed so far.
    pub failures: u64,
    /// The length of our row, in bytes.
    pub bytes: usize,
    /// What has no room in it (`[fleet] side_rows`).
    pub left_out: Vec<Topic>,
    /// Hosts whose row was of no use when it was last read, and why.
    pub bad_rows: Vec<(String, String)>,
    /// How often a row was of no use.
    pub bad_reads: u64,
    /// The other hosts that have told something.
    pub peers: Vec<SidePeer>,
}

/// Another host that has told something.
#[derive(Debug, Clone)]
pub struct SidePeer {
    /// Its name.
    pub host: String,
    /// How old its newest row is ([`super::SideRow::age`]).
    pub age: Duration,
}
