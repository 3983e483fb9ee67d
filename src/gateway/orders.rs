//! What the operating system and operators tell the running gateway to do.

use std::io;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::state::{Reloaded, Running};
use crate::admin::{AfterDrain, Carried, Command, Order, Refusal};
use crate::drain::Finished;

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
    loop {
        tokio::select! {
            Some(signal) = signals.recv() => match signal {
                Signal::End => break,
                Signal::Reload => reload(&running).await,
                Signal::ReopenLogs => running.log.reopen(),
            },
            Some(command) = commands.recv() => {
                if carry_out(&running, command).await == Next::End {
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

async fn carry_out(running: &Arc<Running>, command: Command) -> Next {
    let Command { order, answer } = command;
    let (next, result) = match order {
        Order::Reload => (Next::Go, reload_for(running).await),
        Order::Drain(AfterDrain::Exit) => (Next::End, Ok(Carried::default())),
        Order::Drain(AfterDrain::Stay) => {
            running.drain.announce();
            tracing::info!("out of rotation until told otherwise");
            (Next::Go, Ok(Carried::default()))
        }
        Order::Undrain => (Next::Go, undrain(running)),
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
        Err(too_late) => Err(Refusal {
            faults: vec![too_late.to_string()],
        }),
    }
}

/// Reads the configuration on a thread that may wait for the disk.
async fn reload_for(running: &Arc<Running>) -> Result<Carried, Refusal> {
    notify(&[NotifyState::Reloading]);
    let reading = Arc::clone(running);
    let read = tokio::task::spawn_blocking(move || reading.reload()).await;
    let result = read.unwrap_or_else(|panic| Err(vec![format!("cannot be read: {panic}")]));
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
            Err(Refusal { faults })
        }
    }
}

async fn reload(running: &Arc<Running>) {
    // What came of it is in the log and in the metrics; a signal has no other answer.
    let _ = reload_for(running).await;
}

/// Drains; a second word to end ends it at once.
async fn drain(
    running: &Arc<Running>,
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
                Signal::End => {
                    let tasks = running.drain.running();
                    running.drain.cut();
                    tracing::warn!(tasks, "told twice to end: ending at once");
                    return Finished::Cut { tasks };
                }
                Signal::Reload => {}
                Signal::ReopenLogs => running.log.reopen(),
            },
            Some(command) = commands.recv() => {
                carry_out(running, command).await;
            }
        }
    }
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
