//! Bytes both ways between two sockets, holding a buffer only while a byte waits for room.
//!
//! Each direction is a [`Flow`]. A worker's one buffer takes what a socket has, and what the other
//! side does not take at once is copied aside until it does. An idle tunnel holds no buffer at all.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What a worker reads at once: large enough for four TLS records.
const BUFFER_SIZE: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_SIZE].into_boxed_slice());
}

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// What the other side did not take yet, from `taken` on.
    waiting: Vec<u8>,
    taken: usize,
    /// The other side has taken nothing since then.
    blocked: Option<Instant>,
    /// The sender has closed.
    ended: bool,
    /// The end was passed on.
    closed: bool,
    bytes: u64,
}

/// Both directions, and whose turn it is.
#[derive(Debug)]
pub(crate) struct Relay {
    to_kintone: Flow,
    to_caller: Flow,
    turn: Turn,
    /// When a byte last came from either side.
    moved: Instant,
}

/// Who is to speak next, as the last byte tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The caller's byte was the last: kintone owes an answer.
    Kintone,
    /// kintone's byte was the last: nothing is owed.
    Caller,
}

/// What happened between the two sides.
#[derive(Debug)]
pub(crate) enum Event {
    /// The turn has changed.
    Turned,
    /// kintone has closed, and the caller has all of it.
    KintoneClosed,
    /// The connection to kintone broke.
    KintoneBroke,
    /// The connection to the caller broke.
    CallerBroke,
}

/// Which of the two sides broke.
enum Broke {
    Sender,
    Receiver,
}

