//! What a start finds in the record, and what it may conclude. Pure: words and a time in, words and a
//! verdict out.
//!
//! | the record is | calls that ran | nothing is known of |
//! |---|---|---|
//! | of this boot | settle from now on | what found no slot, up to now |
//! | of another boot, closed | settle from the boot on | what found no slot, up to the boot |
//! | of another boot, not closed | are not believed | everything, up to the boot |
//!
//! A process that dies leaves its last stores in the kernel's page cache: what it wrote is exact while
//! the kernel lives. After a power loss the disk has some older state, unless the record was closed.
//! But nothing of an earlier boot was sent after this boot began, so the machine's uptime counts:
//! where it is the same machine. On another one, or where machines have no names, it is up to now.

use std::cmp::Reverse;
use std::time::Duration;

use super::boot::Boot;
use super::layout::{self, Damage, Header, SLOTS, SlotNumber, Stamp, Stored, Words};

/// What is taken over from earlier processes.
#[derive(Debug)]
pub(super) struct Takeover {
    /// Calls that may still run at kintone, the longest aborted first.
    pub(super) calls: Vec<Inherited>,
    /// How long ago calls were sent last that are not among them; `None`: there are none.
    pub(super) unknown: Option<Duration>,
    /// What was found.
    pub(super) found: Found,
    /// Whether the disk says "closed", which must not be true any more when the first call is sent.
    pub(super) on_disk: OnDisk,
}

/// A call of an earlier process that may still run at kintone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inherited {
    pub(super) slot: SlotNumber,
    pub(super) call: Stored,
    /// How long ago it was aborted.
    pub(super) age: Duration,
}

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Found {
    /// No record and no sign that there ever was one.
    #[default]
    Nothing,
    /// The record of a process of this boot.
    SameBoot,
    /// The record of an earlier boot, closed when its process ended.
    Closed,
    /// The record of an earlier boot whose process did not end by itself.
    PowerLoss,
    /// The record of another machine whose process did not end by itself.
    Moved,
    /// No record, although a gateway was here before.
    Missing,
    /// A record that cannot be read.
    Damaged(Damage),
}

/// What the disk says of the record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// That it is not closed.
    #[default]
    Open,
    /// Perhaps that it is closed.
    Closed,
}

/// Takes a record over for this process. Killed at any store, the next start comes to the same
/// verdict or a more careful one.
pub(super) fn take_over(words: &impl Words, boot: Boot) -> Result<Takeover, Damage> {
    layout::check(words)?;
    let closed = Header::Closed.load(words);
    let is_same_machine = boot.machine.is_some() && layout::machine(words) == boot.machine;
    let found = match (layout::boot(words) == boot.id, closed == CLOSED) {
        (true, _) => Found::SameBoot,
        (false, true) => Found::Closed,
        (false, false) if is_same_machine => Found::PowerLoss,
        (false, false) => Found::Moved,
    };
    // When the last call was sent, at the latest.
    let last = if found != Found::SameBoot && is_same_machine {
        BOOT_BEGAN
    } else {
        boot.now()
    };
    let used = u32::try_from(Header::Used.load(words)).unwrap_or(u32::MAX);
    let slots = (0..used.min(SLOTS)).map(SlotNumber);
    let mut calls = Vec::new();
    if matches!(found, Found::PowerLoss | Found::Moved) {
        slots.for_each(|slot| layout::vacate(words, slot));
        Header::KnownSince.store(words, last.0);
    } else {
        for slot in slots {
            if let Some(call) = layout::read(words, slot)? {
                calls.push(inherit(words, slot, call, boot, last));
            }
        }
        calls.sort_by_key(|inherited| Reverse(inherited.age));
        doubt(words, boot, last);
    }
    Header::Unrecorded.store(words, 0);
    if found != Found::SameBoot {
        layout::set_boot(words, boot.id);
    }
    // After the boot: killed between the two, the record is of this boot, whatever the machine.
    layout::set_machine(words, boot.machine);
    if closed != OPEN {
        Header::Closed.store(words, OPENING);
    }
    Ok(Takeover {
        calls,
        unknown: unknown(words, boot),
        found,
        on_disk: if closed == OPEN {
            OnDisk::Open
        } else {
            OnDisk::Closed
        },
    })
}

/// Nothing was sent after everything was on disk.
pub(super) const CLOSED: u64 = 1;
/// Closed on disk perhaps, and opened again in memory: still to be told to the disk.
const OPENING: u64 = 2;
/// Calls are being sent.
pub(super) const OPEN: u64 = 0;

/// How long ago calls were sent last that the record does not have.
fn unknown(words: &impl Words, boot: Boot) -> Option<Duration> {
    let known_since = Header::KnownSince.load(words);
    (known_since > 0).then(|| boot.since(Stamp(known_since)))
}

/// When the boot began: every call of an earlier boot was aborted before.
const BOOT_BEGAN: Stamp = Stamp(1);

/// A call that ran was aborted by the end of its process, at the latest when the `last` one was sent.
/// Times of an earlier boot mean nothing in this one.
fn inherit(
    words: &impl Words,
    slot: SlotNumber,
    call: Stored,
    boot: Boot,
    last: Stamp,
) -> Inherited {
    let known = call.aborted_at;
    let known = known.filter(|at| layout::boot(words) == boot.id && *at <= last);
    let aborted_at = known.unwrap_or(last);
    layout::abort(words, slot, aborted_at);
    let age = boot.since(aborted_at);
    Inherited { slot, call, age }
}

/// Calls that found no slot were sent up to the `last` one. What an earlier boot did not know, it may
/// not have learnt since.
fn doubt(words: &impl Words, boot: Boot, last: Stamp) {
    let is_old = layout::boot(words) != boot.id && Header::KnownSince.load(words) > 0;
    if is_old || Header::Unrecorded.load(words) > 0 {
        Header::KnownSince.store(words, last.0);
    }
}
