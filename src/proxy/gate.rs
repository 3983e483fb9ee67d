//! What holds the body of an `Expect: 100-continue` back (RFC 9110 section 10.1.1).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Sleep;

/// How long a body waits for kintone's word before it goes anyway: RFC 9110 section 10.1.1 forbids to
/// wait for ever.
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Holds a body back until kintone says 100 or a second has passed.
pub(crate) struct Gate {
    word: oneshot::Receiver<()>,
    patience: Pin<Box<Sleep>>,
    /// The answer came instead of the 100: the body is not wanted.
    refused: bool,
}

impl Gate {
    /// A closed one; what is returned tells it that the 100 came.
    pub(crate) fn new() -> (Self, oneshot::Sender<()>) {
        let (tell, word) = oneshot::channel();
        let gate = Self {
            word,
            patience: Box::pin(tokio::time::sleep(CONTINUE_WAIT)),
            refused: false,
        };
        (gate, tell)
    }

    /// Completes when the body may go.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.refused {
            return Poll::Pending;
        }
        match Pin::new(&mut self.word).poll(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => {
                self.refused = true;
                return Poll::Pending;
            }
            Poll::Pending => ready!(self.patience.as_mut().poll(context)),
        }
        Poll::Ready(())
    }
}
