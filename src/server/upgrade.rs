//! Taking a connection over from hyper.

use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::connection::Connection;
use super::guard::Guard;
use super::socket::Socket;

/// A connection that is not HTTP any more.
#[derive(Debug)]
pub struct Upgraded {
    /// The caller's connection: hold it as long as the socket is used.
    pub connection: Arc<Connection>,
    /// The raw socket.
    pub stream: Arc<TcpStream>,
    /// Bytes that came behind the request's head.
    pub read: Bytes,
}

/// Why a connection could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// It ended before our answer was written.
    #[error("the connection ended before it could be taken over: {0}")]
    Ended(#[from] hyper::Error),
    /// It is not one of this server's.
    #[error("not a connection of this server")]
    Foreign,
}

/// Waits until the answer that grants the upgrade was written, and takes the connection over.
///
/// # Errors
/// [`UpgradeError`] when the connection ended first, or is not this server's.
pub async fn upgraded(on: OnUpgrade) -> Result<Upgraded, UpgradeError> {
    let parts = on
        .await?
        .downcast::<TokioIo<Guard<Socket>>>()
        .map_err(|_| UpgradeError::Foreign)?;
    let guard = parts.io.into_inner();
    let connection = Arc::clone(guard.connection());
    connection.upgrade();
    Ok(Upgraded {
        stream: Arc::clone(connection.stream()),
        connection,
        // A copy of the few bytes: what hyper hands over holds its whole read buffer, for as long
        // as the tunnel would keep it.
        read: Bytes::copy_from_slice(&parts.read_buf),
    })
}
