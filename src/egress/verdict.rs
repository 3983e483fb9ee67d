//! How an attempt to reach kintone ended.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::model::{Denial, Detail, Failure};

/// How long each step took; `None` where there was no such step, or it was never reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Name resolution, the cache included. `None` for a static answer.
    pub dns: Option<Duration>,
    /// TCP connect, to the address that answered in the end.
    pub connect: Option<Duration>,
    /// TLS handshake.
    pub tls: Option<Duration>,
}

/// Kintone was not reached. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{verdict:?}")]
pub struct ConnectError {
    /// A refusal of ours, or a failure on the way.
    pub verdict: Verdict,
    /// How far it came, and when.
    pub timings: Timings,
    /// The last address that was dialled.
    pub upstream: Option<SocketAddrV4>,
}

/// A refusal of ours, or a failure on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// We refuse.
    Denied(Denial),
    /// It broke.
    Failed(Failure),
}

/// The results that connects are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectResult {
    /// The connection stood (with TLS, where it is ours).
    Ok,
    /// The source address was not on this host.
    AddressAbsent,
    /// A local resource ran out.
    Overloaded,
    /// Nobody listened.
    Refused,
    /// No answer in time.
    Timeout,
    /// No route, or the connection broke at once.
    Unreachable,
    /// The TLS handshake failed.
    Tls,
}

impl ConnectResult {
    /// Every one there is, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::AddressAbsent,
        Self::Overloaded,
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::Tls,
    ];

    /// The word used in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::AddressAbsent => "address_absent",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
        }
    }

    /// What a failed dial or handshake counts as.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Denied(Denial::EgressUnavailable(_)) => Self::AddressAbsent,
            Verdict::Denied(_) => Self::Overloaded,
            Verdict::Failed(Failure::Connect(Detail::ConnectRefused)) => Self::Refused,
            Verdict::Failed(
                Failure::Connect(Detail::ConnectTimeout) | Failure::Tls(Detail::TlsTimeout),
            ) => Self::Timeout,
            Verdict::Failed(Failure::Tls(_)) => Self::Tls,
            Verdict::Failed(_) => Self::Unreachable,
        }
    }
}
