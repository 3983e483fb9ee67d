//! Why another host is not reached.

use std::io;

use crate::tls::PeerError;

/// Why another host is not reached. Nothing of a call was sent to it.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// It is no other host of this fleet.
    #[error("no other host of this fleet")]
    Unknown,
    /// It could not be reached a moment ago: its pause is not over.
    #[error("it could not be reached a moment ago")]
    Paused,
    /// As many connections to it are open as may be (`[fleet.peer] connections`).
    #[error("as many connections to it are open as may be")]
    Full,
    /// It does not accept a connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The handshake failed, by its certificate or ours.
    #[error(transparent)]
    Tls(#[from] PeerError),
    /// It breaks the connection off before it has answered, as a host does that does not take our
    /// certificate.
    #[error("it breaks the connection off: {0}")]
    Broken(#[source] hyper::Error),
    /// It answers that it is not ready: it drains, or none of its addresses is usable.
    #[error("it is not ready (status {0})")]
    NotReady(u16),
    /// Not within `[fleet.peer] connect_timeout`.
    #[error("no connection in time")]
    Timeout,
}
