//! A cursor that kintone has just made: its name is learned from the answer as it passes, so that
//! the calls that read it are known to be about its app.

use std::sync::Arc;

use tokio::time::Instant;

use crate::kintone::answer::{Coding, CursorReader};
use crate::kintone::cursor::Cursors;
use crate::model::{Account, AppId};

/// Waits for the name of a new cursor.
pub(crate) struct Newborn(Box<Waiting>);

struct Waiting {
    reader: CursorReader,
    cursors: Arc<Cursors>,
    account: Account,
    app: AppId,
    is_named: bool,
}

impl Newborn {
    /// A cursor of `app`, named by an answer that is compressed so.
    pub(crate) fn new(cursors: Arc<Cursors>, account: Account, app: AppId, coding: Coding) -> Self {
        Self(Box::new(Waiting {
            reader: CursorReader::new(coding),
            cursors,
            account,
            app,
            is_named: false,
        }))
    }

    /// Reads the next piece of the answer, before the caller gets it: it may use the cursor at
    /// once.
    pub(crate) fn read(&mut self, piece: &[u8]) {
        let waiting = &mut *self.0;
        if waiting.is_named {
            return;
        }
        waiting.reader.feed(piece);
        if let Some(cursor) = waiting.reader.cursor() {
            waiting.is_named = true;
            let now = Instant::now().into_std();
            let (cursors, account) = (&waiting.cursors, &waiting.account);
            cursors.remember(account, cursor.clone(), waiting.app, now);
        }
    }
}
