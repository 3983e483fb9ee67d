//! How the counts of a day lie in their file: words of 64 bits, a header and one slot for each
//! account, app, purpose and tenant of a day.
//!
//! ```text
//! header, 4096 bytes                            slot, 512 bytes
//!   0  "kecounts"                                 0  day, lengths, kind of app; 0: vacant
//!   1  version and number of slots                1  calls begun
//!   2  the last day in the archive, and 1         2  calls begun for certain
//!   3  slots ever used                            3  the highest warning given, in percent
//!   4  calls that found no slot                   4  app
//!                                                 5  check of 0, 4 and the names
//!                                                 6  the account's name, the tenant's, the purpose
//! ```
//!
//! A slot becomes true by the store of its word 0, made after all that belongs to it: a process may
//! be killed between any two stores. Words are in the machine's own order.

use std::str::from_utf8;

use crate::kintone::day::Day;
use crate::model::{Account, AppId, CountedApp, Purpose, Tenant};

use crate::quota::record::{SLOTS, SlotNumber, WORDS, Words};

/// Of which calls a slot keeps count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) account: Account,
    pub(super) app: CountedApp,
    pub(super) purpose: Option<Purpose>,
    pub(super) tenant: Option<Tenant>,
}

/// A slot as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) slot: SlotNumber,
    pub(super) day: Day,
    pub(super) key: Key,
    /// Calls begun.
    pub(super) requests: u64,
    /// Those of them of which it is not certain that a byte was sent: their process was killed in
    /// that instant.
    pub(super) uncertain: u64,
    /// The highest warning given of its app, in percent of the budget.
    pub(super) warned: u64,
}

/// Why a slot or a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

const HEADER_WORDS: usize = 512;
const SLOT_WORDS: usize = 64;
const NAMES_AT: usize = 6;
/// Longest names that a slot takes, in bytes: a DNS name has at most 253, a tenant 64, a purpose 24.
const NAME_BYTES_MAX: usize = (SLOT_WORDS - NAMES_AT) * 8;
/// What the length of a name is written in.
const LENGTH_MAX: usize = u8::MAX as usize;

const MAGIC: u64 = u64::from_ne_bytes(*b"kecounts");
const VERSION: u64 = 1;
const FORMAT: u64 = VERSION << 32 | SLOTS as u64;

/// The header's words.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub(super) enum Header {
    Magic,
    Format,
    Archived,
    Used,
    Unplaced,
}

/// A slot's words that change.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub(super) enum Field {
    Begun = 1,
    Certain = 2,
    Warned = 3,
}

impl Header {
    pub(super) fn load(self, words: &impl Words) -> u64 {
        words.load(self as usize)
    }

    pub(super) fn store(self, words: &impl Words, word: u64) {
        words.store(self as usize, word);
    }
}

impl Field {
    /// Where it lies in the file.
    pub(super) const fn of(self, slot: SlotNumber) -> usize {
        at(slot) + self as usize
    }
}

/// Makes zeroed words an empty file.
pub(super) fn begin(words: &impl Words) {
    Header::Format.store(words, FORMAT);
    Header::Magic.store(words, MAGIC);
}

/// Whether this is a file of this layout.
pub(super) fn is_ours(words: &impl Words) -> bool {
    Header::Magic.load(words) == MAGIC && Header::Format.load(words) == FORMAT
}

/// The last day that is in the archive.
pub(super) fn archived(words: &impl Words) -> Option<Day> {
    let number = u32::try_from(Header::Archived.load(words)).ok()?;
    Day::from_number(number.checked_sub(1)?)
}

/// Everything up to that day is in the archive.
pub(super) fn set_archived(words: &impl Words, day: Day) {
    Header::Archived.store(words, u64::from(day.number()) + 1);
}

/// Makes a vacant slot one of `day`, nothing counted; `false`, and nothing is written, if its names
/// are too long for any.
pub(super) fn write(words: &impl Words, slot: SlotNumber, day: Day, key: &Key) -> bool {
    let parts = key.names();
    let lengths = parts.map(str::len);
    let length: usize = lengths.iter().sum();
    if lengths.iter().any(|length| *length > LENGTH_MAX) || length > NAME_BYTES_MAX {
        return false;
    }
    let mut names = [0; NAME_BYTES_MAX];
    for (byte, name) in names
        .iter_mut()
        .zip(parts.iter().flat_map(|part| part.bytes()))
    {
        *byte = name;
    }
    let (kind, app) = match key.app {
        CountedApp::Known(AppId(app)) => (1, app),
        CountedApp::Unknown => (2, 0),
        CountedApp::Other => (3, 0),
    };
    let lengths = lengths.iter().zip([8, 16, 24]);
    let lengths = lengths.fold(0, |word, (length, shift)| word | (*length as u64) << shift);
    let state = u64::from(day.number()) << 32 | lengths | kind;
    let at = at(slot);
    let (words_of_names, _) = names.as_chunks::<8>();
    for (index, bytes) in words_of_names.iter().enumerate() {
        words.store(at + NAMES_AT + index, u64::from_ne_bytes(*bytes));
    }
    for field in [Field::Begun, Field::Certain, Field::Warned] {
        words.store(field.of(slot), 0);
    }
    words.store(at + 4, app);
    words.store(at + 5, check(state, app, &names));
    words.store(at, state);
    true
}

