//! The I/O under hyper: it keeps the heads of requests as they were spelled on the wire, cuts answers short where a fault says
//! so, and lets a request order the end of its connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ledger::Line;

/// Longest head that is kept as spelled, bytes.
const HEAD_MAX: usize = 128 * 1024;
const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

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

/// How a request wants its connection to end.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Reset,
    Close,
    /// These bytes instead of an answer, then the end.
    Raw(Bytes),
    /// Nothing more is sent; the connection ends when the client goes.
    Stall,
}

/// Where an answer is cut, and what happens there.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) after: Measure,
    pub(crate) then: Order,
}

/// What is counted up to a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Bytes of the answer, head included.
    Answer(u64),
    /// Bytes after the answer's head.
    Body(u64),
}

/// What one connection and its requests tell each other.
pub(crate) struct Wire {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    head: Vec<u8>,
    reading: Reading,
    order: Option<Order>,
    cut: Option<Cut>,
    /// How much of the blank line at the end of the answer's head has been seen.
    blank_line: usize,
    interim: Interim,
    after_answer: AfterAnswer,
    idle_after: Option<Duration>,
    idle_since: Option<Instant>,
    last: Option<LastAnswer>,
}

/// The answer that was handed over last, until the next head arrives.
struct LastAnswer {
    line: Line,
    delivery: Delivery,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    /// Not all of it has been given to the socket.
    Underway,
    /// It has, after the client had sent its FIN: a half-close, or it has gone, which an RST in return tells.
    ToHalfClosed,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Heads,
    Bodies,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Interim {
    Sent,
    Withheld,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterAnswer {
    KeepAlive,
    /// The connection closes when the answer is out.
    Close,
    /// It is complete; the next flush brings it out.
    Closing,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    /// The peer sent an RST.
    Reset,
}

/// What the driver of a connection waits for next.
pub(crate) enum Next {
    Order(Order),
    IdleUntil(Instant),
    Nothing,
}

impl Wire {
    pub(crate) fn new(idle_after: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                head: Vec::new(),
                reading: Reading::Heads,
                order: None,
                cut: None,
                blank_line: 0,
                interim: Interim::Sent,
                after_answer: AfterAnswer::KeepAlive,
                idle_after,
                idle_since: Some(Instant::now()),
                last: None,
            }),
            changed: Notify::new(),
        })
    }

    /// A head has arrived: gives its bytes as they were read, with whatever came before and after.
    pub(crate) fn take_head(&self) -> Vec<u8> {
        let mut state = self.state();
        state.reading = Reading::Bodies;
        state.idle_since = None;
        state.last = None;
        std::mem::take(&mut state.head)
    }

    /// The last piece of the answer has been handed over.
    pub(crate) fn answer_complete(&self, line: Line) {
        let mut state = self.state();
        state.reading = Reading::Heads;
        state.interim = Interim::Sent;
        state.idle_since = Some(Instant::now());
        state.last = Some(LastAnswer {
            line,
            delivery: Delivery::Underway,
        });
        if state.after_answer == AfterAnswer::Close {
            state.after_answer = AfterAnswer::Closing;
        }
        let wakes = state.idle_after.is_some();
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    pub(crate) fn order(&self, order: Order) {
        self.state().order = Some(order);
        self.changed.notify_one();
    }

    pub(crate) fn cut_answer(&self, cut: Cut) {
        let mut state = self.state();
        state.cut = Some(cut);
        state.blank_line = 0;
    }

    pub(crate) fn withhold_interim(&self) {
        self.state().interim = Interim::Withheld;
    }

    pub(crate) fn close_after_answer(&self) {
        self.state().after_answer = AfterAnswer::Close;
    }

    pub(crate) fn close_when_idle(&self, after: Duration) {
        self.state().idle_after = Some(after);
    }

    pub(crate) fn next(&self) -> Next {
        let mut state = self.state();
        if let Some(order) = state.order.take() {
            return Next::Order(order);
        }
        match (state.idle_since, state.idle_after) {
            (Some(since), Some(after)) => Next::IdleUntil(since + after),
            (_, _) => Next::Nothing,
        }
    }

    /// The connection has ended: the line of an answer that its client cannot have got whole.
    pub(crate) fn undelivered(&self, end: End) -> Option<Line> {
        let state = self.state();
        let last = state.last.as_ref()?;
        match (last.delivery, end) {
            (Delivery::Done, _) | (Delivery::ToHalfClosed, End::Clean) => None,
            (Delivery::Underway, _) | (Delivery::ToHalfClosed, End::Reset) => Some(last.line),
        }
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

    /// How many of these bytes may be written, and whether the answer ends after them.
    fn allowed(&mut self, buf: &[u8]) -> usize {
        let mut state = self.wire.state();
        let State {
            cut, blank_line, ..
        } = &mut *state;
        let Some(cut) = cut else { return buf.len() };
        match cut.after {
            Measure::Answer(left) => clamp(buf.len(), left),
            Measure::Body(left) => match head_end(buf, *blank_line) {
                Some(head) => head + clamp(buf.len() - head, left),
                None => buf.len(),
            },
        }
    }

    /// Counts what was written, and stops when the cut is reached.
    fn wrote(&mut self, written: &[u8]) {
        let mut state = self.wire.state();
        let State {
            cut, blank_line, ..
        } = &mut *state;
        let Some(Cut { after, then }) = cut else {
            return;
        };
        let left = match after {
            Measure::Answer(left) => {
                *left -= written.len() as u64;
                *left
            }
            Measure::Body(left) => match head_end(written, *blank_line) {
                Some(head) => {
                    *blank_line = 4;
                    *left -= (written.len() - head) as u64;
                    *left
                }
                None => {
                    *blank_line = blank_line_seen(written, *blank_line);
                    return;
                }
            },
        };
        if left == 0 {
            self.stopped = Some(then.clone());
            state.cut = None;
        }
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

fn clamp(length: usize, left: u64) -> usize {
    usize::try_from(left).map_or(length, |left| length.min(left))
}

/// Where the body begins in these bytes, given how much of the blank line came before them (4: all of it).
fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    let mut seen = seen;
    if seen == 4 {
        return Some(0);
    }
    for (place, &byte) in bytes.iter().enumerate() {
        seen = step(seen, byte);
        if seen == 4 {
            return Some(place + 1);
        }
    }
    None
}

fn blank_line_seen(bytes: &[u8], seen: usize) -> usize {
    bytes.iter().fold(seen, |seen, &byte| step(seen, byte))
}

fn step(seen: usize, byte: u8) -> usize {
    match (seen, byte) {
        (1 | 3, b'\n') => seen + 1,
        (2, b'\r') => 3,
        (_, b'\r') => 1,
        (_, _) => 0,
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
        let read = &buf.filled()[before..];
        let mut state = self.wire.state();
        if state.reading == Reading::Heads && state.head.len() + read.len() <= HEAD_MAX {
            state.head.extend_from_slice(read);
        }
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
        if self.wire.state().interim == Interim::Withheld && buf.starts_with(INTERIM) {
            self.wire.state().interim = Interim::Sent;
            return Poll::Ready(Ok(INTERIM.len()));
        }
        let allowed = self.allowed(buf);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &buf[..allowed]))?;
        self.wrote(&buf[..written]);
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
        let closing = {
            let mut state = self.wire.state();
            if let Some(last) = &mut state.last
                && last.delivery == Delivery::Underway
            {
                last.delivery = if self.tcp.is_read_closed(cx) {
                    Delivery::ToHalfClosed
                } else {
                    Delivery::Done
                };
            }
            let closing = state.after_answer == AfterAnswer::Closing;
            if closing {
                state.after_answer = AfterAnswer::KeepAlive;
            }
            closing
        };
        if closing {
            self.wire.order(Order::Close);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
