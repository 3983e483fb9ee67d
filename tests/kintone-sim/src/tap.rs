//! The I/O under hyper: it shows what is read to the connection's `wire`, and ends an answer where that says.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tcp::SharedTcp;
use crate::wire::{Order, PeerHalf, Wire};

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The stream that hyper reads and writes.
pub(crate) struct Tap<T> {
    inner: T,
    tcp: SharedTcp,
    wire: Arc<Wire>,
    /// A cut was reached: what happens when all before it is out.
    stopped: Option<Order>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tap<T> {
    pub(crate) fn new(inner: T, tcp: SharedTcp, wire: Arc<Wire>) -> Self {
        Self {
            inner,
            tcp,
            wire,
            stopped: None,
        }
    }

    /// The stream under it.
    pub(crate) fn into_inner(self) -> T {
        self.inner
    }

    /// Brings out what was written before the cut, then gives the order.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if let Some(order) = self.stopped.clone() {
            self.wire.order(order);
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.wire.read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.stopped.is_some() {
            return self.poll_stop(cx).map_ok(|()| 0);
        }
        if buf.starts_with(INTERIM) && self.wire.takes_interim() {
            return Poll::Ready(Ok(INTERIM.len()));
        }
        let allowed = self.wire.allowed(buf);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &buf[..allowed]))?;
        self.stopped = self.wire.wrote(&buf[..written]);
        if self.stopped.is_some() {
            // The order is given when the flush is done; hyper asks for that, or writes on and meets the stop.
            if let Poll::Ready(Err(error)) = self.poll_stop(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stopped.is_some() {
            return self.poll_stop(cx);
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.wire.flushed(|| {
            if self.tcp.is_read_closed(cx) {
                PeerHalf::Closed
            } else {
                PeerHalf::Open
            }
        });
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
