//! What the clockwork has to look at next, and when: at most one entry an account.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::Notify;

use super::clock::Moment;
use super::pulse::Pulse;
use super::sync::{Mutex, MutexGuard};

/// Values by the time at which they are due; each has a number of its own.
#[derive(Debug)]
pub(super) struct Wakes<V> {
    due: Mutex<BTreeMap<(Moment, u64), V>>,
    sooner: Notify,
    /// Tells that calls wait whose permits hosts share.
    pub(super) pressed: Arc<Notify>,
    /// Whether the clockwork that looks here runs.
    pub(super) pulse: Pulse,
}

impl<V> Wakes<V> {
    /// Nothing due.
    pub(super) fn new() -> Self {
        Self {
            due: Mutex::new(BTreeMap::new()),
            sooner: Notify::new(),
            pressed: Arc::new(Notify::new()),
            pulse: Pulse::default(),
        }
    }

    /// Moves the entry `number` from one time to another.
    pub(super) fn reschedule(&self, number: u64, from: Option<Moment>, to: Option<(Moment, V)>) {
        let mut due = self.lock();
        if let Some(from) = from {
            due.remove(&(from, number));
        }
        if let Some((at, value)) = to {
            due.insert((at, number), value);
            let first = due
                .first_key_value()
                .is_some_and(|(key, _)| *key == (at, number));
            drop(due);
            if first {
                self.sooner.notify_one();
            }
        }
    }

    /// When the first entry is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.lock().first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out the first entry if it is due.
    pub(super) fn pop(&self, now: Moment) -> Option<V> {
        let mut due = self.lock();
        let entry = due.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Returns when an entry came in front of all others.
    pub(super) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Moment, u64), V>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
