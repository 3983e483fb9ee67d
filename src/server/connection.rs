//! One caller's connection, as its handler, its I/O adapter and its watchman share it.

use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::model::{Client, Detail};

use super::interim::Interim;
use super::pulse::{Expired, Phase, Pulse};
use super::slots::Slot;
use super::terms::Terms;

/// One caller's connection: a TCP connection, the one inside it whose TLS is ours, or a stream of
/// HTTP/2 in that. It stands as `Arc<Connection>` in the extensions of every request.
///
/// Holding it holds the socket and the place among `limits.connections`; a handler lets go of it
/// when the caller is served.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    stream: Arc<TcpStream>,
    pulse: Mutex<Pulse>,
    stay: Stay,
    interim: Interim,
    terms: Arc<Terms>,
    /// Of a stream: cancelled when the caller resets it, while the socket stays open.
    reset: Option<CancellationToken>,
    hold: Hold,
}

/// What a connection keeps for as long as it lasts.
#[derive(Debug)]
enum Hold {
    /// Its own place among all.
    Slot { _slot: Slot },
    /// The connection that it runs inside, which has one.
    Outer { _outer: Arc<Connection> },
}

/// How long a caller may keep its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// As long as it likes, within the limits.
    Long,
    /// Until it has been answered once: file descriptors are running out.
    OneCall,
}

impl Connection {
    pub(super) fn new(
        client: Client,
        stream: TcpStream,
        slot: Slot,
        stay: Stay,
        terms: Arc<Terms>,
    ) -> Self {
        Self {
            client,
            stream: Arc::new(stream),
            pulse: Mutex::new(Pulse::new(Phase::Fresh)),
            stay,
            interim: Interim::default(),
            terms,
            reset: None,
            hold: Hold::Slot { _slot: slot },
        }
    }

    /// The connection inside one that was granted: it begins as one between two calls.
    pub(super) fn within(outer: Arc<Self>) -> Self {
        Self::inside(outer, Pulse::new(Phase::Idle), None)
    }

    /// A stream of this connection.
    pub(super) fn stream_of(line: &Arc<Self>) -> Self {
        let mut pulse = Pulse::new(Phase::Busy);
        // Its one call has begun, so that nothing is asked of heads that HTTP/2 does not have.
        pulse.calls = 1;
        Self::inside(Arc::clone(line), pulse, Some(CancellationToken::new()))
    }

    fn inside(outer: Arc<Self>, pulse: Pulse, reset: Option<CancellationToken>) -> Self {
        Self {
            client: outer.client,
            stream: Arc::clone(&outer.stream),
            pulse: Mutex::new(pulse),
            stay: outer.stay,
            interim: Interim::default(),
            terms: Arc::clone(&outer.terms),
            reset,
            hold: Hold::Outer { _outer: outer },
        }
    }

    /// What it is served under.
    pub(super) const fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    pub(super) const fn stay(&self) -> Stay {
        self.stay
    }

    /// Where the caller sits.
    #[must_use]
    pub const fn client(&self) -> Client {
        self.client
    }

    /// The socket, which every connection inside it shares. Reading or writing it is for whoever
    /// took the connection over by an upgrade.
    #[must_use]
    pub const fn stream(&self) -> &Arc<TcpStream> {
        &self.stream
    }

    /// Completes when the caller has closed its side, wholly or for writing, also while bytes it
    /// sent before are still unread; or has reset the stream of this call.
    pub async fn caller_gone(&self) {
        match &self.reset {
            None => self.socket_closed().await,
            Some(reset) => tokio::select! {
                biased;
                () = reset.cancelled() => {}
                () = self.socket_closed() => {}
            },
        }
    }

    async fn socket_closed(&self) {
        // Sockets are registered for reading and writing only, so that PRIORITY never shows and
        // what wakes this is the closed read side: tokio counts it to both READABLE and PRIORITY,
        // and the latter does not wake for data.
        while let Ok(ready) = self.stream.ready(Interest::PRIORITY).await {
            if ready.is_read_closed() {
                return;
            }
            let cleared = self.stream.try_io(Interest::PRIORITY, || {
                Err::<(), _>(std::io::ErrorKind::WouldBlock.into())
            });
            if matches!(cleared, Err(error) if error.kind() != std::io::ErrorKind::WouldBlock) {
                return;
            }
        }
    }

