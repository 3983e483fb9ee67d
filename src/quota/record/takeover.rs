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
//! But nothing of an earlier boot was sent after this boot began, so the machine's uptime counts.

use std::time::Duration;

use super::boot::Boot;
use super::layout::{self, Damage, Header, SLOTS, SlotNumber, Stamp, Stored, Words};

/// What is taken over from earlier processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    let found = match (layout::boot(words) == boot.id, closed == CLOSED) {
        (true, _) => Found::SameBoot,
        (false, true) => Found::Closed,
        (false, false) => Found::PowerLoss,
    };
    let used = u32::try_from(Header::Used.load(words)).unwrap_or(u32::MAX);
    let slots = (0..used.min(SLOTS)).map(SlotNumber);
    let mut calls = Vec::new();
    if found == Found::PowerLoss {
        slots.for_each(|slot| layout::vacate(words, slot));
        Header::KnownSince.store(words, BOOT_BEGAN.0);
    } else {
        for slot in slots {
            if let Some(call) = layout::read(words, slot)? {
                calls.push((slot, call));
            }
        }
        calls
            .iter_mut()
            .for_each(|(slot, call)| date(words, *slot, call, boot));
        doubt(words, boot);
    }
    Header::Unrecorded.store(words, 0);
    if found != Found::SameBoot {
        layout::set_boot(words, boot.id);
    }
    if closed != OPEN {
        Header::Closed.store(words, OPENING);
    }
    let mut calls: Vec<_> = calls
        .into_iter()
        .map(|(slot, call)| {
            let age = boot.since(call.aborted_at.unwrap_or(boot.now()));
            Inherited { slot, call, age }
        })
        .collect();
    calls.sort_by(|a, b| b.age.cmp(&a.age));
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

/// A call that ran was aborted by the end of its process, at the latest now or, in an earlier boot,
/// when this one began. Times of an earlier boot mean nothing in this one.
fn date(words: &impl Words, slot: SlotNumber, call: &mut Stored, boot: Boot) {
    let aborted_at = if layout::boot(words) == boot.id {
        call.aborted_at.unwrap_or(boot.now()).min(boot.now())
    } else {
        BOOT_BEGAN
    };
    if call.aborted_at != Some(aborted_at) {
        layout::abort(words, slot, aborted_at);
        call.aborted_at = Some(aborted_at);
    }
}

/// Calls that found no slot were sent up to now, or in an earlier boot.
fn doubt(words: &impl Words, boot: Boot) {
    let is_same = layout::boot(words) == boot.id;
    let has_doubt = Header::KnownSince.load(words) > 0;
    match (is_same, Header::Unrecorded.load(words) > 0) {
        (true, true) => Header::KnownSince.store(words, boot.now().0),
        (false, true) => Header::KnownSince.store(words, BOOT_BEGAN.0),
        (false, false) if has_doubt => Header::KnownSince.store(words, BOOT_BEGAN.0),
        (_, false) => {}
    }
}
