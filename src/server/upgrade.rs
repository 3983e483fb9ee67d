//! Taking a connection over from hyper.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::guard::Guard;
use super::join::join;
use super::socket::Socket;

/// A connection that is not HTTP any more.
#[derive(Debug)]
pub struct Upgraded {
    /// The caller's connection: hold it as long as the socket is used.
    pub connection: Arc<Connection>,
    /// The raw socket, or one whose bytes go over the caller's TLS.
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
    /// No socket could be made for it.
    #[error("no socket for the connection: {0}")]
    Socket(#[from] io::Error),
    /// It is not one of this server's.
    #[error("not a connection of this server")]
    Foreign,
}

/// Waits until the answer that grants the upgrade was written, and takes the connection over.
///
/// # Errors
/// [`UpgradeError`] when the connection ended first, or is not this server's.
pub async fn upgraded(on: OnUpgrade) -> Result<Upgraded, UpgradeError> {
    // What hyper hands over holds its whole read buffer, for as long as the tunnel would keep it:
    // the few bytes in it are copied.
    let upgraded = match on.await?.downcast::<TokioIo<Guard<Socket>>>() {
        Ok(parts) => {
            let guard = parts.io.into_inner();
            let connection = Arc::clone(guard.connection());
            connection.upgrade();
            return Ok(Upgraded {
                stream: Arc::clone(connection.stream()),
                connection,
                read: Bytes::copy_from_slice(&parts.read_buf),
            });
        }
        Err(upgraded) => upgraded,
    };
    let secured = upgraded.downcast::<TokioIo<Guard<TlsStream<Socket>>>>();
    let parts = secured.map_err(|_| UpgradeError::Foreign)?;
    let guard = parts.io.into_inner();
    let connection = Arc::clone(guard.connection());
    connection.upgrade();
    Ok(Upgraded {
        stream: Arc::new(plain(guard.into_io())?),
        connection,
        read: Bytes::copy_from_slice(&parts.read_buf),
    })
}

/// A socket whose bytes go over `secured` and come from there. What carries tunnels reads and writes
/// sockets, and a pair of them within the kernel takes neither a port nor a lock of ours.
fn plain(secured: TlsStream<Socket>) -> io::Result<TcpStream> {
    let (near, far) = StdUnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    // A stream socket is one to all that is done with it: it is read, written and shut down.
    let near = TcpStream::from_std(StdTcpStream::from(OwnedFd::from(near)))?;
    let far = UnixStream::from_std(far)?;
    let drain = secured.get_ref().0.connection().terms().drain.clone();
    tokio::spawn(drain.track(async move {
        // An end of either side is passed on; after a break both sockets go, and with them what
        // the other side still waited for.
        let _ = join(secured, far).await;
    }));
    Ok(near)
}
