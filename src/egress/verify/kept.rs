//! What was proven, over restarts: a file in the state directory.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::egress::source::Source;

/// When each address was last seen as published, and what of it is on the disk.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    written: Vec<Proof>,
}

/// One address that was seen as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    published: Ipv4Addr,
    bind: Ipv4Addr,
    proven_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    layout: u32,
    addresses: Vec<Proof>,
}

/// The layout that this program reads and writes.
const LAYOUT: u32 = 1;

/// The file in the state directory.
const FILE: &str = "verified.json";

/// Largest file, in bytes: thousands of addresses.
const BYTES_MAX: u64 = 1 << 20;

/// A proof is written again when this part of the time that it stands has passed.
const REWRITE_PART: u32 = 10;

impl Kept {
    /// Reads what an earlier process has kept in `dir`. What cannot be used is as good as nothing: the
    /// addresses wait for an answer.
    pub(super) fn open(dir: &Path) -> Self {
        let written = read(&dir.join(FILE)).unwrap_or_else(|problem| {
            tracing::warn!(%problem, file = FILE, "addresses wait for an echo: what was kept of them is lost");
            Vec::new()
        });
        Self {
            dir: dir.to_owned(),
            written,
        }
    }

    /// When `source` was last seen as published, and how long that stands; `None` if it does not any
    /// more, or if it lies in the future, so that the clock was wrong then or is now.
    pub(super) fn of(
        &self,
        source: Source,
        unknown_for: Duration,
        now: Timestamp,
    ) -> Option<(Timestamp, Duration)> {
        let proof = self.written.iter().find(|proof| proof.is_of(source))?;
        let age = Duration::try_from(now.duration_since(proof.proven_at)).ok()?;
        let left = unknown_for
            .checked_sub(age)
            .filter(|left| !left.is_zero())?;
        Some((proof.proven_at, left))
    }

    /// `source` was last seen as published then, or is seen as another one (`None`). What must not be
    /// lost is written. It may wait for the disk.
    pub(super) fn keep(
        &mut self,
        source: Source,
        proven_at: Option<Timestamp>,
        unknown_for: Duration,
    ) {
        let known = self.written.iter().position(|proof| proof.is_of(source));
        let mut next = self.written.clone();
        match (known, proven_at) {
            (None, None) => return,
            (Some(at), None) => {
                next.remove(at);
            }
            (Some(at), Some(proven_at)) => {
                let age = proven_at.duration_since(next[at].proven_at);
                let is_young =
                    Duration::try_from(age).is_ok_and(|age| age < unknown_for / REWRITE_PART);
                if is_young {
                    return;
                }
                next[at].proven_at = proven_at;
            }
            (None, Some(proven_at)) => next.push(Proof {
                published: source.published.0,
                bind: source.bind.0,
                proven_at,
            }),
        }
        match write(&self.dir, &next) {
            Ok(()) => self.written = next,
            // It is tried again at the next round.
            Err(error) => tracing::error!(%error, dir = %self.dir.display(), file = FILE,
                "cannot keep how the internet sees the addresses"),
        }
    }
}

impl Proof {
    fn is_of(&self, source: Source) -> bool {
        self.published == source.published.0 && self.bind == source.bind.0
    }
}

fn read(path: &Path) -> Result<Vec<Proof>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut bytes = Vec::new();
    let read = file.take(BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if content.layout == LAYOUT {
        Ok(content.addresses)
    } else {
        Err(format!("its layout is {}, not {LAYOUT}", content.layout))
    }
}

/// Replaces the file in one step that is on the disk when this returns.
fn write(dir: &Path, addresses: &[Proof]) -> io::Result<()> {
    let content = Content {
        layout: LAYOUT,
        addresses: addresses.to_vec(),
    };
    let unfinished = dir.join(format!(".{FILE}.new"));
    let mut file = File::create(&unfinished)?;
    file.write_all(&serde_json::to_vec_pretty(&content)?)?;
    file.sync_all()?;
    fs::rename(&unfinished, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bind, Published};

    const UNKNOWN_FOR: Duration = Duration::from_secs(900);

    fn source(last: u8) -> Source {
        Source {
            published: Published([18, 177, 83, last].into()),
            bind: Bind([10, 0, 0, last].into()),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn what_was_proven_outlives_the_process_for_as_long_as_it_stands() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path());
        kept.keep(source(94), Some(at(0)), UNKNOWN_FOR);
        let kept = Kept::open(dir.path());
        let of = |source, now| kept.of(source, UNKNOWN_FOR, now);
        assert_eq!(of(source(94), at(0)), Some((at(0), UNKNOWN_FOR)));
        assert_eq!(
            of(source(94), at(899)),
            Some((at(0), Duration::from_secs(1)))
        );
        assert_eq!(of(source(94), at(900)), None);
        assert_eq!(of(source(94), at(-1)), None, "the clock is wrong");
        assert_eq!(of(source(95), at(0)), None);
        let moved = Source {
            bind: Bind([10, 0, 0, 1].into()),
            ..source(94)
        };
        assert_eq!(of(moved, at(0)), None, "another bind proves nothing");
    }

    #[test]
    fn what_is_disproved_is_forgotten_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path());
        kept.keep(source(94), Some(at(0)), UNKNOWN_FOR);
        kept.keep(source(95), Some(at(0)), UNKNOWN_FOR);
        kept.keep(source(94), None, UNKNOWN_FOR);
        let kept = Kept::open(dir.path());
        assert_eq!(kept.of(source(94), UNKNOWN_FOR, at(1)), None);
        assert!(kept.of(source(95), UNKNOWN_FOR, at(1)).is_some());
    }

    #[test]
    fn the_disk_is_spared() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::open(dir.path());
        kept.keep(source(94), Some(at(0)), UNKNOWN_FOR);
        let stands = |dir| {
            Kept::open(dir)
                .of(source(94), UNKNOWN_FOR, at(90))
                .unwrap()
                .0
        };
        kept.keep(source(94), Some(at(89)), UNKNOWN_FOR);
        assert_eq!(stands(dir.path()), at(0));
        kept.keep(source(94), Some(at(90)), UNKNOWN_FOR);
        assert_eq!(stands(dir.path()), at(90));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        for content in ["", "{", "{\"layout\":2,\"addresses\":[]}"] {
            fs::write(dir.path().join(FILE), content).unwrap();
            let mut kept = Kept::open(dir.path());
            assert_eq!(kept.of(source(94), UNKNOWN_FOR, at(0)), None, "{content}");
            kept.keep(source(94), Some(at(0)), UNKNOWN_FOR);
            assert!(
                Kept::open(dir.path())
                    .of(source(94), UNKNOWN_FOR, at(0))
                    .is_some()
            );
        }
    }
}
