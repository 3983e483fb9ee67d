//! What the operating system and operators tell the running gateway to do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::state::{Reloaded, Running};
use crate::admin::{AfterDrain, Carried, Command, Order, Refusal};
use crate::drain::Finished;
use crate::model::Account;

/// Reloads that may wait for the one under way.
const RELOADS_WAITING: usize = 8;

/// Longest wait for calls that were cut.
const CUT_MAX: Duration = Duration::from_secs(1);

/// What a signal to the process asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and end; the second time end at once.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the log files again.
    ReopenLogs,
}

/// Turns the process's signals into a stream of [`Signal`]s.
///
/// # Errors
/// If a handler cannot be installed.
pub fn listen_for_signals() -> io::Result<mpsc::Receiver<Signal>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user = signal(SignalKind::user_defined1())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let told = tokio::select! {
                _ = terminate.recv() => Signal::End,
                _ = interrupt.recv() => Signal::End,
                _ = hangup.recv() => Signal::Reload,
                _ = user.recv() => Signal::ReopenLogs,
            };
            if sender.send(told).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Obeys until it is told to end, and has drained.
pub(super) async fn obey(
    running: Arc<Running>,
    mut commands: mpsc::Receiver<Command>,
    mut signals: mpsc::Receiver<Signal>,
) -> Finished {
    let reloads = Reloads::start(Arc::clone(&running));
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => match signal {
                Signal::End => break,
                // One that waits will read the file as it is then.
                Signal::Reload => drop(reloads.ask(None)),
                Signal::ReopenLogs => running.log.reopen(),
            },
            Some(command) = commands.recv() => {
                if carry_out(&running, &reloads, command) == Next::End {
                    break;
                }
            }
            else => break,
        }
    }
    drain(&running, commands, signals).await
}

/// What follows an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    End,
}

fn carry_out(running: &Running, reloads: &Reloads, command: Command) -> Next {
    let Command { order, answer } = command;
    let (next, result) = match order {
        Order::Reload => {
            if let Err(Some(answer)) = reloads.ask(Some(answer)) {
                let _ = answer.send(refusal(
                    "another reload waits already; ask again".to_owned(),
                ));
            }
            return Next::Go;
        }
        Order::Drain(AfterDrain::Exit) => (Next::End, Ok(Carried::default())),
        Order::Drain(AfterDrain::Stay) => {
            running.drain.announce();
            tracing::info!("out of rotation until told otherwise");
            (Next::Go, Ok(Carried::default()))
        }
        Order::Undrain => (Next::Go, undrain(running)),
        Order::Confirm(account) => (Next::Go, confirm(running, &account)),
    };
    // Whoever asked may have gone; what was asked is done.
    let _ = answer.send(result);
    next
}

fn undrain(running: &Running) -> Result<Carried, Refusal> {
    match running.drain.undrain() {
        Ok(()) => {
            tracing::info!("in rotation again");
            Ok(Carried::default())
        }
        Err(too_late) => refusal(too_late.to_string()),
    }
}

/// An account that kintone did not know is right after all. It is in the state directory a moment
/// later: a process that is killed before may close it once more.
fn confirm(running: &Running, account: &Account) -> Result<Carried, Refusal> {
    if running.quotas.confirm(account) {
        return Ok(Carried::default());
    }
    refusal(format!("{account} is not closed on this host"))
}

const fn refused(faults: Vec<String>) -> Result<Carried, Refusal> {
    Err(Refusal { faults })
}

fn refusal(fault: String) -> Result<Carried, Refusal> {
    refused(vec![fault])
}

/// Where the result of an order goes, if anybody asked for it.
type Answer = Option<oneshot::Sender<Result<Carried, Refusal>>>;

/// Reloads, one at a time and beside everything else: a disk that hangs must not keep the gateway
/// from being told to end.
struct Reloads {
    asked: mpsc::Sender<Answer>,
    _task: JoinSet<()>,
}

impl Reloads {
    fn start(running: Arc<Running>) -> Self {
        let (asked, mut asking) = mpsc::channel::<Answer>(RELOADS_WAITING);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(answer) = asking.recv().await {
                let result = reload(&running).await;
                if let Some(answer) = answer {
                    let _ = answer.send(result);
                }
            }
        });
        Self { asked, _task: task }
    }

    /// Lets one begin as soon as it can; gives `answer` back if too many wait.
    fn ask(&self, answer: Answer) -> Result<(), Answer> {
        self.asked
            .try_send(answer)
            .map_err(|full| full.into_inner())
    }
}

/// Reads the configuration on a thread that may wait for the disk. What came of it is in the log and
/// in the metrics; a signal has no other answer.
async fn reload(running: &Arc<Running>) -> Result<Carried, Refusal> {
    let now = NotifyState::monotonic_usec_now().ok();
    let reloading: Vec<_> = std::iter::once(NotifyState::Reloading).chain(now).collect();
    notify(&reloading);
    let reading = Arc::clone(running);
    let read = tokio::task::spawn_blocking(move || reading.reload()).await;
    let result = read.unwrap_or_else(|panic| {
        running.telemetry.reload_refused();
        Err(vec![format!("cannot be read: {panic}")])
    });
    notify(&[NotifyState::Ready]);
    match result {
        Ok(Reloaded {
            warnings,
            needs_restart,
        }) => {
            tracing::info!(?warnings, ?needs_restart, "configuration in use");
            Ok(Carried {
                warnings,
                needs_restart,
            })
        }
        Err(faults) => {
            tracing::error!(?faults, "configuration refused; the old one stays");
            refused(faults)
        }
    }
}

/// Drains; a second word to end ends it at once.
async fn drain(
    running: &Running,
    mut commands: mpsc::Receiver<Command>,
    mut signals: mpsc::Receiver<Signal>,
) -> Finished {
    notify(&[NotifyState::Stopping]);
    let (announce, grace) = {
        let config = running.config.load();
        (config.drain.announce, config.drain.grace)
    };
    tracing::info!(
        ?announce,
        ?grace,
        connections = running.drain.running(),
        "draining"
    );
    let finish = running.drain.finish(announce, grace);
    tokio::pin!(finish);
    loop {
        tokio::select! {
            finished = &mut finish => return finished,
            Some(signal) = signals.recv() => match signal {
                Signal::End => return cut(running).await,
                Signal::Reload => tracing::warn!("no reload: the gateway is ending"),
                Signal::ReopenLogs => running.log.reopen(),
            },
            Some(Command { order, answer }) = commands.recv() => {
                let result = match order {
                    Order::Drain(_) => Ok(Carried::default()),
                    Order::Reload | Order::Undrain | Order::Confirm(_) => {
                        refusal("the gateway is ending, and that cannot be taken back".to_owned())
                    }
                };
                let _ = answer.send(result);
            }
        }
    }
}

/// Ends what runs at once; each call gets the moment that its line in the log takes.
async fn cut(running: &Running) -> Finished {
    let tasks = running.drain.running();
    running.drain.cut();
    tracing::warn!(tasks, "told twice to end: ending at once");
    let _ = tokio::time::timeout(CUT_MAX, running.drain.idle()).await;
    Finished::Cut { tasks }
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
