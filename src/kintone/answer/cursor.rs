//! The identifier of a new cursor in the answer to the call that makes it.

use std::ops::ControlFlow;

use super::coded::{CodedReader, Coding};
use crate::kintone::cursor::CursorId;
use crate::kintone::json::{Seek, Step, Value};

/// Reads the answer to a call that makes a cursor.
pub struct CursorReader(CodedReader<Finder>);

#[derive(Debug, Default)]
struct Finder(Option<CursorId>);

impl CursorReader {
    /// For an answer that is compressed so.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        Self(CodedReader::new(coding, Finder::default()))
    }

    /// Reads the next piece, of any size.
    pub fn feed(&mut self, piece: &[u8]) {
        self.0.feed(piece);
    }

    /// The cursor, once it is known.
    #[must_use]
    pub fn cursor(&self) -> Option<&CursorId> {
        self.0.seek()?.0.as_ref()
    }
}

impl Seek for Finder {
    fn value(&mut self, path: &[Step], value: Value<'_>) -> ControlFlow<()> {
        match (path, value) {
            ([Step::Id], Value::Text(id)) => {
                self.0 = std::str::from_utf8(id).ok().and_then(CursorId::parse);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn closed(&mut self, _: &[Step]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
