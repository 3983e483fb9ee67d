//! The end of a connection: our last answer must arrive before a reset could eat it.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::Connection;
use crate::drain::Drain;

/// After our last byte, this much of what the caller still sends is read and thrown away, …
const LINGER_BYTES: usize = 256 << 10;
/// … for this long, so that the answer arrives before a reset could eat it (RFC 9112 section 9.6).
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);

/// Sends our last byte. It fails only on a socket that is gone.
pub(super) fn end_here(connection: &Connection) {
    if shut_write(connection.stream()).is_ok() {
        connection.end_sent();
    }
}

fn shut_write(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// Lets our last answer arrive where we closed first, unless the drain ends it.
pub(super) async fn linger_after(connection: &Connection, drain: &Drain) {
    if connection.wants_lingering() {
        tokio::select! {
            () = linger(connection.stream()) => {}
            () = drain.cutting() => {}
        }
    }
}

/// Reads and throws away what the caller still sends, until its end or the bounds above.
async fn linger(stream: &TcpStream) {
    let discard = async {
        let mut left = LINGER_BYTES;
        while left > 0 && stream.readable().await.is_ok() {
            match discard_some(stream) {
                Ok(0) => return,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Whether time or bytes ran out, the connection closes.
    let _ = timeout(LINGER_TIME, discard).await;
}

fn discard_some(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 8 << 10])
}

/// Whether bytes have arrived that nobody has read: a call may be among them.
pub(super) fn has_unread(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    matches!(SockRef::from(stream).peek(&mut byte), Ok(read) if read > 0)
}
