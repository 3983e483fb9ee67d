//! What was in flight when the last process ended, and what is when this one does.

use std::path::Path;
use std::sync::Arc;

use super::state::Running;
use crate::config::Config;
use crate::config::file::Environment;
use crate::quota::{Boot, BootError, Found, Opened, RecordError};

/// Takes the state directory, and says what was found there.
pub(super) fn open(config: &Config, environment: &Environment) -> Result<Opened, RecordError> {
    let boot = boot(environment)?;
    let opened = Opened::open(&config.state_dir, boot)?;
    let (dir, settle) = (config.state_dir.display(), config.quota.settle);
    let permits = opened.permits();
    match opened.found() {
        Found::Nothing => tracing::warn!(
            %dir,
            "no flight record: taken for the first start of this host. If a gateway ran here less \
             than {settle:?} ago, the calls that it left at kintone are not counted: keep [state] dir"
        ),
        Found::SameBoot | Found::Closed => {
            tracing::info!(%dir, permits, "calls of the last process that may still be at kintone");
        }
        Found::PowerLoss => tracing::warn!(
            %dir,
            "the machine went down under a running gateway: calls wait until it has been up for \
             {settle:?}, when those from before have settled"
        ),
        Found::Moved => tracing::warn!(
            %dir,
            "the flight record is of another machine, or of one without /etc/machine-id, that went \
             down under a running gateway: calls wait for {settle:?}, until those of that one have \
             settled"
        ),
        Found::Missing => tracing::warn!(
            %dir,
            "the flight record is gone, although a gateway was here before: calls wait for \
             {settle:?}, until those of that one have settled"
        ),
        Found::Damaged(damage) => tracing::error!(
            %dir,
            "the flight record cannot be used: {damage}. It is kept as flight.damaged, and calls \
             wait for {settle:?}, until those of the last process have settled"
        ),
    }
    Ok(opened)
}

/// Which run of which machine's kernel this is.
pub(super) fn boot(environment: &Environment) -> Result<Boot, BootError> {
    let root = environment.root.as_deref();
    Boot::read(root.unwrap_or_else(|| Path::new("/")))
}

/// Leaves the state directory to the next gateway, whoever still holds a part of this one.
pub(super) fn release(running: &Running) {
    // What still runs, at a second word to end, may send: only the end of the process frees it.
    if running.drain.running() > 0 {
        return;
    }
    if let Err(error) = running.quotas.release_record() {
        tracing::warn!(%error, "the state directory is taken until this process ends");
    }
}

/// Closes the record of a gateway that has drained, so that a restart of the machine costs no wait.
pub(super) async fn close(running: &Arc<Running>) {
    // What still runs, at a second word to end, may send: the record stays as after a crash.
    if running.drain.running() > 0 {
        return;
    }
    let quotas = running.quotas.clone();
    let closed = tokio::task::spawn_blocking(move || quotas.close_record()).await;
    match closed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the flight record could not be closed"),
        Err(panic) => tracing::warn!(%panic, "the flight record could not be closed"),
    }
}
