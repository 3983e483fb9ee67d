//! kintone's answer on its way to the caller. The body carries the permit, the connection and the
//! record of the call to the last byte: where they end, the call ends.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::carriage::{Carriage, read_without_caller};
use super::exchange::{Exchange, Head};
use super::headers::strip_trailers;
use super::newborn::Newborn;
use super::returning::Returning;
use crate::drain::{Drain, Stage};
use crate::model::{Cause, Code, Detail, Outcome};
use crate::server::Connection;

type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of an answer to a caller.
pub enum Answer {
    /// One of ours.
    Whole(Full<Bytes>),
    /// kintone's.
    Stream(Box<Stream>),
    /// Another host's, which has the call.
    Handed(Box<Returning>),
}

/// A body of kintone's, frame by frame.
pub struct Stream {
    /// What was read ahead, the last piece first.
    held: Vec<Frame<Bytes>>,
    /// `None` once the rest is read elsewhere, for nobody.
    incoming: Option<Incoming>,
    /// All that ends with the last byte; `None` once it has.
    cargo: Option<Cargo>,
    connection: Arc<Connection>,
    drain: Drain,
    response_timeout: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    gone: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    end: HowEnds,
}

/// What a call holds until its last byte.
pub(crate) struct Cargo {
    pub(crate) exchange: Exchange,
    /// `None` for an answer whose permit was given back before, such as a refusal at admission.
    pub(crate) carriage: Option<Carriage>,
    /// How the call will have ended if the rest arrives.
    pub(crate) outcome: Outcome,
    /// Waits for the name of the cursor that the call makes.
    pub(crate) newborn: Option<Newborn>,
}

/// How the caller can tell the end of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HowEnds {
    /// By its length or its chunks: a cut is seen.
    Framed,
    /// By the end of the connection: a cut must be a reset.
    ByClose,
}

/// Why a body could not be delivered to its end.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("kintone's answer broke off")]
    Cut(#[source] hyper::Error),
    #[error("kintone fell silent in the middle of its answer")]
    Silent,
    #[error("the caller has left")]
    CallerGone,
}

/// Where a streamed answer comes from and goes to.
pub(crate) struct Delivery {
    pub(crate) connection: Arc<Connection>,
    pub(crate) drain: Drain,
    pub(crate) response_timeout: Duration,
    pub(crate) end: HowEnds,
}

impl Answer {
    /// An answer of the gateway's own.
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }

    /// kintone's body: `held` was read of it already, the first piece first.
    pub(crate) fn stream(
        mut held: Vec<Frame<Bytes>>,
        incoming: Incoming,
        cargo: Cargo,
        delivery: Delivery,
    ) -> Self {
        held.reverse();
        let mut stream = Box::new(Stream {
            held,
            incoming: Some(incoming),
            cargo: Some(cargo),
            connection: delivery.connection,
            drain: delivery.drain,
            response_timeout: delivery.response_timeout,
            silence: None,
            gone: None,
            end: delivery.end,
        });
        if stream.is_end_stream() {
            stream.arrive();
        }
        Self::Stream(stream)
    }
}

impl Stream {
    fn arrive(&mut self) {
        let Some(Cargo {
            mut exchange,
            carriage,
            outcome,
            newborn: _,
        }) = self.cargo.take()
        else {
            return;
        };
        if let Some(carriage) = carriage {
            carriage.arrive(&mut exchange);
        }
        exchange.ended(outcome, None);
    }

    /// kintone's side broke after the head had gone out: the caller must see a cut, never a shorter
    /// answer.
    fn break_off(&mut self, code: Code, detail: Detail) {
        if let Some(Cargo {
            mut exchange,
            carriage,
            ..
        }) = self.cargo.take()
        {
            exchange.ended(Outcome::Refused(code), Some(detail));
            if let Some(carriage) = carriage {
                carriage.abort(&mut exchange);
            }
        }
        if self.end == HowEnds::ByClose {
            // It fails only on a socket that is already gone.
            let _ = self.connection.stream().set_zero_linger();
        }
    }

