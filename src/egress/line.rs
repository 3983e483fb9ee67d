//! The socket under a connection that carries calls: what was spoken on it, and what of that kintone
//! can have heard.
//!
//! kintone may close an idle connection in the very moment in which a call is sent on it. A call
//! that is not safe to repeat may go again all the same if kintone cannot have seen it (RFC 9110
//! section 9.2.2), and that is known in two cases only:
//!
//! - no byte of it was given to the kernel. Before the first one, the socket is looked at, so that
//!   a close which has arrived is seen although no task has been told of it;
//! - kintone's end was read, its host had acknowledged no byte of the call until then, and answered
//!   it with a reset. A FIN acknowledges all that has arrived (RFC 9293 section 3.4), so kintone had
//!   closed before the first byte came; the reset says that nobody was there to read it (section
//!   3.10.7).
//!
//! In every other case the outcome is unknown: a request may be read and executed by a server that
//! then breaks the connection without a word.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::getsockopt;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::witness::Witness;

/// How long kintone's end and reset are waited for when a call got no answer: they follow the last
/// word of TLS within a round trip.
const END_WAIT: Duration = Duration::from_millis(100);

/// How much kintone may have said before its end.
const LAST_WORDS_MAX: usize = 64 << 10;

/// What of a call without an answer can have come to kintone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing: it may go again, whatever it does.
    Never,
    /// That is not known: kintone may have executed it.
    Unknown,
}

/// A socket, shared by the TLS over it and the call that uses it.
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    speech: Mutex<Speech>,
}

/// The end of a [`Line`] that TLS reads and writes.
#[derive(Debug)]
pub(super) struct Wire(pub(super) Arc<Line>);

