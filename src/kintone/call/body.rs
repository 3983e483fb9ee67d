//! Apps and cursors in a JSON body, found while it passes.

use std::ops::ControlFlow;

use super::apps::{Apps, number};
use super::grammar::{Look, is_for_one_app};
use crate::kintone::cursor::CursorId;
use crate::kintone::json::{Progress, Scanner, Seek, Step, Value};
use crate::model::AppId;

/// How much of a body is read. Behind it apps stay unknown; the body itself goes on. Reading costs
/// about a nanosecond a byte and holds none of them, so this bounds the processor time that one
/// call can take; twenty bulk requests with a hundred records of 8 KiB each still fit.
pub const READ_MAX: u64 = 16 << 20;

/// Most entries that are read of a list: kintone's own limit for a deployment; a bulk request has
/// at most 20.
const ENTRIES_MAX: u32 = 300;

/// Reads a call's body piece by piece. It keeps the apps that it found, and nothing of the body.
///
/// Of a name that stands twice in one object the first is believed, since nothing is read behind
/// what was looked for; what kintone makes of such a body is not known (RFC 8259 section 4).
#[derive(Debug)]
pub struct BodyReader {
    scanner: Scanner,
    finder: Finder,
    read: u64,
}

/// What a body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// The apps it names; `None` if it names none.
    pub(super) apps: Option<Apps>,
    /// The cursor it names.
    pub(super) cursor: Option<CursorId>,
}

#[derive(Debug)]
struct Finder {
    look: Look,
    apps: Apps,
    cursor: Option<CursorId>,
    entries: u32,
    /// The entry of a list that is being read.
    entry: Entry,
}

#[derive(Debug, Default)]
struct Entry {
    app: Option<AppId>,
    is_known_api: bool,
    is_known_method: bool,
}

impl BodyReader {
    pub(super) fn new(look: Look) -> Self {
        Self {
            scanner: Scanner::default(),
            finder: Finder {
                look,
                apps: Apps::NONE,
                cursor: None,
                entries: 0,
                entry: Entry::default(),
            },
            read: 0,
        }
    }

    /// Reads the next piece, of any size. Costs nothing once all is found.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.scanner.progress() != Progress::Open || self.read >= READ_MAX {
            return;
        }
        let left = usize::try_from(READ_MAX - self.read).unwrap_or(usize::MAX);
        let piece = &piece[..piece.len().min(left)];
        self.read += piece.len() as u64;
        self.scanner.feed(piece, &mut self.finder);
    }

    /// Whether more of the body would say nothing more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.scanner.progress() != Progress::Open || self.read >= READ_MAX
    }

    /// What the pieces so far have said.
    pub(super) fn said(&self) -> Said {
        let mut apps = self.finder.apps.clone();
        match self.scanner.progress() {
            Progress::Complete | Progress::Stopped => {}
            Progress::Open if self.read == 0 => {}
            Progress::Open | Progress::Malformed => apps.doubt(),
        }
        Said {
            apps: (apps != Apps::NONE).then_some(apps),
            cursor: self.finder.cursor.clone(),
        }
    }
}

impl Finder {
    /// One more entry of a list.
    fn entry(&mut self, app: Option<AppId>) -> ControlFlow<()> {
        self.entries += 1;
        match app {
            Some(app) if self.entries <= ENTRIES_MAX => self.apps.add(app),
            Some(_) | None => self.apps.doubt(),
        }
        if self.entries > ENTRIES_MAX {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// The one value that is looked for.
    fn only(&mut self, app: Option<AppId>) -> ControlFlow<()> {
        match app {
            Some(app) => self.apps.add(app),
            None => self.apps.doubt(),
        }
        ControlFlow::Break(())
    }
}

impl Seek for Finder {
    fn value(&mut self, path: &[Step], value: Value<'_>) -> ControlFlow<()> {
        match (self.look, path) {
            (Look::App, [Step::App]) | (Look::Id, [Step::Id]) => return self.only(app(value)),
            (Look::Cursor, [Step::Id]) => {
                self.cursor = text(value).and_then(CursorId::parse);
                return ControlFlow::Break(());
            }
            (Look::Deployment, [Step::Apps, Step::Element]) => return self.entry(app(value)),
            (Look::Bulk, [Step::Requests, Step::Element]) => return self.entry(None),
            (Look::Deployment, [Step::Apps, Step::Element, Step::App])
            | (Look::Bulk, [Step::Requests, Step::Element, Step::Payload, Step::App]) => {
                self.entry.app = app(value);
            }
            (Look::Bulk, [Step::Requests, Step::Element, Step::Api]) => {
                self.entry.is_known_api = text(value).is_some_and(is_for_one_app);
            }
            (Look::Bulk, [Step::Requests, Step::Element, Step::Method]) => {
                self.entry.is_known_method = matches!(text(value), Some("POST" | "PUT" | "DELETE"));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn closed(&mut self, path: &[Step]) -> ControlFlow<()> {
        let entry = match (self.look, path) {
            (Look::App, [Step::App]) | (Look::Id, [Step::Id]) => return self.only(None),
            (Look::Cursor, [Step::Id]) => return ControlFlow::Break(()),
            (Look::Deployment, [Step::Apps, Step::Element]) => std::mem::take(&mut self.entry),
            (Look::Bulk, [Step::Requests, Step::Element]) => {
                let mut entry = std::mem::take(&mut self.entry);
                if !(entry.is_known_api && entry.is_known_method) {
                    entry.app = None;
                }
                entry
            }
            _ => return ControlFlow::Continue(()),
        };
        self.entry(entry.app)
    }
}

fn app(value: Value<'_>) -> Option<AppId> {
    match value {
        Value::Text(digits) | Value::Bare(digits) => number(digits),
        Value::Long => None,
    }
}

fn text(value: Value<'_>) -> Option<&str> {
    match value {
        Value::Text(text) => std::str::from_utf8(text).ok(),
        Value::Bare(_) | Value::Long => None,
    }
}