impl Relay {
    /// A tunnel that has just begun.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            to_kintone: Flow::default(),
            to_caller: Flow::default(),
            turn: Turn::Caller,
            moved: now,
        }
    }

    /// Puts bytes before everything that the caller will send.
    pub(crate) fn begin(&mut self, first: Vec<u8>) {
        self.to_kintone.bytes = first.len() as u64;
        self.to_kintone.waiting = first;
        self.turn = Turn::Kintone;
    }

    /// Bytes from the caller and to the caller.
    pub(crate) const fn bytes(&self) -> (u64, u64) {
        (self.to_kintone.bytes, self.to_caller.bytes)
    }

    pub(crate) const fn turn(&self) -> Turn {
        self.turn
    }

    /// When a byte last came from either side.
    pub(crate) const fn moved(&self) -> Instant {
        self.moved
    }

    /// Since when the caller has taken nothing of what waits for it.
    pub(crate) const fn caller_blocked(&self) -> Option<Instant> {
        self.to_caller.blocked
    }

    /// Carries bytes until something happens that its owner must know of.
    pub(crate) async fn carry(&mut self, caller: &TcpStream, kintone: &TcpStream) -> Event {
        poll_fn(|context| self.poll(caller, kintone, context)).await
    }

    fn poll(
        &mut self,
        caller: &TcpStream,
        kintone: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Event> {
        let turn = self.turn;
        let before = self.bytes();
        // kintone's bytes last: an answer that came while the caller spoke still settles the turn.
        let up = self.to_kintone.poll(caller, kintone, context);
        let spoke = self.bytes();
        let down = self.to_caller.poll(kintone, caller, context);
        let after = self.bytes();
        if after != before {
            self.moved = Instant::now();
        }
        if spoke.0 != before.0 {
            self.turn = Turn::Kintone;
        }
        if after.1 != spoke.1 {
            self.turn = Turn::Caller;
        }
        match (up, down) {
            (Poll::Ready(Err(Broke::Sender)), _) | (_, Poll::Ready(Err(Broke::Receiver))) => {
                Poll::Ready(Event::CallerBroke)
            }
            (_, Poll::Ready(Err(Broke::Sender))) | (Poll::Ready(Err(Broke::Receiver)), _) => {
                Poll::Ready(Event::KintoneBroke)
            }
            (_, Poll::Ready(Ok(()))) => Poll::Ready(Event::KintoneClosed),
            (Poll::Ready(Ok(())) | Poll::Pending, Poll::Pending) if self.turn != turn => {
                Poll::Ready(Event::Turned)
            }
            (Poll::Ready(Ok(())) | Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    }
}

impl Flow {
    /// Carries what there is; ready when the end was passed on.
    fn poll(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        loop {
            ready!(self.poll_waiting(to, context))?;
            if self.ended {
                if !self.closed {
                    self.closed = true;
                    // It fails only on a socket that is gone, which its own flow will tell.
                    let _ = SockRef::from(to).shutdown(Shutdown::Write);
                }
                return Poll::Ready(Ok(()));
            }
            ready!(from.poll_read_ready(context)).map_err(|_| Broke::Sender)?;
            self.take(from, to)?;
        }
    }

    fn poll_waiting(
        &mut self,
        to: &TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        while self.taken < self.waiting.len() {
            if to
                .poll_write_ready(context)
                .map_err(|_| Broke::Receiver)?
                .is_pending()
            {
                self.blocked.get_or_insert_with(Instant::now);
                return Poll::Pending;
            }
            match to.try_write(&self.waiting[self.taken..]) {
                Ok(written) => {
                    self.taken += written;
                    self.blocked = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(Err(Broke::Receiver)),
            }
        }
        if self.taken > 0 {
            (self.waiting, self.taken, self.blocked) = (Vec::new(), 0, None);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what the sender has and hands it on as far as the receiver takes it.
    fn take(&mut self, from: &TcpStream, to: &TcpStream) -> Result<(), Broke> {
        BUFFER.with_borrow_mut(|buffer| {
            let Some(read) = read(from, buffer).map_err(|_| Broke::Sender)? else {
                return Ok(());
            };
            if read == 0 {
                self.ended = true;
                return Ok(());
            }
            self.bytes += read as u64;
            let written = match to.try_write(&buffer[..read]) {
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Err(Broke::Receiver),
            };
            self.waiting.extend_from_slice(&buffer[written..read]);
            Ok(())
        })
    }
}

/// Reads once; `None` where there is nothing to read.
///
/// A read that does not fill the buffer has emptied the socket (epoll(7), edge-triggered): the
/// reactor is told so within the same look at its readiness, which saves the read that would only
/// find that out, and cannot miss a byte that comes meanwhile.
fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut read = None;
    let looked = from.try_io(Interest::READABLE, || {
        let count = recv(from.as_raw_fd(), buffer, MsgFlags::empty()).map_err(io::Error::from)?;
        read = Some(count);
        if count == 0 || count == buffer.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    });
    match looked {
        Ok(()) => Ok(read),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(read),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// A caller and a kintone with a relay between them; what it ended with comes back.
    async fn tunnel() -> (
        TcpStream,
        TcpStream,
        tokio::task::JoinHandle<(Relay, Event)>,
    ) {
        let (caller, near) = pair().await;
        let (far, kintone) = pair().await;
        let carried = tokio::spawn(async move {
            let mut relay = Relay::new(Instant::now());
            let mut event = Event::Turned;
            while matches!(event, Event::Turned) {
                event = relay.carry(&near, &far).await;
            }
            (relay, event)
        });
        (caller, kintone, carried)
    }

    #[tokio::test]
    async fn megabytes_arrive_whole_both_ways_with_a_slow_reader() {
        let (mut caller, mut kintone, carried) = tunnel().await;
        let sent: Arc<Vec<u8>> = Arc::new((0..8_000_000_u32).map(|n| (n % 251) as u8).collect());
        let (up, down) = (Arc::clone(&sent), Arc::clone(&sent));
        let caller_side = tokio::spawn(async move {
            let (mut read, mut write) = caller.split();
            let mut got = Vec::new();
            let writes = async {
                write.write_all(&up).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let reads = async {
                let mut chunk = [0; 1000];
                loop {
                    tokio::task::yield_now().await;
                    match read.read(&mut chunk).await.unwrap() {
                        0 => break,
                        n => got.extend_from_slice(&chunk[..n]),
                    }
                }
            };
            tokio::join!(writes, reads);
            got
        });
        let mut got = Vec::new();
        kintone.read_to_end(&mut got).await.unwrap();
        assert!(got == *sent, "the caller's bytes differ");
        kintone.write_all(&down).await.unwrap();
        drop(kintone);
        assert!(
            caller_side.await.unwrap() == *sent,
            "kintone's bytes differ"
        );
        let (relay, event) = carried.await.unwrap();
        assert!(matches!(event, Event::KintoneClosed), "{event:?}");
        assert_eq!(relay.bytes(), (8_000_000, 8_000_000));
    }

    #[tokio::test]
    async fn the_last_byte_decides_whose_turn_it_is() {
        let (caller, near) = pair().await;
        let (far, kintone) = pair().await;
        let mut relay = Relay::new(Instant::now());
        let (mut caller, mut kintone) = (caller, kintone);
        caller.write_all(b"ask").await.unwrap();
        assert!(matches!(relay.carry(&near, &far).await, Event::Turned));
        assert_eq!(relay.turn(), Turn::Kintone);
        kintone.write_all(b"answer").await.unwrap();
        assert!(matches!(relay.carry(&near, &far).await, Event::Turned));
        assert_eq!(relay.turn(), Turn::Caller);
        assert_eq!(
            relay.to_kintone.waiting.capacity() + relay.to_caller.waiting.capacity(),
            0
        );
    }

    #[tokio::test]
    async fn a_reset_says_whose_it_was() {
        let (caller, _kintone, carried) = tunnel().await;
        caller.set_zero_linger().unwrap();
        drop(caller);
        assert!(matches!(carried.await.unwrap().1, Event::CallerBroke));
        let (_caller, kintone, carried) = tunnel().await;
        kintone.set_zero_linger().unwrap();
        drop(kintone);
        assert!(matches!(carried.await.unwrap().1, Event::KintoneBroke));
    }
}
