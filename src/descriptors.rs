//! File descriptors: how many this process may have, and how near that is.
//!
//! The kernel gives a new socket the lowest number that is free (socket(2), accept(2)), so the number
//! of a socket just made says how many are in use at least, without counting. By it the last ones are
//! kept for what is needed to say that there are none:
//!
//! ```text
//! 0                              ¾                  ⅞ (or 128 left)  ¹⁵⁄₁₆ (or 64 left)  limit
//! │ Ample: callers' connections  │ Tight: a caller  │ Scarce: the     │ Gone: callers     │
//! │ stay between their calls     │ is answered once │ same, kintone   │ are reset, the    │
//! │                              │ and closed       │ is not dialled  │ rest is for admin │
//! ```

use std::os::fd::{AsRawFd, RawFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How near the limit a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// There are many more.
    Ample,
    /// Nobody may hold one for later.
    Tight,
    /// Nothing new may be begun.
    Scarce,
    /// The last ones: for the admin listener, DNS and log files.
    Gone,
}

/// What is kept back for callers who must be told, at most.
const KEPT_FROM_CALLS_MAX: u64 = 128;

/// What is kept back for the rest of the process, at most.
const KEPT_FROM_CALLERS_MAX: u64 = 64;

/// How near the process's limit `socket`, which was just made, is.
pub fn room(socket: &impl AsRawFd) -> Room {
    limit().map_or(Room::Ample, |limit| judge(socket.as_raw_fd(), limit))
}

/// Raises the process's limit as far as it may (`setrlimit(2)`, soft to hard), and tells it. `None`
/// if the kernel does not say.
pub fn raise() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        return Some(soft);
    }
    Some(hard)
}

/// How many descriptors so many callers' connections need when each has a call at kintone, `idle`
/// connections to kintone wait besides, and nobody is turned away.
#[must_use]
pub const fn needed(connections: usize, idle: usize) -> u64 {
    let needed = 2 * connections as u64 + idle as u64;
    let with_room = needed + needed / 3;
    if with_room > needed + KEPT_FROM_CALLS_MAX {
        with_room
    } else {
        needed + KEPT_FROM_CALLS_MAX
    }
}

// Asked anew each time, since it can be changed from outside (prlimit(1)): nothing beside a
// connection.
fn limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .ok()
        .map(|(soft, _)| soft)
}

const fn judge(descriptor: RawFd, limit: u64) -> Room {
    let number = descriptor.unsigned_abs() as u64;
    if number >= limit - least(limit / 16, KEPT_FROM_CALLERS_MAX) {
        Room::Gone
    } else if number >= limit - least(limit / 8, KEPT_FROM_CALLS_MAX) {
        Room::Scarce
    } else if number >= limit / 4 * 3 {
        Room::Tight
    } else {
        Room::Ample
    }
}

const fn least(one: u64, other: u64) -> u64 {
    if one < other { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_descriptors_are_kept_back() {
        for (limit, tight, scarce, gone) in [
            (256, 192, 224, 240),
            (1024, 768, 896, 960),
            (20_000, 15_000, 19_872, 19_936),
        ] {
            for (first, room, before) in [
                (tight, Room::Tight, Room::Ample),
                (scarce, Room::Scarce, Room::Tight),
                (gone, Room::Gone, Room::Scarce),
            ] {
                assert_eq!(judge(first, limit), room, "{first} of {limit}");
                assert_eq!(judge(first - 1, limit), before, "{first} of {limit}");
            }
        }
        assert_eq!(judge(5, u64::MAX), Room::Ample, "without a limit");
    }

    #[test]
    fn what_is_needed_fits_without_turning_anybody_away() {
        for (connections, idle) in [(1, 1), (100, 100), (20_000, 2000)] {
            let limit = needed(connections, idle);
            let used = i32::try_from(2 * connections + idle).unwrap();
            assert_eq!(judge(used - 1, limit), Room::Ample, "{connections}");
        }
    }
}
