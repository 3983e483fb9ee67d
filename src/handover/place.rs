//! The connections to one host: how many there may be, and those that wait for a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::checkout::{Checkout, Reuse};
use super::failure::Unreached;
use super::other::{Other, Terms};
use crate::client::Client;

/// A connection that was idle for longer may just be closed by the other host: a call that is not
/// safe to repeat takes another one.
const FRESH: Duration = Duration::from_secs(1);

/// One of the connections to a host that there may be, given back on drop.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

/// A connection that carries HTTP. Dropping it closes it.
pub(super) struct Line<B> {
    pub(super) client: Client<B>,
    pub(super) task: Task,
    pub(super) place: Place,
}

/// What moves the bytes of a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct Task(pub(super) AbortHandle);

/// A connection that waits for a call.
pub(super) struct Idle<B> {
    line: Line<B>,
    pub(super) since: Instant,
}

impl Place {
    fn take(open: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let more = |open| (open < limit).then_some(open + 1);
        let taken = open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok().then(|| Self(Arc::clone(open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<B> Other<B> {
    /// A place for a new connection, if the host is to be tried and `limit` allows one more. One that
    /// is idle makes room.
    pub(super) fn place(&self, limit: usize) -> Result<Place, Unreached> {
        if self.state().health.left(Instant::now()).is_some() {
            return Err(Unreached::Paused);
        }
        loop {
            if let Some(place) = Place::take(&self.open, limit) {
                return Ok(place);
            }
            let mut state = self.state();
            if state.idle.is_empty() {
                return Err(Unreached::Full);
            }
            drop(state.idle.remove(0));
        }
    }

    /// The connection that was used last, if `reuse` allows one.
    pub(super) async fn take(self: &Arc<Self>, reuse: Reuse, terms: &Terms) -> Option<Checkout<B>> {
        let longest = match reuse {
            Reuse::Any => terms.idle,
            Reuse::Fresh => terms.idle.min(FRESH),
            Reuse::Never => return None,
        };
        loop {
            let mut idle = self.take_younger(longest)?;
            let ready = timeout(terms.connect_timeout, idle.line.client.ready());
            if matches!(ready.await, Ok(true)) {
                return Some(Checkout::new(Arc::clone(self), idle.line, terms.idle));
            }
        }
    }

    fn take_younger(&self, longest: Duration) -> Option<Idle<B>> {
        let mut state = self.state();
        let youngest = state.idle.last()?;
        if youngest.since.elapsed() < longest {
            state.idle.pop()
        } else {
            None
        }
    }

    /// Keeps a connection for the next call.
    pub(super) fn keep(&self, line: Line<B>) {
        let since = Instant::now();
        self.state().idle.push(Idle { line, since });
    }
}
