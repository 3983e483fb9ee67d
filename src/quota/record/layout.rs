//! How the record lies in its file: words of 64 bits, a header and slots of one call each.
//!
//! ```text
//! header, 4096 bytes                            slot, 512 bytes
//!   0  "keflight"                                 0  permits, lengths, priority; 0: vacant
//!   1  version and number of slots                1  when it was aborted; 0: it runs
//!   2  boot id, two words                         2  the account's name, then the tenant's
//!   4  closed: complete on disk
//!   5  known since: 0, or calls that were
//!      sent before are not in here
//!   6  slots ever used
//!   7  calls that found no slot
//!   8  machine id, two words
//! ```
//!
//! Every change becomes true by the store of one word, made after all that belongs to it: a process
//! may be killed between any two stores. Times are nanoseconds of `CLOCK_BOOTTIME`. Words are in the
//! machine's own order: the file means something on one machine alone.

use std::io;
use std::str::from_utf8;

use crate::model::{Account, Priority, Tenant};

/// Words that can be stored and loaded one by one.
pub(in crate::quota) trait Words {
    /// The word at `index`.
    fn load(&self, index: usize) -> u64;
    /// Puts a word at `index`, after everything that was stored before.
    fn store(&self, index: usize, word: u64);
    /// Brings everything stored to disk; returns when it is there.
    fn sync(&self) -> io::Result<()>;
}

/// Which slot, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::quota) struct SlotNumber(pub(in crate::quota) u32);

/// A call as it is written down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Where to.
    pub(super) account: &'a str,
    /// On whose behalf.
    pub(super) tenant: &'a str,
    /// How urgent it is.
    pub(super) priority: Priority,
    /// Permits that it holds.
    pub(super) permits: u32,
}

/// A call as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) account: Account,
    pub(super) tenant: Tenant,
    pub(super) priority: Priority,
    pub(super) permits: u32,
    /// When it was aborted; `None`: it ran.
    pub(super) aborted_at: Option<Stamp>,
}

/// A time of `CLOCK_BOOTTIME`, in nanoseconds, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(pub(super) u64);

/// Which run of the kernel: the two halves of its boot id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BootId(pub(super) [u64; 2]);

/// Which machine: the two halves of its machine id (machine-id(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MachineId(pub(super) [u64; 2]);

/// Calls that can be written down at once: each of `[limits] connections` (20,000) and as many again
/// that settle.
pub(in crate::quota) const SLOTS: u32 = 32_768;
/// Words of the whole file: 16 MiB and a page.
pub(in crate::quota) const WORDS: usize = HEADER_WORDS + SLOTS as usize * SLOT_WORDS;

const HEADER_WORDS: usize = 512;
const SLOT_WORDS: usize = 64;

const MAGIC: u64 = u64::from_ne_bytes(*b"keflight");
/// Of this layout. Another one is never read: a start with it is one without a record.
const VERSION: u32 = 1;
const FORMAT: u64 = (VERSION as u64) << 32 | SLOTS as u64;

/// Longest names that a slot takes, in bytes: a DNS name has at most 253, a tenant 64.
const ACCOUNT_BYTES_MAX: usize = 253;
const NAME_BYTES_MAX: usize = 320;

/// Why the words are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Its length is wrong.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// Its length, in bytes.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// It does not begin as a record does.
    #[error("it is not a flight record")]
    Strange,
    /// It was written by a version with another layout.
    #[error("it has layout {found}, and this version reads {VERSION}")]
    Version {
        /// The layout's version.
        found: u32,
    },
    /// A slot makes no sense.
    #[error("its slot {slot} makes no sense")]
    Slot {
        /// Which.
        slot: u32,
    },
}

/// The header's words.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub(super) enum Header {
    Magic,
    Format,
    BootHigh,
    BootLow,
    /// Whether everything is on disk and nothing was sent after: see the takeover.
    Closed,
    /// A [`Stamp`]; 0: all calls are in here.
    KnownSince,
    Used,
    Unrecorded,
    MachineHigh,
    MachineLow,
}

impl Header {
    pub(super) fn load(self, words: &impl Words) -> u64 {
        words.load(self as usize)
    }

    pub(super) fn store(self, words: &impl Words, word: u64) {
        words.store(self as usize, word);
    }
}

/// Makes zeroed words an empty record. `known_since`: calls sent before it are not in here.
pub(super) fn begin(words: &impl Words, boot: BootId, known_since: Option<Stamp>) {
    Header::Format.store(words, FORMAT);
    set_boot(words, boot);
    Header::KnownSince.store(words, known_since.map_or(0, |stamp| stamp.0));
    Header::Magic.store(words, MAGIC);
}

