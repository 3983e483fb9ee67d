//! The I/O adapter under hyper.
//!
//! hyper answers a head that it cannot parse by itself, with a bare 400, 414 or 431 without a body.
//! Such an answer is what is written while no call is open; the adapter puts ours in its place. It
//! keeps the connection's pulse by which the limits are judged.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::model::{Client, Detail};

use super::connection::Connection;
use super::interim::Part;
use super::pulse::Phase;

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

/// A caller's bytes as hyper sees them: its socket, or TLS over that.
pub(super) struct Guard<T> {
    /// Goes before the socket does.
    breaker: Breaker,
    connection: Arc<Connection>,
    io: T,
    hooks: Hooks,
    /// `limits.head_size`, in bytes.
    head_size: usize,
    /// Our answer in the place of hyper's, as far as it is not written.
    instead: Option<Bytes>,
}

impl<T> Guard<T> {
    pub(super) fn new(connection: Arc<Connection>, io: T, hooks: Hooks, head_size: usize) -> Self {
        Self {
            breaker: Breaker(Arc::clone(&connection)),
            connection,
            io,
            hooks,
            head_size,
            instead: None,
        }
    }

    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The bytes themselves, for whoever took the connection over.
    pub(super) fn into_io(self) -> T {
        let Self { breaker, io, .. } = self;
        drop(breaker);
        io
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

    /// Answers what hyper refuses without a word.
    pub(super) fn answer_instead(&mut self, status: u16) {
        let answer = (self.hooks.bare_answer)(status, self.connection.client());
        self.instead.get_or_insert(answer);
    }

    /// Whether what hyper writes is an answer of its own making.
    fn is_bare(&self) -> bool {
        match self.connection.phase() {
            Phase::Busy | Phase::Upgraded => false,
            Phase::Fresh | Phase::Head | Phase::Idle => true,
        }
    }
}

impl<T: AsyncWrite + Unpin> Guard<T> {
    /// Sends our last byte. It fails only on a socket that is gone.
    pub(super) async fn finish(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await;
    }

    /// Writes what stands in the place of hyper's answer.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(answer) = self
            .instead
            .as_mut()
            .filter(|answer| answer.has_remaining())
        {
            let written = Pin::new(&mut self.io).poll_write(cx, answer);
            answer.advance(ready!(written)?);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes 1xx answers. hyper flushes when it has written all it has, so that nothing of its own
    /// can be half out then.
    fn poll_interim(&mut self, part: Part, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { connection, io, .. } = self;
        connection
            .interim()
            .poll_write(part, |head| Pin::new(&mut *io).poll_write(cx, head))
    }
}

impl<T> fmt::Debug for Guard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() && room > 0 {
            self.connection.end_read();
        } else {
            self.connection.received(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
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
        Pin::new(&mut self.io).poll_write(cx, buf)
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
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(self.poll_interim(Part::All, cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        self.connection.end_sent();
        Poll::Ready(Ok(()))
    }
}

/// An answer that was begun and not ended must not look whole where its end is the close (RFC 9112
/// section 8): the close becomes a reset.
struct Breaker(Arc<Connection>);

impl Drop for Breaker {
    fn drop(&mut self) {
        if self.0.phase() == Phase::Busy {
            // It fails only on a socket that is gone already.
            let _ = self.0.stream().set_zero_linger();
        }
    }
}

/// The status in `HTTP/1.1 400 …`; 400 where there is none.
fn status_of(answer: &[u8]) -> u16 {
    answer
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(400)
}
