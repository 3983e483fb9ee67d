//! 1xx answers on their way to a caller. hyper's server can write none but 100, so that they go
//! under it: at a moment when it has nothing to write, and never behind the head of the answer.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What may wait for a caller that does not read; what is more is dropped, as any 1xx may be.
const WAITING_MAX: usize = 64 << 10;

/// The 1xx answers of the call at hand.
#[derive(Debug, Default)]
pub(super) struct Interim {
    state: Mutex<State>,
    /// Something waits; spares the lock where nothing does.
    some: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Whole heads, of which `written` bytes have gone out.
    waiting: Vec<u8>,
    written: usize,
    /// A call is at hand whose answer has not begun.
    open: bool,
    /// The connection's task.
    task: Option<Waker>,
}

impl Interim {
    /// A call begins.
    pub(super) fn open(&self) {
        self.state().open = true;
    }

    /// The connection's task is to be woken when something comes.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut state = self.state();
        if !state
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(context.waker()))
        {
            state.task = Some(context.waker().clone());
        }
    }

    /// The whole head of a 1xx answer is to go out.
    pub(super) fn push(&self, head: &[u8]) {
        let mut state = self.state();
        if !state.open || state.waiting.len() + head.len() > WAITING_MAX {
            return;
        }
        state.waiting.extend_from_slice(head);
        self.some.store(true, Ordering::Release);
        if let Some(task) = &state.task {
            task.wake_by_ref();
        }
    }

    /// The answer is about to begin: nothing is taken any more. Ready when nothing waits.
    pub(super) fn poll_close(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        state.open = false;
        if state.waiting.is_empty() {
            return Poll::Ready(());
        }
        state.task = Some(context.waker().clone());
        Poll::Pending
    }

    /// No call follows.
    pub(super) fn forget_task(&self) {
        self.state().task = None;
    }

    /// Writes what waits. `part` says whether only what was begun is to be ended.
    pub(super) fn poll_write(
        &self,
        part: Part,
        mut write: impl FnMut(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        if !self.some.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.state();
        if part == Part::Begun && state.written == 0 {
            return Poll::Ready(Ok(()));
        }
        while state.written < state.waiting.len() {
            match write(&state.waiting[state.written..]) {
                Poll::Ready(Ok(written)) => state.written += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        (state.waiting, state.written) = (Vec::new(), 0);
        self.some.store(false, Ordering::Release);
        if !state.open
            && let Some(task) = &state.task
        {
            task.wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a plain assignment: a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything: hyper has nothing to write.
    All,
    /// A head that is half out: nothing else may come between.
    Begun,
}
