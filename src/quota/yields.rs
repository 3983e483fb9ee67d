//! Idle tunnels that can give their permits to waiting calls, the longest idle first.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::clock::Moment;

/// The idle tunnels of one account.
#[derive(Debug, Default)]
pub(super) struct Yields {
    idle: BTreeMap<(Moment, u64), Idle>,
    numbers: u64,
    asked: u32,
}

#[derive(Debug)]
struct Idle {
    bell: Arc<Notify>,
    is_asked: bool,
}

impl Yields {
    /// Registers a tunnel that has been idle since then.
    pub(super) fn register(&mut self, since: Moment, bell: Arc<Notify>) -> (Moment, u64) {
        self.numbers += 1;
        let key = (since, self.numbers);
        let idle = Idle {
            bell,
            is_asked: false,
        };
        self.idle.insert(key, idle);
        key
    }

    /// Forgets a tunnel.
    pub(super) fn deregister(&mut self, key: (Moment, u64)) {
        if self.idle.remove(&key).is_some_and(|idle| idle.is_asked) {
            self.asked -= 1;
        }
    }

    /// Whether there is a tunnel that could be asked.
    pub(super) fn has_unasked(&self) -> bool {
        self.idle.len() > self.asked as usize
    }

    /// Asks tunnels until as many are asked as calls wait.
    pub(super) fn ask(&mut self, waiting: u32) {
        if self.asked >= waiting || !self.has_unasked() {
            return;
        }
        for idle in self.idle.values_mut().filter(|idle| !idle.is_asked) {
            if self.asked >= waiting {
                return;
            }
            idle.is_asked = true;
            self.asked += 1;
            idle.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_longest_idle_is_asked_first_and_once() {
        let mut yields = Yields::default();
        let bells = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        let at = |ms| Moment::default().after(Duration::from_millis(ms));
        let late = yields.register(at(9), Arc::clone(&bells[0]));
        yields.register(at(5), Arc::clone(&bells[1]));
        yields.ask(1);
        bells[1].notified().await;
        yields.ask(1);
        assert!(yields.has_unasked());
        yields.ask(2);
        bells[0].notified().await;
        yields.deregister(late);
        assert!(!yields.has_unasked());
    }
}
