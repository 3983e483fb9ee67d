//! The I/O adapter under hyper.
//!
//! hyper answers a head that it cannot parse by itself, with a bare 400, 414 or 431 without a body.
//! Such an answer is what is written while no call is open; the adapter puts ours in its place. It
//! shares the socket with the handler, so that this can see a caller leave, and it keeps the
//! connection's pulse by which the limits are judged.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::model::{Client, Detail};

use super::connection::{Connection, Phase};
use super::interim::Part;

/// What the server tells, and whom it asks for words. All are called on the connection's task and
/// must not block.
#[derive(Clone)]
pub struct Hooks {
    /// Asked for the complete answer, head and body, to a request that could not be parsed: status
    /// (400, 414 or 431) and caller. It says `Connection: close`, and has counted and logged itself.
    pub bare_answer: Arc<dyn Fn(u16, Client) -> Bytes + Send + Sync>,
    /// Told when a limit bites: `Connections` (once whenever accepting pauses),
    /// `ConnectionsPerAddress`, `FileDescriptors`, `Memory`, `HeadTimeout`, `CallerIdle`,
    /// `CallerStalled`.
    pub limit_hit: Arc<dyn Fn(Detail) + Send + Sync>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// The socket as hyper sees it.
pub(super) struct Guard {
    connection: Arc<Connection>,
    hooks: Hooks,
    /// `limits.head_size`, in bytes.
    head_size: usize,
    /// Our answer in the place of hyper's, as far as it is not written.
    instead: Option<Bytes>,
}

impl Guard {
    pub(super) const fn new(connection: Arc<Connection>, hooks: Hooks, head_size: usize) -> Self {
        Self {
            connection,
            hooks,
            head_size,
            instead: None,
        }
    }

    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Takes note that hyper answers by itself, and with what we answer instead.
    fn replace(&mut self, answer: &[u8]) {
        if self.instead.is_some() {
            return;
        }
        let status = match status_of(answer) {
            431 if self.connection.line_length() >= self.head_size => 414,
            status => status,
        };
        self.instead = Some((self.hooks.bare_answer)(status, self.connection.client()));
    }

    /// Whether what hyper writes is an answer of its own making.
    fn is_bare(&self) -> bool {
        match self.connection.phase() {
            Phase::Busy | Phase::Upgraded => false,
            Phase::Fresh | Phase::Head | Phase::Idle => true,
        }
    }

    /// Writes what stands in the place of hyper's answer.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(answer) = self
            .instead
            .as_mut()
            .filter(|answer| answer.has_remaining())
        {
            let written = poll_write_with(&self.connection, cx, || {
                self.connection.stream().try_write(answer)
            });
            answer.advance(ready!(written)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl Guard {
    /// Writes 1xx answers. hyper flushes when it has written all it has, so that nothing of its own
    /// can be half out then.
    fn poll_interim(&self, part: Part, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &self.connection;
        connection.interim().poll_write(part, |head| {
            poll_write_with(connection, cx, || connection.stream().try_write(head))
        })
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let connection = &self.connection;
        let stream = connection.stream();
        let before = buf.filled().len();
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
                Ok(0) if room > 0 => {
                    connection.end_read();
                    return Poll::Ready(Ok(()));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && short => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            connection.received(&buf.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_bare() {
            self.replace(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_interim(Part::Begun, cx))?;
        let connection = &self.connection;
        poll_write_with(connection, cx, || connection.stream().try_write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_bare() {
            self.replace(bufs.first().map_or(&[], |first| first));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_interim(Part::Begun, cx))?;
        let connection = &self.connection;
        poll_write_with(connection, cx, || {
            connection.stream().try_write_vectored(bufs)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(self.poll_interim(Part::All, cx))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        SockRef::from(&**self.connection.stream()).shutdown(std::net::Shutdown::Write)?;
        self.connection.end_sent();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // An answer that was begun and not ended must not look whole where its end is the close
        // (RFC 9112 section 8): the close becomes a reset.
        if self.connection.phase() == Phase::Busy {
            // It fails only on a socket that is gone already.
            let _ = self.connection.stream().set_zero_linger();
        }
    }
}

/// Writes by `write` as soon as the socket takes it, and notes whether it did.
fn poll_write_with(
    connection: &Connection,
    cx: &mut Context<'_>,
    write: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    let written = loop {
        match connection.stream().poll_write_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
            Poll::Pending => break Poll::Pending,
        }
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => break Poll::Ready(result),
        }
    };
    connection.wrote(&written);
    written
}

/// The status in `HTTP/1.1 400 …`; 400 where there is none.
fn status_of(answer: &[u8]) -> u16 {
    answer
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(400)
}
