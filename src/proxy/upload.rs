//! The caller's body on its way to kintone: streamed, its beginning kept so that a call that
//! kintone refused at admission can be sent again.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::ahead::Ahead;
use super::fault::{End, Fault, Unreadable, UploadError};
use super::gate::Gate;
use super::headers::strip_trailers;
use crate::kintone::call::{BodyReader, Meaning, Subject};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a request to kintone.
pub enum Outgoing {
    /// None.
    Empty,
    /// The caller's.
    Stream(Box<Reader>),
}

/// A caller's body. Readers of it follow one another, one a try.
pub(crate) struct Upload {
    state: Mutex<State>,
    hint: SizeHint,
    keep_max: usize,
    stall_timeout: Duration,
}

struct State {
    /// `None` once nobody wants the rest.
    incoming: Option<Incoming>,
    /// Which reader may read: a connection that is given up can hold its own for a while.
    turn: u32,
    /// The reader that waits.
    waiting: Option<Waker>,
    /// What was read so far, while it is small enough to be sent again.
    kept: Option<Vec<Bytes>>,
    kept_size: usize,
    received: u64,
    /// What was read before a try asked for it.
    ahead: Ahead,
    /// Learns from the body which apps the call is about.
    reader: Option<BodyReader>,
    progress: Instant,
    end: End,
}

/// One try's view of an [`Upload`].
pub struct Reader {
    upload: Arc<Upload>,
    turn: u32,
    next: usize,
    gate: Option<Gate>,
    stall: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// Takes a caller's body; keeps up to `keep_max` bytes of it. `reader` reads it as it passes.
    pub(crate) fn new(
        incoming: Incoming,
        keep_max: usize,
        stall_timeout: Duration,
        reader: Option<BodyReader>,
    ) -> Arc<Self> {
        let hint = incoming.size_hint();
        let fits = hint.exact().is_none_or(|size| size <= keep_max as u64);
        Arc::new(Self {
            state: Mutex::new(State {
                incoming: Some(incoming),
                turn: 0,
                waiting: None,
                kept: fits.then(Vec::new),
                kept_size: 0,
                received: 0,
                ahead: Ahead::default(),
                reader,
                progress: Instant::now(),
                end: End::Open,
            }),
            hint,
            keep_max,
            stall_timeout,
        })
    }

    /// Whether its length is known and all of it can be kept.
    pub(crate) fn is_short(&self) -> bool {
        let length = self.hint.exact();
        length.is_some_and(|length| length <= self.keep_max as u64)
    }

    /// A body for one try.
    pub(crate) fn reader(self: &Arc<Self>) -> Outgoing {
        self.reader_behind(None)
    }

    /// A body for one try that expects a 100 first; what is returned tells it that the 100 came.
    pub(crate) fn reader_after_continue(self: &Arc<Self>) -> (Outgoing, oneshot::Sender<()>) {
        let (gate, tell) = Gate::new();
        (self.reader_behind(Some(gate)), tell)
    }

    fn reader_behind(self: &Arc<Self>, gate: Option<Gate>) -> Outgoing {
        let turn = self.lock().next_turn();
        Outgoing::Stream(Box::new(Reader {
            upload: Arc::clone(self),
            turn,
            next: 0,
            gate,
            stall: None,
        }))
    }

