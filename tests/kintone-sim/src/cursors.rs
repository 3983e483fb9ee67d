//! The cursors of an account: what each has left to give, and until when it lives.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::error::ApiError;

/// Most cursors that an account may have at once.
const CURSORS_MAX: usize = 10;
/// How long a cursor lives after it was made or read.
const LIFE: Duration = Duration::from_secs(10 * 60);

/// All cursors of an account.
#[derive(Default)]
pub(crate) struct Cursors(HashMap<String, Cursor>);

struct Cursor {
    app: u64,
    /// Most records of a page.
    size: usize,
    /// The records that were not given out yet, the next one last.
    left: Vec<Value>,
    dies: Instant,
}

/// What reading a cursor gives.
pub(crate) struct Page {
    pub(crate) records: Vec<Value>,
    pub(crate) next: Next,
}

/// Whether a cursor has more; one that has not is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    More,
    Nothing,
}

impl Cursors {
    /// Makes a cursor over the records of an app; gives its identifier.
    ///
    /// # Errors
    /// GAIA_TM12 when the account has its ten.
    pub(crate) fn create(
        &mut self,
        app: u64,
        size: usize,
        mut records: Vec<Value>,
    ) -> Result<String, ApiError> {
        self.bury();
        if self.0.len() >= CURSORS_MAX {
            return Err(too_many());
        }
        records.reverse();
        let cursor = Cursor {
            app,
            size,
            left: records,
            dies: Instant::now() + LIFE,
        };
        let id = crate::draw::uuid();
        self.0.insert(id.clone(), cursor);
        Ok(id)
    }

    /// The app that a cursor reads.
    ///
    /// # Errors
    /// GAIA_CN01 when there is no such cursor, or none any more.
    pub(crate) fn app(&mut self, id: &str) -> Result<u64, ApiError> {
        self.bury();
        self.0.get(id).map(|cursor| cursor.app).ok_or_else(gone)
    }

    /// The next page. The last one takes the cursor away.
    ///
    /// # Errors
    /// GAIA_CN01.
    pub(crate) fn read(&mut self, id: &str) -> Result<Page, ApiError> {
        self.bury();
        let cursor = self.0.get_mut(id).ok_or_else(gone)?;
        cursor.dies = Instant::now() + LIFE;
        let from = cursor.left.len().saturating_sub(cursor.size);
        let mut records = cursor.left.split_off(from);
        records.reverse();
        let next = if cursor.left.is_empty() {
            self.0.remove(id);
            Next::Nothing
        } else {
            Next::More
        };
        Ok(Page { records, next })
    }

    /// # Errors
    /// GAIA_CN01.
    pub(crate) fn delete(&mut self, id: &str) -> Result<(), ApiError> {
        self.bury();
        self.0.remove(id).map(drop).ok_or_else(gone)
    }

    fn bury(&mut self) {
        let now = Instant::now();
        self.0.retain(|_, cursor| cursor.dies > now);
    }
}

fn too_many() -> ApiError {
    ApiError::new(
        429,
        "GAIA_TM12",
        "The cursor cannot be created because the number of cursors has reached the limit. Delete unnecessary cursors or try again later.",
        "作成できるカーソルの上限に達しているため、カーソルを作成できません。不要なカーソルを削除するか、しばらく経ってから再実行してください。",
    )
}

fn gone() -> ApiError {
    ApiError::new(
        404,
        "GAIA_CN01",
        "The specified cursor does not exist or has already expired.",
        "指定したカーソルは存在しないか、既に有効期限が切れています。",
    )
}