    /// Whether the caller has closed its side, as far as the reactor has heard.
    #[must_use]
    pub fn is_caller_gone(&self) -> bool {
        let mut look = std::pin::pin!(self.caller_gone());
        look.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    /// What is wrong with the head of the call at hand that its parsed form does not show: a
    /// fragment, or a Content-Length beside a Transfer-Encoding.
    #[must_use]
    pub fn head_fault(&self) -> Option<Detail> {
        let pulse = self.pulse();
        pulse.heads.fault_of(pulse.calls)
    }

    /// Whether the call at hand is an OPTIONS about the server: its target has neither path nor
    /// query, which its parsed form does not show.
    #[must_use]
    pub fn is_about_server(&self) -> bool {
        let pulse = self.pulse();
        pulse.heads.is_about_server(pulse.calls)
    }

    /// Completes when the caller of a CONNECT has left before its answer: its connection broke, or
    /// it closed and has sent nothing behind the head. One that closed for writing after its
    /// ClientHello still waits for what kintone says.
    pub async fn tunnel_abandoned(&self) {
        self.caller_gone().await;
        let nothing_unread = match self.stream.peek(&mut [0]).await {
            Ok(unread) => unread == 0,
            Err(_) => return,
        };
        if !(nothing_unread && self.pulse().tail.ends_a_head()) {
            std::future::pending::<()>().await;
        }
    }

    /// Sends the whole head of a 1xx answer, if that of the answer proper has not been handed over.
    pub fn inform(&self, head: &[u8]) {
        self.interim.push(head);
    }

    /// Makes the end of its socket, which is near, a break for the caller and no end: where the
    /// socket is closed by TLS, TLS will not say that it was closed (RFC 8446 section 6.1).
    pub fn break_off(&self) {
        // Both fail only on a socket that is gone.
        let _ = self.stream.set_zero_linger();
        if let Hold::Outer { .. } = self.hold {
            let _ = SockRef::from(&*self.stream).shutdown(Shutdown::Write);
        }
    }

    pub(super) const fn interim(&self) -> &Interim {
        &self.interim
    }

    pub(super) fn phase(&self) -> Phase {
        self.pulse().phase
    }

    /// A request was handed to the service.
    pub(super) fn call_begins(&self) {
        let mut pulse = self.pulse();
        pulse.phase = Phase::Busy;
        pulse.calls += 1;
        pulse.answer_ended = false;
    }

    /// A stream was opened in this connection, and its request handed to the service.
    pub(super) fn stream_begins(&self) {
        let mut pulse = self.pulse();
        pulse.phase = Phase::Busy;
        pulse.streams += 1;
    }

    /// A stream is over.
    pub(super) fn stream_ends(&self) {
        let mut pulse = self.pulse();
        pulse.streams = pulse.streams.saturating_sub(1);
        if pulse.streams == 0 {
            pulse.enter(Phase::Idle);
        }
    }

    /// Whether no stream is open in this connection.
    pub(super) fn is_without_streams(&self) -> bool {
        self.pulse().streams == 0
    }

    /// Limits are counted from now.
    pub(super) fn touch(&self) {
        self.pulse().since = Instant::now();
    }

    /// The caller has reset this stream.
    pub(super) fn was_reset(&self) {
        if let Some(reset) = &self.reset {
            reset.cancel();
        }
    }

    /// Since when something waits to be written.
    pub(super) fn blocked(&self) -> Option<Instant> {
        self.pulse().blocked
    }

    /// hyper has all of the answer's body that it will ever get.
    pub(super) fn answer_ends(&self) {
        self.pulse().answer_ended = true;
    }

    /// hyper has nothing more to write for the moment.
    pub(super) fn flushed(&self) {
        let mut pulse = self.pulse();
        pulse.blocked = None;
        if pulse.answer_ended && pulse.phase == Phase::Busy {
            let amid_head = pulse.heads.is_amid_head();
            pulse.enter(if amid_head { Phase::Head } else { Phase::Idle });
        }
    }

    /// Bytes have come from the caller.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut pulse = self.pulse();
        pulse.tail.received(bytes);
        // The rest of a body that nobody waited for begins nothing.
        let leftover = pulse.heads.is_in_body();
        pulse.heads.received(bytes);
        let leftover = pulse.heads.is_in_body() || leftover && !pulse.heads.is_amid_head();
        if matches!(pulse.phase, Phase::Fresh | Phase::Idle) && !leftover {
            pulse.enter(Phase::Head);
        }
    }

    /// Bytes of the first line of the head that has not become a call, as far as it has come.
    pub(super) fn line_length(&self) -> usize {
        let pulse = self.pulse();
        pulse.heads.line_length(pulse.calls)
    }

    /// A write made progress, or could not.
    pub(super) fn wrote<T>(&self, written: &Poll<T>) {
        let mut pulse = self.pulse();
        if written.is_ready() {
            pulse.blocked = None;
        } else if pulse.blocked.is_none() {
            pulse.blocked = Some(Instant::now());
        }
    }

    /// The caller's last byte was read.
    pub(super) fn end_read(&self) {
        self.pulse().end_read = true;
    }

    /// Our last byte was sent.
    pub(super) fn end_sent(&self) {
        self.pulse().end_sent = true;
    }

    /// Whether our last byte was sent.
    pub(super) fn is_end_sent(&self) -> bool {
        self.pulse().end_sent
    }

    /// Whether we closed first, so that bytes may still come in which would turn our close into a
    /// reset.
    pub(super) fn wants_lingering(&self) -> bool {
        let pulse = self.pulse();
        pulse.end_sent && !pulse.end_read
    }

    /// The answer that is about to go out hands the connection over.
    pub(super) fn grant(&self) {
        self.pulse().granted = true;
    }

    /// Whether the connection was handed over.
    pub(super) fn is_granted(&self) -> bool {
        self.pulse().granted
    }

    /// HTTP is over: whoever took the connection answers for it.
    pub(super) fn upgrade(&self) {
        self.pulse().enter(Phase::Upgraded);
        // Else the waker would keep the memory of HTTP's task as long as the tunnel is open.
        self.interim.forget_task();
    }

    /// When the connection runs into which limit, unless something happens before.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Instant, Expired)> {
        let pulse = self.pulse();
        let after = |since: Instant, limit: Duration, what| Some((since.checked_add(limit)?, what));
        if let Some(blocked) = pulse.blocked {
            return after(blocked, limits.stall_timeout, Expired::Stall);
        }
        match pulse.phase {
            Phase::Fresh | Phase::Head => after(pulse.since, limits.head_timeout, Expired::Head),
            Phase::Idle => after(pulse.since, limits.caller_idle, Expired::Idle),
            Phase::Busy | Phase::Upgraded => None,
        }
    }

    fn pulse(&self) -> MutexGuard<'_, Pulse> {
        // Every change under the lock is a plain assignment: a poisoned pulse is a whole one.
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
