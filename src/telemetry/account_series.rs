//! The series of one account, and its last failures.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec};

use super::callers::{MODES, mode_label, mode_of, mode_place};
use super::labels::Rejection;
use super::metrics::Metrics;
use super::record::Record;
use crate::model::{Cause, Code, Mode, Outcome, RequestId};

/// An account's label: its domain, or `other`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountLabel(Arc<str>);

/// A call that did not succeed, as the API shows it.
#[derive(Clone, Debug)]
pub struct RecentFailure {
    /// When it ended.
    pub at: Timestamp,
    /// The call.
    pub id: RequestId,
    /// The status that the caller saw.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// What exactly happened, one word.
    pub detail: Option<&'static str>,
    /// Why kintone failed it.
    pub cause: Option<Cause>,
    /// kintone's code.
    pub kintone_code: Option<Box<str>>,
    /// kintone's identifier.
    pub kintone_id: Option<Box<str>>,
}

/// The series of one account. Each is made when it first counts.
#[derive(Debug)]
pub struct AccountSeries {
    label: AccountLabel,
    requests: [OnceLock<IntCounter>; MODES],
    refused: [OnceLock<IntCounter>; Code::ALL.len()],
    failed: [OnceLock<IntCounter>; Cause::ALL.len()],
    broken: [OnceLock<IntCounter>; Code::ALL.len()],
    rejections: [OnceLock<IntCounter>; Rejection::ALL.len()],
    recent: Mutex<VecDeque<RecentFailure>>,
}

/// The label of every account without series of its own.
pub const OTHER: &str = "other";

/// Failures of an account that are remembered for the API.
const FAILURES_KEPT: usize = 20;

impl AccountLabel {
    /// The label's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for several accounts.
    #[must_use]
    pub fn is_other(&self) -> bool {
        &*self.0 == OTHER
    }
}

impl fmt::Debug for AccountLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AccountSeries {
    /// No series yet, for this label.
    #[must_use]
    pub fn new(label: &str) -> Self {
        Self {
            label: AccountLabel(label.into()),
            requests: Default::default(),
            refused: Default::default(),
            failed: Default::default(),
            broken: Default::default(),
            rejections: Default::default(),
            recent: Mutex::default(),
        }
    }

    /// Counts a call that ended, and remembers it if it failed.
    pub fn count(&self, metrics: &Metrics, record: &Record, now: Timestamp) {
        self.request(metrics, mode_of(record)).inc();
        if let Outcome::Refused(code) = record.outcome {
            if own_cause(code).is_some() {
                self.broken(metrics, code).inc();
            } else {
                self.refused(metrics, code).inc();
            }
        } else if let Some(cause) = record.cause {
            self.failed(metrics, cause).inc();
        }
        if let Some(rejection) = rejection(record) {
            self.rejection(metrics, rejection).inc();
        }
        let failed = record.cause.is_some() || matches!(record.outcome, Outcome::Refused(_));
        if failed && !self.label.is_other() {
            self.remember(record, now);
        }
    }

    /// The label.
    #[must_use]
    pub const fn label(&self) -> &AccountLabel {
        &self.label
    }

