//! Going away calmly: say so, take nothing new, wait for what runs, then cut.
//!
//! ```text
//!              announce            stop               cut
//!   Serving ───────────▶ Announced ─────▶ Stopping ─────────▶ Cutting
//!      ▲                     │
//!      └──────── undrain ────┘
//! ```
//!
//! | stage | new connections | calls on open connections | idle connections |
//! |---|---|---|---|
//! | serving | taken | taken | kept |
//! | announced | taken | taken, answered with `Connection: close` | kept: a call may be on its way |
//! | stopping | not taken | those that have begun are answered | closed |
//! | cutting | not taken | ended at once | closed |
//!
//! The only way back is from announced to serving: later stages have closed the listeners.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How far the drain has come. Stages are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// No drain.
    Serving,
    /// Everybody is told to go elsewhere; everything is still taken.
    Announced,
    /// Nothing new is taken; what runs may end.
    Stopping,
    /// What runs is ended.
    Cutting,
}

/// The drain has stopped taking work and cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the drain has gone too far to be taken back: nothing new is taken any more")]
pub struct TooLate;

/// How [`Drain::finish`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// Everything that ran came to its end.
    Idle,
    /// The grace was over first.
    Cut {
        /// Connections and tunnels that were ended.
        tasks: usize,
    },
}

/// The drain of one gateway. Clones are the same drain.
#[derive(Debug, Clone)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stage: watch::Sender<Stage>,
    tasks: TaskTracker,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                stage: watch::Sender::new(Stage::Serving),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.shared.stage.borrow()
    }

    /// Tells everybody to go elsewhere. Everything is still taken.
    pub fn announce(&self) {
        self.advance(Stage::Announced);
    }

    /// Takes an announcement back; without one it does nothing.
    ///
    /// # Errors
    /// [`TooLate`] once [`Drain::stop`] or [`Drain::cut`] was called.
    pub fn undrain(&self) -> Result<(), TooLate> {
        let mut verdict = Ok(());
        self.shared.stage.send_if_modified(|stage| match *stage {
            Stage::Serving => false,
            Stage::Announced => {
                *stage = Stage::Serving;
                true
            }
            Stage::Stopping | Stage::Cutting => {
                verdict = Err(TooLate);
                false
            }
        });
        verdict
    }

    /// Takes nothing new. Idle connections close, busy ones after their answer.
    pub fn stop(&self) {
        self.advance(Stage::Stopping);
    }

    /// Ends what still runs.
    pub fn cut(&self) {
        self.advance(Stage::Cutting);
    }

    /// Completes when the drain is at `stage` or beyond.
    pub async fn reached(&self, stage: Stage) {
        let mut watching = self.watch();
        // The sender lives in `self`, so that the channel cannot close while we wait.
        let _ = watching.wait_for(|now| *now >= stage).await;
    }

    /// Completes when nothing new is to be taken.
    pub async fn stopping(&self) {
        self.reached(Stage::Stopping).await;
    }

    /// Completes when what runs is to end at once.
    pub async fn cutting(&self) {
        self.reached(Stage::Cutting).await;
    }

    /// A receiver of every change of the stage, for those that watch for long.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Stage> {
        self.shared.stage.subscribe()
    }

    /// `task`, counted among what [`Drain::idle`] waits for until it ends or is dropped.
    pub fn track<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        self.shared.tasks.track_future(task)
    }

    /// How many tracked tasks run: connections and tunnels.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.tasks.len()
    }

    /// Completes when no tracked task runs. It waits for those that begin meanwhile too.
    pub async fn idle(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// The whole way: announces, stops after `announce`, waits at most `grace` for what runs,
    /// then cuts and waits until the last task has gone.
    pub async fn finish(&self, announce: Duration, grace: Duration) -> Finished {
        self.announce();
        tokio::time::sleep(announce).await;
        self.stop();
        if tokio::time::timeout(grace, self.idle()).await.is_ok() {
            return Finished::Idle;
        }
        let tasks = self.running();
        self.cut();
        self.idle().await;
        Finished::Cut { tasks }
    }

    fn advance(&self, to: Stage) {
        self.shared.stage.send_if_modified(|stage| {
            let forward = to > *stage;
            if forward {
                *stage = to;
            }
            forward
        });
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn stages_run_forward_and_only_an_announcement_can_be_taken_back() {
        let drain = Drain::new();
        assert_eq!(drain.undrain(), Ok(()));
        drain.announce();
        assert_eq!(drain.stage(), Stage::Announced);
        assert_eq!(drain.undrain(), Ok(()));
        assert_eq!(drain.stage(), Stage::Serving);
        drain.stop();
        drain.announce();
        assert_eq!(drain.stage(), Stage::Stopping);
        assert_eq!(drain.undrain(), Err(TooLate));
        drain.cut();
        drain.stop();
        assert_eq!(drain.stage(), Stage::Cutting);
    }

    #[tokio::test(start_paused = true)]
    async fn finish_ends_as_soon_as_the_last_task_has_ended() {
        let drain = Drain::new();
        let begun = Instant::now();
        tokio::spawn(drain.track(tokio::time::sleep(Duration::from_secs(12))));
        let ended = drain
            .finish(Duration::from_secs(5), Duration::from_secs(30))
            .await;
        assert_eq!(ended, Finished::Idle);
        assert_eq!(begun.elapsed(), Duration::from_secs(12));
    }

    #[tokio::test(start_paused = true)]
    async fn finish_cuts_what_outlives_the_grace() {
        let drain = Drain::new();
        let begun = Instant::now();
        let cutting = drain.clone();
        tokio::spawn(drain.track(async move { cutting.cutting().await }));
        let ended = drain
            .finish(Duration::from_secs(5), Duration::from_secs(30))
            .await;
        assert_eq!(ended, Finished::Cut { tasks: 1 });
        assert_eq!(begun.elapsed(), Duration::from_secs(35));
        assert_eq!(drain.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_task_no_longer_runs() {
        let drain = Drain::new();
        let task = drain.track(std::future::pending::<()>());
        assert_eq!(drain.running(), 1);
        drop(task);
        assert_eq!(drain.running(), 0);
        drain.idle().await;
    }
}
