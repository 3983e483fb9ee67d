//! How an attempt to reach kintone ended: with a connection, or why without one.

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::net::TcpStream;

use super::nameserver::ResolverError;
use super::proof::Proof;
use super::source::{OpenConnection, Source};
use crate::model::{Denial, Detail, Failure};

/// Why there is no way out.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// This host cannot resolve names, and the configuration has no static answer.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
}

/// A bare connection to kintone, for a tunnel.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub stream: TcpStream,
    /// Where kintone is reached.
    pub upstream: SocketAddrV4,
    /// The address it leaves from.
    pub source: Source,
    /// How long it took.
    pub timings: Timings,
    /// Counts the connection as open; to be kept as long as the stream.
    pub open: OpenConnection,
    /// What it waits for before it carries a byte, if anything.
    pub(super) proof: Option<Proof>,
}

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

impl ConnectError {
    /// How it failed, how far it came, and where it was dialled.
    pub(super) const fn new(
        verdict: Verdict,
        timings: Timings,
        upstream: Option<SocketAddrV4>,
    ) -> Self {
        Self {
            verdict,
            timings,
            upstream,
        }
    }

    /// A refusal before anything was tried.
    #[must_use]
    pub fn denied(denial: Denial) -> Self {
        Self {
            verdict: Verdict::Denied(denial),
            timings: Timings::default(),
            upstream: None,
        }
    }

    /// A refusal when the connection stood, before a byte was sent on it.
    pub(super) const fn denied_at(
        denial: Denial,
        timings: Timings,
        upstream: SocketAddrV4,
    ) -> Self {
        Self::new(Verdict::Denied(denial), timings, Some(upstream))
    }
}

impl Verdict {
    /// The other end closed or reset the connection before TLS stood.
    pub(super) const HANDSHAKE_BROKEN: Self = Self::Failed(Failure::Connect(Detail::ConnectReset));

    /// It in one word of the log.
    #[must_use]
    pub fn word(self) -> &'static str {
        let detail = match self {
            Self::Denied(denial) => denial.detail(),
            Self::Failed(failure) => failure.detail(),
        };
        detail.map_or("internal", Detail::label)
    }
}
