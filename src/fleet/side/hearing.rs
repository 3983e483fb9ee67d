//! What the other hosts have told. Pure: time and rows go in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::code::Row;
use super::topic::Topic;
use crate::fleet::moment::Moment;
use crate::fleet::row::Stamp;

/// What a host has last told of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideRow {
    /// Which host.
    pub host: String,
    /// How old its row is at least. From the second row of a host on it is counted from when this host
    /// first read it, by its own clock; the first one after a start may be old, and is judged by the
    /// wall clocks of both hosts.
    pub age: Duration,
    /// What it has told.
    pub content: Bytes,
}

/// The newest row of each host.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    peers: BTreeMap<String, Peer>,
    /// Hosts whose row was of no use when it was last read, and why.
    pub(super) bad: Vec<(String, String)>,
    /// How often a row was of no use.
    pub(super) bad_reads: u64,
}

#[derive(Debug)]
struct Peer {
    stamp: Stamp,
    read_at: Moment,
    age_when_read: Duration,
    contents: BTreeMap<u64, Bytes>,
}

impl Hearing {
    /// Takes what was read of each host. `wall_ms` is the time in milliseconds since 1970.
    pub(super) fn hear<'a>(
        &mut self,
        rows: impl Iterator<Item = (&'a str, &'a Bytes)>,
        longest: usize,
        now: Moment,
        wall_ms: u64,
    ) {
        let mut bad = Vec::new();
        for (host, bytes) in rows {
            match Row::decode(bytes, longest) {
                Ok(row) if row.host == host => self.take(row, now, wall_ms),
                Ok(_) => bad.push((host.to_owned(), "it is another host's".to_owned())),
                Err(error) => bad.push((host.to_owned(), error.to_string())),
            }
        }
        self.bad_reads += bad.len() as u64;
        if self.bad != bad {
            for (host, why) in &bad {
                tracing::error!(host, why, "a side row on the fleet's board is of no use");
            }
            self.bad = bad;
        }
    }

    fn take(&mut self, row: Row, now: Moment, wall_ms: u64) {
        let age_when_read = match self.peers.get(&row.host) {
            Some(peer) if peer.stamp >= row.stamp => return,
            Some(_) => Duration::ZERO,
            None => Duration::from_millis(wall_ms.saturating_sub(row.written_at_ms)),
        };
        let peer = Peer {
            stamp: row.stamp,
            read_at: now,
            age_when_read,
            contents: row.contents.into_iter().collect(),
        };
        self.peers.insert(row.host, peer);
    }

    /// What the others have last told of a topic, by host.
    pub(super) fn of(&self, topic: Topic, now: Moment) -> Vec<SideRow> {
        let peers = self.peers.iter();
        let told = peers.filter_map(|(host, peer)| {
            Some(SideRow {
                host: host.clone(),
                age: peer.age(now),
                content: peer.contents.get(&topic.number())?.clone(),
            })
        });
        told.collect()
    }

    /// How old each host's newest row is.
    pub(super) fn ages(&self, now: Moment) -> impl Iterator<Item = (&str, Duration)> {
        let peers = self.peers.iter();
        peers.map(move |(host, peer)| (host.as_str(), peer.age(now)))
    }
}

impl Peer {
    fn age(&self, now: Moment) -> Duration {
        now.since(self.read_at).saturating_add(self.age_when_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 4096;

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    fn bytes(host: &str, beat: u64, content: &'static [u8]) -> Bytes {
        let row = Row {
            host: host.to_owned(),
            stamp: Stamp {
                incarnation: 1,
                beat,
            },
            written_at_ms: 1_000_000,
            contents: vec![(Topic::Days.number(), Bytes::from_static(content))],
        };
        row.encode(LONGEST).into()
    }

    fn hear(hearing: &mut Hearing, host: &str, bytes: &Bytes, now: Moment) {
        let rows = [(host, bytes)];
        hearing.hear(rows.into_iter(), LONGEST, now, 1_060_000);
    }

    #[test]
    fn the_newest_row_of_a_host_holds_and_ages_by_our_clock() {
        let mut hearing = Hearing::default();
        hear(&mut hearing, "gw-b", &bytes("gw-b", 2, b"two"), at(100));
        let told = hearing.of(Topic::Days, at(105));
        // It may hang there since the host died: a minute, by the wall clocks.
        assert_eq!(told[0].age, Duration::from_secs(65));
        assert_eq!(told[0].content, "two");
        hear(&mut hearing, "gw-b", &bytes("gw-b", 1, b"one"), at(110));
        let told = hearing.of(Topic::Days, at(110));
        assert_eq!((&told[0].content[..], told.len()), (&b"two"[..], 1));
        hear(&mut hearing, "gw-b", &bytes("gw-b", 3, b"three"), at(110));
        let told = hearing.of(Topic::Days, at(112));
        assert_eq!(told[0].age, Duration::from_secs(2));
        assert_eq!(told[0].content, "three");
        assert_eq!(hearing.of(Topic::Evidence, at(112)), []);
        assert_eq!((hearing.bad_reads, hearing.bad.len()), (0, 0));
    }

    #[test]
    fn what_is_no_row_of_its_host_is_counted_and_takes_nothing_back() {
        let mut hearing = Hearing::default();
        hear(&mut hearing, "gw-b", &bytes("gw-b", 1, b"word"), at(1));
        let garbage = Bytes::from_static(b"kefs and more");
        let others = bytes("gw-c", 9, b"forged");
        for (count, bad) in [&garbage, &others].into_iter().enumerate() {
            hear(&mut hearing, "gw-b", bad, at(2));
            assert_eq!(hearing.bad_reads, count as u64 + 1);
            assert_eq!(hearing.bad[0].0, "gw-b");
        }
        assert_eq!(hearing.of(Topic::Days, at(2))[0].content, "word");
        hear(&mut hearing, "gw-b", &bytes("gw-b", 2, b"well"), at(3));
        assert_eq!((hearing.bad_reads, hearing.bad.len()), (2, 0));
    }
}
