//! The caller's body on its way to kintone: streamed, its beginning kept so that a call that
//! kintone refused at admission can be sent again.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::kintone::call::{BodyReader, Meaning, Subject};

type BoxError = Box<dyn StdError + Send + Sync>;

/// How long an `Expect: 100-continue` waits for kintone's word before the body goes anyway: RFC
/// 9110 section 10.1.1 forbids to wait for ever.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

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
    incoming: Incoming,
    /// What was read so far, while it is small enough to be sent again.
    kept: Option<Vec<Bytes>>,
    kept_size: usize,
    received: u64,
    /// Learns from the body which apps the call is about.
    reader: Option<BodyReader>,
    progress: Instant,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    /// All of it has come and gone.
    Whole,
    /// It broke off.
    Cut,
    /// The caller stopped sending.
    Stalled,
}

/// One try's view of an [`Upload`].
pub struct Reader {
    upload: Arc<Upload>,
    next: usize,
    gate: Option<Gate>,
    stall: Option<Pin<Box<Sleep>>>,
}

/// Holds a body back until kintone says 100 or a second has passed.
struct Gate {
    word: oneshot::Receiver<()>,
    patience: Pin<Box<Sleep>>,
}

/// Why a body could not be sent to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The caller's connection broke, or its framing did.
    #[error("the caller's body broke off")]
    Cut(#[source] hyper::Error),
    /// It sent nothing for `stall_timeout`.
    #[error("the caller stopped sending its body")]
    Stalled,
}

/// How a body stands when its call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Cut,
    Stalled,
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
                incoming,
                kept: fits.then(Vec::new),
                kept_size: 0,
                received: 0,
                reader,
                progress: Instant::now(),
                end: End::Open,
            }),
            hint,
            keep_max,
            stall_timeout,
        })
    }

    /// A body for one try.
    pub(crate) fn reader(self: &Arc<Self>) -> Outgoing {
        Outgoing::Stream(Box::new(Reader {
            upload: Arc::clone(self),
            next: 0,
            gate: None,
            stall: None,
        }))
    }

    /// A body for one try that expects a 100 first; what is returned tells it that the 100 came.
    pub(crate) fn reader_after_continue(self: &Arc<Self>) -> (Outgoing, oneshot::Sender<()>) {
        let (tell, word) = oneshot::channel();
        let gate = Gate {
            word,
            patience: Box::pin(tokio::time::sleep(CONTINUE_WAIT)),
        };
        let reader = Reader {
            upload: Arc::clone(self),
            next: 0,
            gate: Some(gate),
            stall: None,
        };
        (Outgoing::Stream(Box::new(reader)), tell)
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
            // A closed channel says nothing more is to be waited for; the answer is on its way.
            if Pin::new(&mut gate.word).poll(context).is_pending() {
                ready!(gate.patience.as_mut().poll(context));
            }
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
        if state.end == End::Whole {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut state.incoming).poll_frame(context);
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
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
    fn take(&mut self, frame: &Frame<Bytes>, keep_max: usize) {
        self.progress = Instant::now();
        let Some(data) = frame.data_ref() else {
            // Trailers end a body that cannot be told a second time.
            self.kept = None;
            return;
        };
        self.received += data.len() as u64;
        if let Some(reader) = &mut self.reader {
            reader.feed(data);
        }
        self.kept_size += data.len();
        if self.kept_size > keep_max {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.push(data.clone());
        }
        if self.incoming.is_end_stream() {
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
