//! A connection to another host in the hands of one call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;

use super::other::Other;
use super::place::{Line, Place, Task};

/// Which connections a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any idle one: the call is safe to repeat.
    Any,
    /// One that was idle for less than a second.
    Fresh,
    /// A new one.
    Never,
}

/// A connection to another host in the hands of one call. Dropping it closes the connection, by which
/// the other host hears that the caller has left.
pub struct Checkout<B> {
    other: Arc<Other<B>>,
    line: Line<B>,
    keep: Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Idle,
    Never,
}

/// Why no answer came.
pub enum SendFailure<B> {
    /// Nothing was sent: the connection had been closed before.
    Unsent(Box<Request<B>>),
    /// What became of the call is not known.
    Lost(Option<hyper::Error>),
}

/// What a tunnel keeps of the connection that it took over, for as long as it uses it.
#[derive(Debug)]
pub struct Kept {
    _task: Task,
    _place: Place,
}

impl<B> Checkout<B> {
    pub(super) fn new(other: Arc<Other<B>>, line: Line<B>, idle: Duration) -> Self {
        let keep = match idle.is_zero() {
            true => Keep::Never,
            false => Keep::Idle,
        };
        Self { other, line, keep }
    }

    /// The call is over, and neither side owes the other anything: the connection waits for the next
    /// one, if it can carry another.
    pub fn give_back(self) {
        if self.keep == Keep::Idle && !self.line.client.is_closed() {
            self.other.keep(self.line);
        }
    }

    /// The call has become a tunnel, which holds this.
    #[must_use]
    pub fn become_tunnel(self) -> Kept {
        let Line { task, place, .. } = self.line;
        Kept {
            _task: task,
            _place: place,
        }
    }
}

impl<B> Checkout<B>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    /// Sends a request; the head of its answer.
    ///
    /// # Errors
    /// [`SendFailure`].
    pub async fn send(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, SendFailure<B>> {
        let sent = self.line.client.send(request).await;
        sent.map_err(|unanswered| match unanswered.request {
            Some(request) => SendFailure::Unsent(Box::new(request)),
            None => SendFailure::Lost(unanswered.error),
        })
    }
}
