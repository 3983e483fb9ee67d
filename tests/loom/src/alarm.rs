//! In the place of tokio's timers: all waits end at once, when a thread of the test says so.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, Waker};

use loom::sync::Mutex;
use tokio::time::Instant;

/// The wait is over.
#[derive(Debug)]
pub struct Elapsed;

#[derive(Default)]
struct Alarm {
    has_rung: bool,
    wakers: Vec<Waker>,
}

loom::lazy_static! {
    static ref ALARM: Mutex<Alarm> = Mutex::new(Alarm::default());
}

/// Ends all waits.
pub fn ring() {
    let mut alarm = ALARM.lock().expect("nobody panics here");
    alarm.has_rung = true;
    let wakers = std::mem::take(&mut alarm.wakers);
    drop(alarm);
    wakers.into_iter().for_each(Waker::wake);
}

/// As tokio's: looks at the future first.
pub async fn timeout_at<F: Future>(_: Instant, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Ok(output));
        }
        let mut alarm = ALARM.lock().expect("nobody panics here");
        if alarm.has_rung {
            return Poll::Ready(Err(Elapsed));
        }
        alarm.wakers.push(context.waker().clone());
        Poll::Pending
    })
    .await
}
