//! The body of a request on its way to another host of the fleet: what the caller sends, as it comes, or
//! what was kept of it for a call that was at kintone before.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::headers::strip_trailers;
use super::upload::{Outgoing, Upload};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a request to another host.
pub enum Handing {
    /// None.
    Nothing,
    /// A caller's.
    Stream(Box<Passing>),
}

/// A caller's body.
pub struct Passing {
    body: Load,
    gate: Gate,
    progress: Arc<Progress>,
}

/// Where a caller's body is.
pub(crate) enum Load {
    /// On its way here: nothing was read of it.
    Fresh(Incoming),
    /// Kept, as far as it has come: it was on its way to kintone before.
    Kept(Outgoing),
}

/// What the body waits for before it goes.
enum Gate {
    Open,
    /// The other host's 100 (RFC 9110 section 10.1.1).
    Closed(oneshot::Receiver<()>),
    /// For ever: the answer has come without a 100.
    Shut,
}

/// How far a caller's body has come.
#[derive(Debug)]
pub(crate) struct Progress {
    end: AtomicU8,
    moved: Mutex<Instant>,
}

/// How a body has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// It has not.
    Open = 0,
    /// All of it was passed on.
    Whole = 1,
    /// The caller broke it off.
    Cut = 2,
}

impl Handing {
    /// `body`, which goes at once or, where there is a `gate`, when that opens; how far it has come.
    pub(crate) fn of(body: Load, gate: Option<oneshot::Receiver<()>>) -> (Self, Arc<Progress>) {
        let is_whole = body.is_end_stream();
        let end = match is_whole {
            true => BodyEnd::Whole,
            false => BodyEnd::Open,
        };
        let progress = Arc::new(Progress {
            end: AtomicU8::new(end as u8),
            moved: Mutex::new(Instant::now()),
        });
        if is_whole {
            return (Self::Nothing, progress);
        }
        let passing = Passing {
            body,
            gate: gate.map_or(Gate::Open, Gate::Closed),
            progress: Arc::clone(&progress),
        };
        (Self::Stream(Box::new(passing)), progress)
    }
}

impl Load {
    /// All of a body that kintone has seen or could have seen, from its beginning.
    pub(crate) fn again(upload: Option<&Arc<Upload>>) -> Self {
        Self::Kept(upload.map_or(Outgoing::Empty, Upload::reader))
    }
}

impl Progress {
    /// How the body has ended.
    pub(crate) fn end(&self) -> BodyEnd {
        match self.end.load(Ordering::Relaxed) {
            0 => BodyEnd::Open,
            1 => BodyEnd::Whole,
            _ => BodyEnd::Cut,
        }
    }

    /// When it last moved.
    pub(crate) fn moved(&self) -> Instant {
        // Every change under the lock is a plain assignment.
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn ends(&self, end: BodyEnd) {
        self.end.store(end as u8, Ordering::Relaxed);
    }
}

impl Passing {
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.gate {
            Gate::Open => Poll::Ready(()),
            Gate::Shut => Poll::Pending,
            Gate::Closed(opens) => {
                self.gate = match ready!(Pin::new(opens).poll(context)) {
                    Ok(()) => Gate::Open,
                    Err(_) => Gate::Shut,
                };
                self.poll_gate(context)
            }
        }
    }
}

impl Body for Load {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Fresh(incoming) => {
                let polled = Pin::new(incoming).poll_frame(context);
                polled.map_err(Into::into)
            }
            Self::Kept(outgoing) => Pin::new(outgoing).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fresh(incoming) => incoming.is_end_stream(),
            Self::Kept(outgoing) => outgoing.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Fresh(incoming) => incoming.size_hint(),
            Self::Kept(outgoing) => outgoing.size_hint(),
        }
    }
}

impl Body for Handing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self::Stream(passing) = &mut *self else {
            return Poll::Ready(None);
        };
        ready!(passing.poll_gate(context));
        let mut frame = ready!(Pin::new(&mut passing.body).poll_frame(context));
        let progress = &passing.progress;
        match &mut frame {
            Some(Ok(frame)) => {
                progress.moves();
                let is_last = frame.trailers_mut().map(strip_trailers).is_some();
                if is_last || passing.body.is_end_stream() {
                    progress.ends(BodyEnd::Whole);
                }
            }
            Some(Err(_)) => progress.ends(BodyEnd::Cut),
            None => progress.ends(BodyEnd::Whole),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Stream(passing) => passing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Stream(passing) => passing.body.size_hint(),
        }
    }
}
