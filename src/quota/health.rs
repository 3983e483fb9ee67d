//! What an answer says about its account, and what an account's circuit is like.

use std::time::Duration;

use crate::model::Cause;

/// What an answer says about the account, whatever it says about the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// kintone knows the account and serves it.
    Serving,
    /// kintone is in maintenance.
    Maintenance,
    /// kintone does not know the domain.
    NoSuchDomain,
    /// None of these for certain.
    Unclear,
}

/// What a step has changed that people want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// kintone is in maintenance; calls are refused.
    Opened,
    /// kintone serves again.
    Recovered,
    /// It was said often enough that the domain does not exist: this many times.
    Unknown(u32),
}

/// A circuit at one instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls go.
    #[default]
    Closed,
    /// kintone answered as in maintenance, not often enough yet: calls go one at a time.
    Suspect,
    /// kintone is in maintenance: calls are refused for so long.
    Open(Duration),
    /// Maintenance was announced: calls are refused for so long.
    Planned(Duration),
    /// One call at a time goes to see whether kintone serves again; the others wait for its answer.
    Probing,
    /// kintone serves again: so many calls at once.
    Rising(u32),
    /// kintone does not know the domain: calls are refused until somebody confirms it.
    Unknown,
}

impl Health {
    /// What a failure that kintone reported says about the account.
    pub(super) const fn of(cause: Cause) -> Self {
        match cause {
            Cause::Maintenance => Self::Maintenance,
            Cause::AccountUnknown => Self::NoSuchDomain,
            Cause::UpstreamError | Cause::Unclassified => Self::Unclear,
            Cause::IpNotAllowlisted
            | Cause::AccountConcurrency
            | Cause::CursorCapacity
            | Cause::Authentication
            | Cause::Permission
            | Cause::NotFound
            | Cause::Conflict
            | Cause::DatabaseLock => Self::Serving,
        }
    }
}

impl CircuitState {
    /// Its word in metrics and the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Suspect => "suspect",
            Self::Open(_) => "open",
            Self::Planned(_) => "planned",
            Self::Probing => "probing",
            Self::Rising(_) => "rising",
            Self::Unknown => "unknown",
        }
    }
}