    /// Nobody wants the rest: kintone has answered without it.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.next_turn();
        state.incoming = None;
        state.ahead = Ahead::default();
    }

    /// Whether everything that was read is still at hand.
    pub(crate) fn is_replayable(&self) -> bool {
        let state = self.lock();
        state.kept.is_some() && matches!(state.end, End::Open | End::Whole)
    }

    /// Whether all of it was sent.
    pub(crate) fn is_whole(&self) -> bool {
        self.lock().end == End::Whole
    }

    /// What the caller has still to send, once no try reads it any more: `Err` where that cannot be
    /// read, or is not known yet.
    pub(crate) fn leftover(self: Arc<Self>) -> Result<Option<Incoming>, Unreadable> {
        let upload = Arc::into_inner(self).ok_or(Unreadable)?;
        let state = upload
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match state.end {
            End::Open if state.ahead.has_end() => Ok(None),
            End::Open => state.incoming.map(Some).ok_or(Unreadable),
            End::Whole => Ok(None),
            End::Cut | End::Stalled => Err(Unreadable),
        }
    }

    /// What went wrong on the caller's side, if anything did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.lock().end {
            End::Open | End::Whole => None,
            End::Cut => Some(Fault::Cut),
            End::Stalled => Some(Fault::Stalled),
        }
    }

    /// The answer's head has come: what was kept is not needed any more.
    pub(crate) fn forget(&self) {
        self.lock().kept = None;
    }

    /// Bytes that have come from the caller.
    pub(crate) fn received(&self) -> u64 {
        self.lock().received
    }

    /// Reads before any try does, until the body has said its apps, at most what is kept.
    pub(crate) async fn read_ahead(&self) {
        loop {
            let read = poll_fn(|context| self.lock().poll_ahead(self.keep_max, context));
            match tokio::time::timeout(self.stall_timeout, read).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return,
                Err(_) => {
                    self.lock().end = End::Stalled;
                    return;
                }
            }
        }
    }

    /// Whether more of the body would say nothing more of the call.
    pub(crate) fn has_said_all(&self) -> bool {
        let state = self.lock();
        let is_done = state.reader.as_ref().is_none_or(BodyReader::is_done);
        is_done || state.end == End::Whole || state.ahead.has_end()
    }

    /// Which apps the call is about, by its head and by what its body has said so far.
    pub(crate) fn subject(&self, meaning: &Meaning) -> Subject {
        meaning.subject(self.lock().reader.as_ref())
    }

    /// When the body last moved: until then kintone owed nothing.
    pub(crate) fn last_progress(&self) -> Instant {
        self.lock().progress
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll(context));
            self.gate = None;
        }
        Poll::Ready(())
    }

    fn poll_upload(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut state = self.upload.lock();
        if let Some(chunk) = state.kept.as_ref().and_then(|kept| kept.get(self.next)) {
            let frame = Frame::data(chunk.clone());
            drop(state);
            self.next += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(frame) = state.ahead.pop() {
            state.take(&frame, self.upload.keep_max);
            drop(state);
            self.next += 1;
            return Poll::Ready(Some(Ok(frame)));
        }
        if state.end == End::Whole || state.ahead.is_whole() {
            state.end = End::Whole;
            return Poll::Ready(None);
        }
        let Some(incoming) = &mut state.incoming else {
            return Poll::Ready(Some(Err(UploadError::Over)));
        };
        match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                state.hear(&mut frame);
                state.take(&frame, self.upload.keep_max);
                drop(state);
                self.next += 1;
                self.stall = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                state.end = End::Cut;
                Poll::Ready(Some(Err(UploadError::Cut(error))))
            }
            Poll::Ready(None) => {
                state.end = End::Whole;
                state.progress = Instant::now();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let limit = self.upload.stall_timeout;
                drop(state);
                let stall = self
                    .stall
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                ready!(stall.as_mut().poll(context));
                self.upload.lock().end = End::Stalled;
                Poll::Ready(Some(Err(UploadError::Stalled)))
            }
        }
    }
}

impl State {
    /// Ends the turn of whoever reads now.
    fn next_turn(&mut self) -> u32 {
        self.turn = self.turn.wrapping_add(1);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        self.turn
    }

    /// Whether it is that reader's turn; if so, it is woken when that is over.
    fn may_read(&mut self, turn: u32, context: &Context<'_>) -> bool {
        let waker = context.waker();
        if self.turn == turn && !self.waiting.as_ref().is_some_and(|of| of.will_wake(waker)) {
            self.waiting = Some(waker.clone());
        }
        self.turn == turn
    }

    /// A frame has come from the caller: what it says of the call, and what of it goes on.
    fn hear(&mut self, frame: &mut Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_mut() {
            strip_trailers(trailers);
        }
        if let (Some(reader), Some(data)) = (&mut self.reader, frame.data_ref()) {
            reader.feed(data);
        }
    }

    /// Reads a frame that no try has asked for, while more of the body would say more.
    fn poll_ahead(&mut self, max: usize, context: &mut Context<'_>) -> Poll<ControlFlow<()>> {
        let says_more = self.reader.as_ref().is_some_and(|reader| !reader.is_done());
        let wants = says_more && self.end == End::Open && self.ahead.has_room(max);
        let incoming = self.incoming.as_mut();
        let Some(incoming) = incoming.filter(|body| wants && !body.is_end_stream()) else {
            return Poll::Ready(ControlFlow::Break(()));
        };
        match ready!(Pin::new(incoming).poll_frame(context)) {
            Some(Ok(mut frame)) => {
                self.hear(&mut frame);
                self.ahead.push(frame);
            }
            Some(Err(_)) => self.end = End::Cut,
            None => self.ahead.end(),
        }
        Poll::Ready(ControlFlow::Continue(()))
    }

    fn take(&mut self, frame: &Frame<Bytes>, keep_max: usize) {
        self.progress = Instant::now();
        let Some(data) = frame.data_ref() else {
            // Trailers end a body that cannot be told a second time; nobody polls behind them.
            self.kept = None;
            self.end = End::Whole;
            return;
        };
        self.received += data.len() as u64;
        self.kept_size += data.len();
        if self.kept_size > keep_max {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(data.clone());
        }
        if self.ahead.is_empty() && self.incoming.as_ref().is_some_and(Body::is_end_stream) {
            self.end = End::Whole;
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(reader) => {
                if !reader.upload.lock().may_read(reader.turn, context) {
                    return Poll::Ready(Some(Err(UploadError::Over.into())));
                }
                ready!(reader.poll_gate(context));
                let frame = ready!(reader.poll_upload(context));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(reader) => {
                let state = reader.upload.lock();
                let replayed = state
                    .kept
                    .as_ref()
                    .is_none_or(|kept| reader.next >= kept.len());
                state.end == End::Whole && replayed
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(reader) => reader.upload.hint,
        }
    }
}
