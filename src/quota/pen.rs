//! Writes down what one account has in flight.

use crate::model::{Account, Priority, Tenant};

use super::record::{Line, Record};

/// Writes into the record; without one, nowhere.
#[derive(Debug)]
pub(super) struct Pen {
    pub(super) record: Option<Record>,
}

impl Pen {
    /// Writes down a call, before its first byte.
    pub(super) fn begin(
        &self,
        account: &Account,
        tenant: &Tenant,
        priority: Priority,
        permits: u32,
    ) -> Option<Line> {
        let record = self.record.as_ref()?;
        Some(record.begin(account, tenant, priority, permits))
    }

    /// The call was aborted now.
    pub(super) fn abort(&self, line: Line) {
        if let Some(record) = &self.record {
            record.abort(line);
        }
    }

    /// The call holds fewer permits than before.
    pub(super) fn resize(&self, line: Line, permits: u32) {
        if let Some(record) = &self.record {
            record.resize(line, permits);
        }
    }

    /// Nothing of the call is at kintone any more.
    pub(super) fn end(&self, line: Line) {
        if let Some(record) = &self.record {
            record.end(line);
        }
    }
}
