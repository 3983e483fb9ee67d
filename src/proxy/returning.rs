//! The answer of another host on its way to the caller. The body carries the connection and the record
//! of the call to the last byte.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::answer::HowEnds;
use super::exchange::Exchange;
use super::handing::{BodyEnd, Handing, Progress};
use crate::handover::Checkout;
use crate::model::{Code, Detail, Outcome};
use crate::server::Connection;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of another host's, frame by frame. Dropped before its end, it tells that host that the caller
/// has left.
pub struct Returning {
    incoming: Incoming,
    /// `None` once the last byte has come.
    parcel: Option<Parcel>,
    connection: Arc<Connection>,
    gone: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    end: HowEnds,
}

/// What a call that was handed over holds until its last byte.
pub(crate) struct Parcel {
    pub(crate) exchange: Exchange,
    pub(crate) checkout: Checkout<Handing>,
    pub(crate) progress: Arc<Progress>,
}

/// Why a body could not be delivered to its end.
#[derive(Debug, thiserror::Error)]
enum ReturnError {
    #[error("the other host's answer broke off")]
    Cut(#[source] hyper::Error),
    #[error("the caller has left")]
    CallerGone,
}

impl Returning {
    pub(crate) fn new(
        incoming: Incoming,
        parcel: Parcel,
        connection: Arc<Connection>,
        end: HowEnds,
    ) -> Self {
        let mut returning = Self {
            incoming,
            parcel: Some(parcel),
            connection,
            gone: None,
            end,
        };
        if returning.incoming.is_end_stream() {
            returning.arrive();
        }
        returning
    }

    /// All has come: the connection can carry the next call.
    fn arrive(&mut self) {
        if let Some(parcel) = self.parcel.take()
            && parcel.progress.end() == BodyEnd::Whole
        {
            parcel.checkout.give_back();
        }
    }

    /// The other host broke off after the head had gone out: the caller must see a cut, and nobody
    /// else may be left to tell of it.
    fn break_off(&mut self) {
        if let Some(Parcel { mut exchange, .. }) = self.parcel.take() {
            exchange.told_here();
            exchange.ended(
                Outcome::Refused(Code::UpstreamReset),
                Some(Detail::PeerLost),
            );
        }
        if self.end == HowEnds::ByClose {
            self.connection.break_off();
        }
    }

    fn poll_gone(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReturnError>>> {
        let connection = &self.connection;
        let gone = self.gone.get_or_insert_with(|| {
            let connection = Arc::clone(connection);
            Box::pin(async move { connection.caller_gone().await })
        });
        if gone.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.parcel = None;
        Poll::Ready(Some(Err(ReturnError::CallerGone)))
    }

    pub(super) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(parcel), Some(data)) = (&mut self.parcel, frame.data_ref()) {
                    parcel.exchange.record().bytes_out += data.len() as u64;
                }
                // hyper may never poll for the end of a body whose length it knows.
                if self.incoming.is_end_stream() {
                    self.arrive();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.break_off();
                Poll::Ready(Some(Err(ReturnError::Cut(error))))
            }
            Poll::Ready(None) => {
                self.arrive();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_gone(context),
        };
        polled.map_err(Into::into)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
