//! What a connection is doing: the state by which its limits are judged.

use tokio::time::Instant;

use super::heads::Heads;

/// What the connection is doing, and since when.
///
/// ```text
///   Fresh ──first byte──▶ Head ──request parsed──▶ Busy ──answer flushed──▶ Idle ─┐
///                          ▲                                                      │
///                          └──────────────────────first byte──────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) phase: Phase,
    pub(super) since: Instant,
    /// What the caller has sent, from head to head.
    pub(super) heads: Heads,
    /// Calls that were handed to the service.
    pub(super) calls: u64,
    /// Streams of HTTP/2 that are open.
    pub(super) streams: usize,
    pub(super) tail: Tail,
    /// The body of the answer was taken whole by hyper, or given up.
    pub(super) answer_ended: bool,
    /// Bytes wait to be written, and none could be since then.
    pub(super) blocked: Option<Instant>,
    /// The caller has sent its last byte and we have read it.
    pub(super) end_read: bool,
    /// We have sent our last byte.
    pub(super) end_sent: bool,
    /// The connection goes to whoever asked for it: its CONNECT was answered 2xx.
    pub(super) granted: bool,
}

/// The last bytes that came from the caller.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tail([u8; 4]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted, not a byte yet.
    Fresh,
    /// Part of a head has come.
    Head,
    /// A call is with the service, or its answer is on its way out.
    Busy,
    /// Between two calls.
    Idle,
    /// Not HTTP any more.
    Upgraded,
}

/// Which limit of `[limits]` ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// `head_timeout`
    Head,
    /// `caller_idle`
    Idle,
    /// `stall_timeout`
    Stall,
}

impl Pulse {
    pub(super) fn new(phase: Phase) -> Self {
        Self {
            phase,
            since: Instant::now(),
            heads: Heads::new(),
            calls: 0,
            streams: 0,
            tail: Tail::default(),
            answer_ended: false,
            blocked: None,
            end_read: false,
            end_sent: false,
            granted: false,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }
}

impl Tail {
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.0.len());
        self.0.rotate_left(kept);
        let from = self.0.len() - kept;
        self.0[from..].copy_from_slice(&bytes[bytes.len() - kept..]);
    }

    /// Whether the last bytes are an empty line; lines may end in LF alone (RFC 9112 section 2.2).
    pub(super) fn ends_a_head(self) -> bool {
        self.0 == *b"\r\n\r\n" || self.0.ends_with(b"\n\n")
    }
}
