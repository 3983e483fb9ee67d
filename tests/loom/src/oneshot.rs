//! In the place of tokio's: what is sent to a receiver that has left comes back, and what a receiver
//! leaves behind is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use loom::sync::{Mutex, MutexGuard};

/// The sending end.
#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<Way<T>>>);

/// The receiving end.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Mutex<Way<T>>>);

/// The sender left without a word.
#[derive(Debug)]
pub struct RecvError;

#[derive(Debug)]
struct Way<T> {
    value: Option<T>,
    waker: Option<Waker>,
    has_sender: bool,
    has_receiver: bool,
}

/// A way for one value.
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let way = Arc::new(Mutex::new(Way {
        value: None,
        waker: None,
        has_sender: true,
        has_receiver: true,
    }));
    (Sender(Arc::clone(&way)), Receiver(way))
}

impl<T> Sender<T> {
    /// Sends the value.
    ///
    /// # Errors
    /// The value, if the receiver has left.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut way = lock(&self.0);
        if !way.has_receiver {
            return Err(value);
        }
        way.value = Some(value);
        Ok(())
        // Its drop wakes the receiver.
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut way = lock(&self.0);
        way.has_sender = false;
        let waker = way.waker.take();
        drop(way);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Future for Receiver<T> {
    type Output = Result<T, RecvError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut way = lock(&self.0);
        if let Some(value) = way.value.take() {
            return Poll::Ready(Ok(value));
        }
        if !way.has_sender {
            return Poll::Ready(Err(RecvError));
        }
        way.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut way = lock(&self.0);
        way.has_receiver = false;
        let left = way.value.take();
        drop(way);
        drop(left);
    }
}

fn lock<T>(way: &Mutex<Way<T>>) -> MutexGuard<'_, Way<T>> {
    way.lock().unwrap_or_else(PoisonError::into_inner)
}