    /// The last failures, the newest first.
    #[must_use]
    pub fn recent_failures(&self) -> Vec<RecentFailure> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().rev().cloned().collect()
    }

    fn remember(&self, record: &Record, now: Timestamp) {
        let failure = RecentFailure {
            at: now,
            id: record.id,
            status: record.status,
            outcome: record.outcome,
            detail: record.detail.map(|detail| detail.label()),
            cause: record.cause,
            kintone_code: record.kintone_code.clone(),
            kintone_id: record.kintone_id.clone(),
        };
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == FAILURES_KEPT {
            recent.pop_front();
        }
        recent.push_back(failure);
    }

    fn request(&self, metrics: &Metrics, mode: Option<Mode>) -> &IntCounter {
        self.requests[mode_place(mode)]
            .get_or_init(|| self.make(&metrics.account_requests_total, mode_label(mode)))
    }

    fn refused(&self, metrics: &Metrics, code: Code) -> &IntCounter {
        self.refused[code as usize]
            .get_or_init(|| self.make(&metrics.account_refused_total, code.label()))
    }

    fn failed(&self, metrics: &Metrics, cause: Cause) -> &IntCounter {
        self.failed[cause as usize]
            .get_or_init(|| self.make(&metrics.account_failures_total, cause.label()))
    }

    fn broken(&self, metrics: &Metrics, code: Code) -> &IntCounter {
        self.broken[code as usize].get_or_init(|| {
            let cause = own_cause(code).unwrap_or_else(|| code.label());
            self.make(&metrics.account_failures_total, cause)
        })
    }

    /// Refusals of kintone for a limit or maintenance.
    pub fn rejection(&self, metrics: &Metrics, rejection: Rejection) -> &IntCounter {
        self.rejections[rejection as usize]
            .get_or_init(|| self.make(&metrics.kintone_rejections_total, rejection.label()))
    }

    fn make(&self, of: &IntCounterVec, second: &str) -> IntCounter {
        of.with_label_values(&[self.label.as_str(), second])
    }

    /// Adds every count to `other` and takes the own series out of the exposition.
    pub fn merge_into(&self, other: &Self, metrics: &Metrics) {
        for (place, mode) in modes().enumerate() {
            if let Some(count) = self.requests[place].get() {
                other.request(metrics, mode).inc_by(count.get());
                self.remove(&metrics.account_requests_total, mode_label(mode));
            }
        }
        for code in Code::ALL {
            if let Some(count) = self.refused[code as usize].get() {
                other.refused(metrics, code).inc_by(count.get());
                self.remove(&metrics.account_refused_total, code.label());
            }
            if let Some(count) = self.broken[code as usize].get() {
                other.broken(metrics, code).inc_by(count.get());
                self.remove(
                    &metrics.account_failures_total,
                    own_cause(code).unwrap_or_else(|| code.label()),
                );
            }
        }
        for &cause in Cause::ALL {
            if let Some(count) = self.failed[cause as usize].get() {
                other.failed(metrics, cause).inc_by(count.get());
                self.remove(&metrics.account_failures_total, cause.label());
            }
        }
        for &rejection in Rejection::ALL {
            if let Some(count) = self.rejections[rejection as usize].get() {
                other.rejection(metrics, rejection).inc_by(count.get());
                self.remove(&metrics.kintone_rejections_total, rejection.label());
            }
        }
    }

    fn remove(&self, from: &IntCounterVec, second: &str) {
        // Only a series that exists is removed, so this cannot fail.
        let _ = from.remove_label_values(&[self.label.as_str(), second]);
    }
}

/// The cause under which a failure of ours is counted; `None` for refusals.
const fn own_cause(code: Code) -> Option<&'static str> {
    match code {
        Code::UpstreamDns => Some("upstream-dns"),
        Code::UpstreamConnect => Some("upstream-connect"),
        Code::UpstreamTls => Some("upstream-tls"),
        Code::UpstreamTimeout => Some("upstream-timeout"),
        Code::UpstreamReset => Some("upstream-reset"),
        Code::Internal => Some("internal"),
        Code::BadRequest
        | Code::Misdirected
        | Code::AuthenticationRequired
        | Code::DestinationForbidden
        | Code::CallerForbidden
        | Code::AccountUnknown
        | Code::RateLimited
        | Code::QueueFull
        | Code::WaitExceeded
        | Code::DailyBudget
        | Code::EgressUnavailable
        | Code::Draining
        | Code::Overloaded
        | Code::AccountMaintenance => None,
    }
}

/// The refusal for a limit or maintenance that kintone answered with, if it was one.
fn rejection(record: &Record) -> Option<Rejection> {
    match record.kintone_code.as_deref() {
        Some("GAIA_TO04") => Some(Rejection::ConcurrencyAdmission),
        Some("GAIA_TM12") => Some(Rejection::ConcurrencyAfter),
        _ => (record.outcome == Outcome::KintoneError && record.status == Some(503))
            .then_some(Rejection::Unavailable),
    }
}

fn modes() -> impl Iterator<Item = Option<Mode>> {
    Mode::ALL.into_iter().map(Some).chain([None])
}