#[derive(Debug)]
struct Speech {
    manner: Manner,
    /// A call was begun whose end was not seen.
    busy: bool,
    /// Bytes that the kernel has taken, ever.
    written: u64,
    /// Those of them that were before the call.
    before: u64,
    /// The kernel told of a break, which it tells once: an end that is read after it is none.
    broken: bool,
    /// Of the call, until its first byte has gone.
    witness: Option<Arc<dyn Witness>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Looks before it speaks.
    Careful,
    Free,
    /// Says nothing any more: what TLS still holds must not be sent after it was told as unsent.
    Silent,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self {
            stream,
            speech: Mutex::new(Speech {
                manner: Manner::Free,
                busy: false,
                written: 0,
                before: 0,
                broken: false,
                witness: None,
            }),
        })
    }

    /// It was idle and is to carry a call: before its first byte, it is looked whether kintone has
    /// closed.
    pub(super) fn wake(&self) {
        self.speech().manner = Manner::Careful;
    }

    /// Whether kintone has neither closed nor said anything, where nothing is due.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// A call is about to be sent; `witness` is told of its first byte.
    pub(super) fn begin(&self, witness: Option<Arc<dyn Witness>>) {
        let mut speech = self.speech();
        speech.before = speech.written;
        speech.busy = true;
        speech.witness = witness;
    }

    /// The call has come to its end: neither side owes the other anything.
    pub(super) fn done(&self) {
        self.speech().busy = false;
    }

    /// What of the call can have come to kintone, which gave no answer. Nothing is sent from then
    /// on.
    pub(super) async fn arrival(&self) -> Arrival {
        let before = {
            let mut speech = self.speech();
            speech.manner = Manner::Silent;
            if speech.written == speech.before {
                return Arrival::Never;
            }
            if speech.broken {
                return Arrival::Unknown;
            }
            speech.before
        };
        let closed = tokio::time::timeout(END_WAIT, async {
            self.end().await && self.stream.ready(Interest::ERROR).await.is_ok()
        });
        if closed.await != Ok(true) {
            return Arrival::Unknown;
        }
        match look(&self.stream) {
            Some(seen) if seen.acknowledged <= before + SYN && seen.state == State::Closed => {
                Arrival::Never
            }
            Some(_) | None => Arrival::Unknown,
        }
    }

    /// Reads to kintone's end; whether it was an end and no break.
    async fn end(&self) -> bool {
        let mut left = LAST_WORDS_MAX;
        while left > 0 && self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut [0; 1024]) {
                Ok(0) => return true,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Writes by `write`, if it may still be spoken.
    fn write(&self, write: impl FnOnce(&TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        // Held over the write, which does not block: whoever has said that nothing was sent must
        // not be proven wrong a moment later.
        let mut speech = self.speech();
        match speech.manner {
            Manner::Silent => return Err(io::ErrorKind::BrokenPipe.into()),
            Manner::Careful if !self.is_quiet() => {
                speech.manner = Manner::Silent;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Manner::Careful | Manner::Free => speech.manner = Manner::Free,
        }
        // As near to the system call as can be: whoever kills the process in between leaves a call
        // that was begun in the books only.
        let witness = speech.witness.take();
        if let Some(witness) = &witness {
            witness.begin();
        }
        let written = write(&self.stream);
        match (&written, witness) {
            (Ok(1..), Some(witness)) => witness.begun(),
            (Ok(_) | Err(_), Some(witness)) => {
                witness.not_begun();
                speech.witness = Some(witness);
            }
            (Ok(_) | Err(_), None) => {}
        }
        match &written {
            Ok(written) => speech.written += *written as u64,
            Err(error) => speech.note(error),
        }
        written
    }

    fn speech(&self) -> MutexGuard<'_, Speech> {
        // Every change under the lock is a plain assignment.
        self.speech.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    /// A call that is given up must not come to kintone later, when nobody counts it any more: what
    /// kintone's host has not acknowledged, the kernel would repeat for as long as the way is
    /// broken. A reset takes it back.
    fn drop(&mut self) {
        let speech = self.speech.get_mut();
        if speech.unwrap_or_else(PoisonError::into_inner).busy {
            // It fails only on a socket that has nothing to send any more.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl Speech {
    /// Takes note of what the kernel says. A reset that comes after kintone's end is a broken pipe
    /// (Linux, `tcp_reset`), any other is something else.
    fn note(&mut self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, WouldBlock};
        self.broken |= !matches!(error.kind(), WouldBlock | BrokenPipe);
    }
}

impl Wire {
    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match self.0.write(&write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &self.0.stream;
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = buf.remaining();
            let mut short = false;
            // A read that did not fill the buffer has emptied the socket: readiness is cleared
            // under the tick that was taken before the read, as tokio's own `poll_read` does.
            let read = stream.try_io(Interest::READABLE, || {
                let read = stream.try_read_buf(buf)?;
                short = read > 0 && read < room;
                if short {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !short => {}
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    self.0.speech().note(&error);
                    return Poll::Ready(Err(error));
                }
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Wire {
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
        match SockRef::from(&self.0.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            Ok(()) | Err(_) => Poll::Ready(Ok(())),
        }
    }
}

/// The first thing that is acknowledged on a connection that we open, counted as a byte.
const SYN: u64 = 1;

/// What the kernel knows of a connection.
struct Seen {
    state: State,
    /// Bytes that the other host has acknowledged, [`SYN`] among them (RFC 4898,
    /// `tcpEStatsAppHCThruOctetsAcked`).
    acknowledged: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Gone: reset, for one whose owner has not closed it.
    Closed,
    Other,
}

/// The beginning of the kernel's `struct tcp_info`, whose layout is its interface and only grows:
/// its first byte is `tcpi_state`, the last of these 16 words `tcpi_bytes_acked`.
type TcpInfo = [u64; 16];

/// `TCP_CLOSE` of the kernel's states.
const TCP_CLOSE: u8 = 7;

/// `TCP_INFO` (tcp(7)).
#[derive(Clone, Copy)]
struct Info;

nix::getsockopt_impl!(
    Info,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfo,
    nix::sys::socket::sockopt::GetStruct<TcpInfo>
);

fn look(stream: &TcpStream) -> Option<Seen> {
    let info = getsockopt(stream, Info).ok()?;
    let [state, ..] = info[0].to_ne_bytes();
    Some(Seen {
        state: if state == TCP_CLOSE {
            State::Closed
        } else {
            State::Other
        },
        acknowledged: info[15],
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    const CALL: &[u8] = b"POST /k/v1/record.json";

    /// A line that was idle, and kintone's end of it.
    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut wire = Wire(Line::new(near));
        wire.write_all(b"hello").await.unwrap();
        far.read_exact(&mut [0; 5]).await.unwrap();
        far.write_all(b"hello").await.unwrap();
        wire.read_exact(&mut [0; 5]).await.unwrap();
        wire.0.wake();
        wire.0.begin(None);
        (wire, far)
    }

    /// Lets the line speak although kintone has closed, as if that were still on its way.
    fn look_away(wire: &Wire) {
        wire.0.speech().manner = Manner::Free;
    }

    #[tokio::test]
    async fn the_kernel_counts_what_was_acknowledged_and_the_syn() {
        let (wire, _far) = pair().await;
        let acknowledged = || look(&wire.0.stream).map(|seen| seen.acknowledged);
        assert_eq!(acknowledged(), Some(5 + SYN));
        assert_eq!(wire.0.speech().before, 5);
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_is_taken_back_and_one_that_has_ended_is_not() {
        let (wire, mut far) = pair().await;
        drop(wire);
        let reset = far.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        let (wire, mut far) = pair().await;
        wire.0.done();
        drop(wire);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_kintone_has_closed_is_not_spoken_to() {
        let (mut wire, far) = pair().await;
        assert!(wire.0.is_quiet());
        drop(far);
        assert!(!wire.0.is_quiet());
        wire.write_all(CALL).await.unwrap_err();
        assert_eq!(wire.0.arrival().await, Arrival::Never);
    }

    #[tokio::test]
    async fn words_that_nobody_asked_for_are_a_goodbye() {
        let (mut wire, mut far) = pair().await;
        far.write_all(b"HTTP/1.1 408 \r\n").await.unwrap();
        wire.write_all(CALL).await.unwrap_err();
        assert_eq!(wire.0.arrival().await, Arrival::Never);
        // What TLS still holds does not leak out behind the verdict.
        wire.write_all(CALL).await.unwrap_err();
        drop(wire);
        let read = far.read(&mut [0; 64]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    #[tokio::test]
    async fn a_close_that_crossed_the_call_is_proof_that_it_was_not_seen() {
        for goodbye in [&b""[..], b"some record of TLS"] {
            let (mut wire, mut far) = pair().await;
            far.write_all(goodbye).await.unwrap();
            drop(far);
            look_away(&wire);
            wire.write_all(CALL).await.unwrap();
            assert_eq!(wire.0.arrival().await, Arrival::Never);
        }
    }

    #[tokio::test]
    async fn a_call_that_arrived_before_the_close_may_have_been_executed() {
        let (mut wire, mut far) = pair().await;
        wire.write_all(CALL).await.unwrap();
        far.read_exact(&mut [0; CALL.len()]).await.unwrap();
        drop(far);
        assert_eq!(
            wire.0.arrival().await,
            Arrival::Unknown,
            "read, then closed"
        );

        let (mut wire, far) = pair().await;
        wire.write_all(CALL).await.unwrap();
        drop(far);
        assert_eq!(wire.0.arrival().await, Arrival::Unknown, "not read");

        let (mut wire, mut far) = pair().await;
        far.shutdown().await.unwrap();
        look_away(&wire);
        wire.write_all(CALL).await.unwrap();
        far.read_exact(&mut [0; CALL.len()]).await.unwrap();
        assert_eq!(wire.0.arrival().await, Arrival::Unknown, "half closed");
    }

    #[tokio::test]
    async fn a_break_proves_nothing() {
        let (mut wire, far) = pair().await;
        wire.write_all(CALL).await.unwrap();
        far.set_zero_linger().unwrap();
        drop(far);
        assert_eq!(wire.0.arrival().await, Arrival::Unknown);
        // Nor what is read after it, which looks like an end.
        let (mut wire, far) = pair().await;
        wire.write_all(CALL).await.unwrap();
        far.set_zero_linger().unwrap();
        drop(far);
        let broken = wire.read(&mut [0; 64]).await.unwrap_err();
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(wire.read(&mut [0; 64]).await.unwrap(), 0);
        assert_eq!(wire.0.arrival().await, Arrival::Unknown);
        // Silence neither.
        let (mut wire, _far) = pair().await;
        wire.write_all(CALL).await.unwrap();
        assert_eq!(wire.0.arrival().await, Arrival::Unknown);
    }
}
