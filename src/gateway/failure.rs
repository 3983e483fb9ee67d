//! Why a gateway does not come to life, or ends by itself.

use std::io;
use std::net::SocketAddr;

use crate::egress::EgressError;
use crate::notify::label::SpoolError;
use crate::quota::RecordError;
use crate::telemetry::access_log::AccessLogError;
use crate::tls::MintError;
use crate::tls::outbound::TlsError;

/// Why a gateway could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An address to listen on cannot be bound.
    #[error("[listen] {key} = {address} cannot be bound; free the port or choose another")]
    Listen {
        /// The key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] RecordError),
    /// The way out cannot be built.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The mails in the state directory cannot be used.
    #[error("[state] dir: {0}; give the gateway's user the right to write there")]
    Spool(#[from] SpoolError),
    /// Trust anchors cannot be read.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Inspected connections cannot be answered.
    #[error(transparent)]
    Authority(#[from] MintError),
    /// The access log cannot be opened.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
}

/// Why a running gateway ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A thread or listener could not be started.
    #[error("cannot start serving: {0}")]
    Start(#[from] io::Error),
    /// A part that must run for ever has ended: a fault of the program.
    #[error("a background task has ended; this is a fault of the gateway")]
    Background,
}
