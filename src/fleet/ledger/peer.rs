//! What this host knows of another one.

use std::sync::Arc;
use std::time::Duration;

use crate::fleet::moment::Moment;
use crate::fleet::row::{Row, Stamp};

/// Another host, or this one in its own place.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Peer {
    /// Its newest row that was taken into account.
    pub(super) seen: Stamp,
    /// The start of it, and the greatest number among the loans of its rows.
    pub(super) numbered: Stamp,
    /// When that row came.
    pub(super) heard_at: Option<Moment>,
    /// That row.
    pub(super) row: Option<Arc<Row>>,
}

/// A row older than this says nothing of what its host wants.
pub(super) const FRESH: Duration = Duration::from_secs(5);

impl Peer {
    /// Its row, if it is of late.
    pub(super) fn fresh(&self, now: Moment) -> Option<&Row> {
        let heard_at = self.heard_at?;
        let row = self.row.as_deref()?;
        (now.since(heard_at) <= FRESH).then_some(row)
    }

    /// Whether it was not heard of for so long, by a ledger that began then.
    pub(super) fn is_silent(&self, now: Moment, span: Duration, began_at: Moment) -> bool {
        now.since(self.heard_at.unwrap_or(began_at)) >= span
    }
}