/// Writes a row with all that was counted: into a file that nobody uses yet.
pub(super) fn copy(words: &impl Words, slot: SlotNumber, row: &Row) {
    if write(words, slot, row.day, &row.key) {
        words.store(Field::Begun.of(slot), row.requests);
        words.store(
            Field::Certain.of(slot),
            row.requests.saturating_sub(row.uncertain),
        );
        words.store(Field::Warned.of(slot), row.warned);
    }
}

/// Nothing is counted there any more.
pub(super) fn vacate(words: &impl Words, slot: SlotNumber) {
    words.store(at(slot), 0);
}

/// The day that a slot is of; `None`: it is vacant.
pub(super) fn day(words: &impl Words, slot: SlotNumber) -> Option<Day> {
    let state = words.load(at(slot));
    (state != 0)
        .then(|| Day::from_number((state >> 32) as u32))
        .flatten()
}

/// What a slot holds.
pub(super) fn read(words: &impl Words, slot: SlotNumber) -> Result<Option<Row>, Unreadable> {
    let at = at(slot);
    let state = words.load(at);
    if state == 0 {
        return Ok(None);
    }
    let mut names = [0; NAME_BYTES_MAX];
    let (words_of_names, _) = names.as_chunks_mut::<8>();
    for (index, bytes) in words_of_names.iter_mut().enumerate() {
        *bytes = words.load(at + NAMES_AT + index).to_ne_bytes();
    }
    let app = words.load(at + 4);
    if words.load(at + 5) != check(state, app, &names) {
        return Err(Unreadable);
    }
    let row = || {
        let [kind, account, tenant, purpose] = [0, 8, 16, 24].map(|shift| (state >> shift) as u8);
        let (account, rest) = names.split_at_checked(account.into())?;
        let (tenant, rest) = rest.split_at_checked(tenant.into())?;
        let purpose = from_utf8(rest.get(..purpose.into())?).ok()?;
        let (account, tenant) = (from_utf8(account).ok()?, from_utf8(tenant).ok()?);
        let key = Key {
            account: Account::from_normal(account),
            app: match kind {
                1 => CountedApp::Known(AppId(app)),
                2 => CountedApp::Unknown,
                3 => CountedApp::Other,
                _ => return None,
            },
            purpose: optional(purpose, Purpose::parse)?,
            tenant: optional(tenant, |tenant| Tenant::parse(tenant).ok())?,
        };
        let requests = words.load(Field::Begun.of(slot));
        Some(Row {
            slot,
            day: Day::from_number((state >> 32) as u32)?,
            key,
            requests,
            uncertain: requests.saturating_sub(words.load(Field::Certain.of(slot))),
            warned: words.load(Field::Warned.of(slot)),
        })
    };
    row().map(Some).ok_or(Unreadable)
}

impl Key {
    fn names(&self) -> [&str; 3] {
        let tenant = self.tenant.as_ref().map_or("", Tenant::as_str);
        let purpose = self.purpose.as_ref().map_or("", Purpose::as_str);
        [self.account.as_str(), tenant, purpose]
    }
}

const fn at(slot: SlotNumber) -> usize {
    HEADER_WORDS + slot.0 as usize * SLOT_WORDS
}

/// Slots that lie in so many bytes of a file, the last one perhaps in part.
pub(super) fn slots_in(bytes: usize) -> u32 {
    let slots = (bytes / 8)
        .saturating_sub(HEADER_WORDS)
        .div_ceil(SLOT_WORDS);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Nothing for an empty text, else what `parse` makes of it.
pub(super) fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() {
        return Some(None);
    }
    parse(text).map(Some)
}

/// FNV-1a over what a slot is of: a damaged one is not taken for another.
fn check(state: u64, app: u64, names: &[u8; NAME_BYTES_MAX]) -> u64 {
    let bytes = state.to_ne_bytes().into_iter().chain(app.to_ne_bytes());
    let bytes = bytes.chain(names.iter().copied());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A file that was read, not mapped: what there is of it.
pub(super) struct Copied(pub(super) Vec<u64>);

impl Words for Copied {
    fn load(&self, index: usize) -> u64 {
        self.0.get(index).copied().unwrap_or(0)
    }

    fn store(&self, _index: usize, _word: u64) {}

    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}

const _: () = assert!(HEADER_WORDS + SLOTS as usize * SLOT_WORDS == WORDS);
