//! What one connection and its requests tell each other: the head as it was spelled, how the answer is to be cut, and how the
//! connection is to end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cut::Cut;
use crate::ledger::Line;
use crate::tcp::End;

/// Longest head that is kept as spelled, bytes.
const HEAD_MAX: usize = 128 * 1024;

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

/// Whether the peer of a connection may still send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerHalf {
    Open,
    Closed,
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
        // What a fault wanted of the answer before this request ends with that answer.
        state.cut = None;
        state.interim = Interim::Sent;
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
        self.state().cut = Some(cut);
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

    /// Bytes were read; they are kept while a head is awaited.
    pub(crate) fn read(&self, bytes: &[u8]) {
        let mut state = self.state();
        if state.reading == Reading::Heads && state.head.len() + bytes.len() <= HEAD_MAX {
            state.head.extend_from_slice(bytes);
        }
    }

    /// Whether an interim answer is to be swallowed; asked when one is about to be written.
    pub(crate) fn takes_interim(&self) -> bool {
        let mut state = self.state();
        let takes = state.interim == Interim::Withheld;
        state.interim = Interim::Sent;
        takes
    }

    /// How many of these bytes may be written.
    pub(crate) fn allowed(&self, bytes: &[u8]) -> usize {
        self.state()
            .cut
            .as_ref()
            .map_or(bytes.len(), |cut| cut.allowed(bytes))
    }

    /// Bytes were written; the order to carry out when they end where the answer is cut.
    pub(crate) fn wrote(&self, bytes: &[u8]) -> Option<Order> {
        let mut state = self.state();
        let order = state.cut.as_mut()?.wrote(bytes)?;
        state.cut = None;
        Some(order)
    }

    /// All that was written has been given to the socket, whose peer may have sent its FIN before.
    pub(crate) fn flushed(&self, peer: impl FnOnce() -> PeerHalf) {
        let mut state = self.state();
        if let Some(last) = &mut state.last
            && last.delivery == Delivery::Underway
        {
            last.delivery = match peer() {
                PeerHalf::Open => Delivery::Done,
                PeerHalf::Closed => Delivery::ToHalfClosed,
            };
        }
        if state.after_answer == AfterAnswer::Closing {
            state.after_answer = AfterAnswer::KeepAlive;
            drop(state);
            self.order(Order::Close);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