    /// The caller has left: the answer is read to its end without it.
    fn abandon(&mut self) {
        let Some(Cargo {
            mut exchange,
            carriage,
            ..
        }) = self.cargo.take()
        else {
            return;
        };
        if self.drain.stage() >= Stage::Cutting {
            exchange.ended(Outcome::Refused(Code::Draining), Some(Detail::DrainCut));
            if let Some(carriage) = carriage {
                carriage.abort(&mut exchange);
            }
            return;
        }
        exchange.abandoned(Head::Given);
        let Some(carriage) = carriage else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            carriage.abort(&mut exchange);
            return;
        };
        let Some(incoming) = self.incoming.take() else {
            return;
        };
        let read = read_without_caller(incoming, carriage, exchange, self.response_timeout);
        let drain = self.drain.clone();
        runtime.spawn(self.drain.track(async move {
            tokio::select! {
                () = read => {}
                () = drain.cutting() => {}
            }
        }));
    }

    fn poll_incoming(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.break_off(Code::UpstreamReset, Detail::ResponseCut);
                Poll::Ready(Some(Err(AnswerError::Cut(error))))
            }
            Poll::Ready(None) => {
                self.arrive();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_limits(context),
        }
    }

    fn poll_limits(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let limit = self.response_timeout;
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if silence.as_mut().poll(context).is_ready() {
            self.break_off(Code::UpstreamTimeout, Detail::ResponseTimeout);
            return Poll::Ready(Some(Err(AnswerError::Silent)));
        }
        let connection = &self.connection;
        let gone = self.gone.get_or_insert_with(|| {
            let connection = Arc::clone(connection);
            Box::pin(async move { connection.caller_gone().await })
        });
        if gone.as_mut().poll(context).is_ready() {
            self.abandon();
            return Poll::Ready(Some(Err(AnswerError::CallerGone)));
        }
        Poll::Pending
    }

    fn count(&mut self, frame: &Frame<Bytes>) {
        if let (Some(cargo), Some(data)) = (&mut self.cargo, frame.data_ref()) {
            cargo.exchange.record().bytes_out += data.len() as u64;
            if let Some(newborn) = &mut cargo.newborn {
                newborn.read(data);
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let stream = match &mut *self {
            Self::Whole(full) => {
                return Pin::new(full)
                    .poll_frame(context)
                    .map_err(|never| match never {});
            }
            Self::Handed(returning) => return returning.poll_piece(context),
            Self::Stream(stream) => stream,
        };
        let mut polled = match stream.held.pop() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => stream.poll_incoming(context),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled {
            if let Some(trailers) = frame.trailers_mut() {
                strip_trailers(trailers);
            }
            stream.count(frame);
            // hyper may never poll for the end of a body whose length it knows.
            if stream.is_end_stream() {
                stream.arrive();
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(full) => full.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
            Self::Handed(returning) => returning.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(full) => full.size_hint(),
            Self::Handed(returning) => returning.size_hint(),
            Self::Stream(stream) => {
                let held = stream.held.iter().filter_map(Frame::data_ref);
                let held: u64 = held.map(|chunk| chunk.len() as u64).sum();
                let rest = stream
                    .incoming
                    .as_ref()
                    .map(Body::size_hint)
                    .unwrap_or_default();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + held);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + held);
                }
                hint
            }
        }
    }
}

impl Stream {
    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.incoming.as_ref().is_some_and(Body::is_end_stream)
    }
}

/// The outcome of an answer of kintone's with that status.
pub(crate) fn outcome_of(status: http::StatusCode, cause: Option<Cause>) -> Outcome {
    if cause.is_some() || status.as_u16() >= 400 {
        Outcome::KintoneError
    } else {
        Outcome::Ok
    }
}
