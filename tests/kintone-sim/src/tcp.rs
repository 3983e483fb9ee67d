//! A TCP connection that TLS reads and writes while its driver watches it and may reset it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Longest record of TLS that holds an alert, bytes: header, nonce of TLS 1.2, alert, tag.
const LAST_WORD_MAX: usize = 5 + 8 + 3 + 16;

/// A TCP connection with several owners: the TLS over it, and the driver that watches and resets it.
#[derive(Clone)]
pub(crate) struct SharedTcp(pub(crate) Arc<TcpStream>);

impl SharedTcp {
    /// Makes the end of this connection an RST, whatever its buffers hold.
    pub(crate) fn reset_on_close(&self) {
        // Fails only on a socket that is no longer connected, which needs no RST.
        let _ = SockRef::from(&*self.0).set_linger(Some(Duration::ZERO));
    }

    /// Ends when the peer has reset the connection.
    pub(crate) async fn reset_by_peer(&self) {
        // An error of `ready` means the same as an answer: nothing more to wait for.
        let _ = self.0.ready(tokio::io::Interest::ERROR).await;
    }

    /// Bytes have come that nobody has read, and more than the last word of TLS.
    pub(crate) fn holds_a_request(&self) -> bool {
        let mut unread = [std::mem::MaybeUninit::uninit(); LAST_WORD_MAX + 1];
        SockRef::from(&*self.0)
            .peek(&mut unread)
            .is_ok_and(|length| length > LAST_WORD_MAX)
    }

    /// How the connection ended, to be asked once.
    pub(crate) fn end(&self) -> End {
        match self.0.take_error() {
            Ok(None) => End::Clean,
            Ok(Some(_)) | Err(_) => End::Reset,
        }
    }

    /// The peer has sent its FIN, or reset the connection. Takes nothing from the stream.
    pub(crate) fn is_read_closed(&self, cx: &mut Context<'_>) -> bool {
        let ready = std::pin::pin!(self.0.ready(tokio::io::Interest::READABLE));
        match ready.poll(cx) {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }
}

impl AsyncRead for SharedTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for SharedTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    /// The peer sent an RST.
    Reset,
}
