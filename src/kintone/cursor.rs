//! Cursors: only the call that makes one names its app, later ones name the cursor. So it is
//! remembered which app a cursor belongs to.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;

use crate::model::{Account, AppId};

/// How long kintone keeps a cursor after it was last read
/// (<https://cybozu.dev/ja/kintone/docs/rest-api/records/add-cursor/>).
pub const LIFE: Duration = Duration::from_mins(10);

/// Most cursors that are remembered: ten, all that kintone allows, of each of a thousand accounts;
/// some 2 MiB. Beyond, the oldest is forgotten and its calls are about an unknown app.
const CURSORS_MAX: usize = 10_000;

/// Longest identifier, in bytes. kintone's are UUIDs.
const ID_MAX: usize = 64;

/// kintone's identifier of a cursor.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CursorId(Box<str>);

/// The cursors that were made through this host, and their apps.
#[derive(Debug, Default)]
pub struct Cursors(Mutex<Memory>);

type Key = (Account, CursorId);

#[derive(Debug, Default)]
struct Memory {
    apps: HashMap<Key, Entry>,
    /// Every key of `apps` once, by the time at which it is looked at again: not later than its
    /// end.
    checks: VecDeque<(Instant, Key)>,
}

#[derive(Debug)]
struct Entry {
    app: AppId,
    until: Instant,
}

impl CursorId {
    /// Takes an identifier of up to 64 visible ASCII characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id =
            (1..=ID_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        is_id.then(|| Self(text.into()))
    }
}

impl fmt::Debug for CursorId {
    /// Without the identifier: with it, and a right, one can read the records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorId")
    }
}

impl Cursors {
    /// kintone has made the cursor `id` for `app`.
    pub fn remember(&self, account: &Account, id: CursorId, app: AppId, now: Instant) {
        let key = (account.clone(), id);
        let until = now + LIFE;
        let mut memory = self.lock();
        memory.forget_old(now);
        let is_new = memory
            .apps
            .insert(key.clone(), Entry { app, until })
            .is_none();
        if is_new {
            memory.checks.push_back((until, key));
        }
    }

    /// The app of a cursor that is used now, which makes it live on.
    pub fn app(&self, account: &Account, id: &CursorId, now: Instant) -> Option<AppId> {
        let key = (account.clone(), id.clone());
        let mut memory = self.lock();
        let entry = memory
            .apps
            .get_mut(&key)
            .filter(|entry| entry.until > now)?;
        entry.until = now + LIFE;
        Some(entry.app)
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Forgets what has ended, and the oldest where there is no room for another one.
    fn forget_old(&mut self, now: Instant) {
        while let Some((check, _)) = self.checks.front() {
            let is_full = self.apps.len() >= CURSORS_MAX;
            if *check > now && !is_full {
                return;
            }
            let Some((_, key)) = self.checks.pop_front() else {
                return;
            };
            match self.apps.get(&key) {
                Some(entry) if entry.until > now && !is_full => {
                    self.checks.push_back((entry.until, key));
                }
                Some(_) | None => {
                    self.apps.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> CursorId {
        CursorId::parse(text).unwrap()
    }

    #[test]
    fn a_cursor_lives_ten_minutes_from_its_last_use_and_belongs_to_one_account() {
        let (acme, other) = ["acme.cybozu.com", "other.cybozu.com"]
            .map(Account::from_normal)
            .into();
        let cursors = Cursors::default();
        let start = Instant::now();
        let at = |minutes| start + Duration::from_mins(minutes);
        cursors.remember(&acme, id("c"), AppId(7), at(0));
        assert_eq!(cursors.app(&other, &id("c"), at(1)), None);
        assert_eq!(cursors.app(&acme, &id("c"), at(9)), Some(AppId(7)));
        assert_eq!(cursors.app(&acme, &id("c"), at(18)), Some(AppId(7)));
        assert_eq!(cursors.app(&acme, &id("c"), at(28)), None);
    }

    #[test]
    fn what_has_ended_is_forgotten_and_what_is_used_is_not() {
        let acme = Account::from_normal("acme.cybozu.com");
        let cursors = Cursors::default();
        let start = Instant::now();
        let at = |minutes| start + Duration::from_mins(minutes);
        for n in 0..100 {
            cursors.remember(&acme, id(&format!("old-{n}")), AppId(1), at(0));
        }
        assert!(cursors.app(&acme, &id("old-50"), at(9)).is_some());
        cursors.remember(&acme, id("new"), AppId(2), at(11));
        let memory = cursors.lock();
        assert_eq!((memory.apps.len(), memory.checks.len()), (2, 2));
    }

    #[test]
    fn memory_is_bounded() {
        let acme = Account::from_normal("acme.cybozu.com");
        let cursors = Cursors::default();
        let now = Instant::now();
        for n in 0..CURSORS_MAX + 500 {
            cursors.remember(&acme, id(&format!("c{n}")), AppId(1), now);
            cursors.remember(&acme, id(&format!("c{n}")), AppId(1), now);
        }
        let memory = cursors.lock();
        assert!(memory.apps.len() <= CURSORS_MAX);
        assert_eq!(memory.apps.len(), memory.checks.len());
        drop(memory);
        assert_eq!(cursors.app(&acme, &id("c0"), now), None);
        assert!(
            cursors
                .app(&acme, &id(&format!("c{}", CURSORS_MAX + 499)), now)
                .is_some()
        );
    }

    #[test]
    fn identifiers_are_short_and_visible() {
        assert!(CursorId::parse("9a9716fe-1394-4677-a1c7-2199a5d28215").is_some());
        for no in ["", "a b", "カーソル", &"a".repeat(ID_MAX + 1)] {
            assert!(CursorId::parse(no).is_none(), "{no:?}");
        }
    }
}
