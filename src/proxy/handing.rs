//! The body of a request on its way to another host of the fleet: what the caller sends, as it comes.

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

/// The body of a request to another host.
pub enum Handing {
    /// None.
    Nothing,
    /// A caller's.
    Stream(Box<Passing>),
}

/// A caller's body.
pub struct Passing {
    incoming: Incoming,
    gate: Gate,
    progress: Arc<Progress>,
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
    /// `incoming`, which goes at once or, where there is a `gate`, when that opens; how far it has
    /// come.
    pub(crate) fn of(
        incoming: Incoming,
        gate: Option<oneshot::Receiver<()>>,
    ) -> (Self, Arc<Progress>) {
        let is_whole = incoming.is_end_stream();
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
            incoming,
            gate: gate.map_or(Gate::Open, Gate::Closed),
            progress: Arc::clone(&progress),
        };
        (Self::Stream(Box::new(passing)), progress)
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

impl Body for Handing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Stream(passing) = &mut *self else {
            return Poll::Ready(None);
        };
        ready!(passing.poll_gate(context));
        let mut frame = ready!(Pin::new(&mut passing.incoming).poll_frame(context));
        let progress = &passing.progress;
        match &mut frame {
            Some(Ok(frame)) => {
                progress.moves();
                let is_last = frame.trailers_mut().map(strip_trailers).is_some();
                if is_last || passing.incoming.is_end_stream() {
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
            Self::Stream(passing) => passing.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Stream(passing) => passing.incoming.size_hint(),
        }
    }
}