/// Makes sure that this is a record of this layout.
pub(super) fn check(words: &impl Words) -> Result<(), Damage> {
    if Header::Magic.load(words) != MAGIC {
        return Err(Damage::Strange);
    }
    let format = Header::Format.load(words);
    if format != FORMAT {
        let found = (format >> 32) as u32;
        return Err(Damage::Version { found });
    }
    Ok(())
}

/// The kernel's run that the record is of.
pub(super) fn boot(words: &impl Words) -> BootId {
    BootId([Header::BootHigh, Header::BootLow].map(|half| half.load(words)))
}

/// Makes it one of this run. Between the two stores it is of none.
pub(super) fn set_boot(words: &impl Words, boot: BootId) {
    Header::BootHigh.store(words, boot.0[0]);
    Header::BootLow.store(words, boot.0[1]);
}

/// The machine that the record is of, if it has a name.
pub(super) fn machine(words: &impl Words) -> Option<MachineId> {
    let id = [Header::MachineHigh, Header::MachineLow].map(|half| half.load(words));
    (id != [0; 2]).then_some(MachineId(id))
}

/// Makes it one of this machine.
pub(super) fn set_machine(words: &impl Words, machine: Option<MachineId>) {
    let [high, low] = machine.map_or([0; 2], |machine| machine.0);
    Header::MachineHigh.store(words, high);
    Header::MachineLow.store(words, low);
}

/// Writes a running call into a vacant slot; `false`, and nothing is written, if its names are too
/// long for any.
pub(super) fn write(words: &impl Words, slot: SlotNumber, entry: &Entry<'_>) -> bool {
    let (account, tenant) = (entry.account.as_bytes(), entry.tenant.as_bytes());
    let length = account.len() + tenant.len();
    if account.len() > ACCOUNT_BYTES_MAX || length > NAME_BYTES_MAX {
        return false;
    }
    let mut names = [0; NAME_BYTES_MAX];
    names[..account.len()].copy_from_slice(account);
    names[account.len()..length].copy_from_slice(tenant);
    let at = slot.at();
    let (words_of_names, _) = names.as_chunks::<8>();
    let used = words_of_names.iter().take(length.div_ceil(8));
    for (index, bytes) in used.enumerate() {
        words.store(at + 2 + index, u64::from_ne_bytes(*bytes));
    }
    words.store(at + 1, 0);
    let lengths = (account.len() as u64) << 24 | (tenant.len() as u64) << 16;
    let rest = lengths | (entry.priority as u64) << 8 | 1;
    words.store(at, u64::from(entry.permits) << 32 | rest);
    true
}

/// Changes how many permits a call holds.
pub(super) fn resize(words: &impl Words, slot: SlotNumber, permits: u32) {
    let rest = words.load(slot.at()) & u64::from(u32::MAX);
    words.store(slot.at(), u64::from(permits) << 32 | rest);
}

/// Notes when a call was aborted.
pub(super) fn abort(words: &impl Words, slot: SlotNumber, at: Stamp) {
    words.store(slot.at() + 1, at.0);
}

/// The call has ended.
pub(super) fn vacate(words: &impl Words, slot: SlotNumber) {
    words.store(slot.at(), 0);
}

/// What a slot holds.
pub(super) fn read(words: &impl Words, slot: SlotNumber) -> Result<Option<Stored>, Damage> {
    let at = slot.at();
    let state = words.load(at);
    if state == 0 {
        return Ok(None);
    }
    let [account, tenant, priority] = [24, 16, 8].map(|shift| (state >> shift) as u8);
    let (account, length) = (
        usize::from(account),
        usize::from(account) + usize::from(tenant),
    );
    let mut names = [0; NAME_BYTES_MAX];
    let (words_of_names, _) = names.as_chunks_mut::<8>();
    for (index, bytes) in words_of_names.iter_mut().enumerate() {
        *bytes = words.load(at + 2 + index).to_ne_bytes();
    }
    let stored = || {
        let name = |from: usize, to: usize| from_utf8(names.get(from..to)?).ok();
        let permits = (state >> 32) as u32;
        (permits > 0 && account > 0 && state & 0xff == 1).then_some(())?;
        Some(Stored {
            account: Account::from_normal(name(0, account)?),
            tenant: Tenant::parse(name(account, length)?).ok()?,
            priority: Priority::ALL
                .into_iter()
                .find(|one| *one as u8 == priority)?,
            permits,
            aborted_at: Some(Stamp(words.load(at + 1))).filter(|stamp| stamp.0 > 0),
        })
    };
    let damage = Damage::Slot { slot: slot.0 };
    stored().map(Some).ok_or(damage)
}

impl SlotNumber {
    const fn at(self) -> usize {
        HEADER_WORDS + self.0 as usize * SLOT_WORDS
    }
}
