//! A caller's socket as bytes: what hyper or TLS reads and writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::connection::Connection;

/// A caller's socket. It is shared with the handler, so that this can see a caller leave, and notes
/// when nothing of what is written gets through.
#[derive(Debug)]
pub struct Socket {
    connection: Arc<Connection>,
    /// Bytes that were read before, for somebody else.
    early: Bytes,
}

impl Socket {
    pub(super) const fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            early: Bytes::new(),
        }
    }

    /// The socket that `outer` was granted, for a second connection inside it. `early` are the bytes
    /// that were read of it since.
    #[must_use]
    pub fn within(outer: Arc<Connection>, early: Bytes) -> Self {
        Self {
            connection: Arc::new(Connection::within(outer)),
            early,
        }
    }

    /// The connection that it carries.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.connection.stream();
        let written = loop {
            match stream.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break Poll::Ready(result),
            }
        };
        self.connection.wrote(&written);
        written
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.has_remaining() {
            let size = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(size));
            if self.early.is_empty() {
                self.early = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        let stream = self.connection.stream();
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = buf.remaining();
            let mut short = false;
            // A read that did not fill the buffer has emptied the socket: readiness is cleared
            // under the tick that was taken before the read, as tokio's own `poll_read` does, which
            // spares the read that would only say so.
            let read = stream.try_io(Interest::READABLE, || {
                let read = stream.try_read_buf(buf)?;
                short = read > 0 && read < room;
                if short {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(read)
                }
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !short => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                Ok(_) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = SockRef::from(&**self.connection.stream());
        Poll::Ready(stream.shutdown(std::net::Shutdown::Write))
    }
}
