//! The accounts that are closed because kintone does not know them, from one process to the next.

use std::sync::Arc;
use std::time::Duration;

use super::state::Running;
use crate::config::Config;
use crate::quota::{Closure, ClosuresError, Quotas};

/// How soon it is tried again to write them down, where the disk did not take them.
const AGAIN: Duration = Duration::from_secs(10);

/// Closes again what an earlier process closed.
pub(super) fn restore(config: &Config, quotas: &Quotas) {
    let dir = config.state_dir.display();
    match Closure::read_all(&config.state_dir) {
        Ok(closures) => {
            let closed = closures.len();
            quotas.close_again(closures, config);
            if closed > 0 {
                let accounts = quotas.closures().into_iter().map(|closure| closure.account);
                let accounts: Vec<_> = accounts.collect();
                tracing::warn!(
                    ?accounts,
                    "closed until confirmed: kintone did not know them"
                );
            }
        }
        Err(error @ ClosuresError::Damaged(_)) => {
            tracing::error!(
                %dir,
                %error,
                "the list of accounts that kintone did not know cannot be used. It is kept as \
                 unknown-accounts.damaged; those accounts are open until kintone says so again"
            );
            if let Err(error) = Closure::put_aside(&config.state_dir) {
                tracing::error!(%dir, %error, "it could not be put aside");
            }
        }
        Err(error @ ClosuresError::Unreadable(_)) => tracing::error!(
            %dir,
            %error,
            "the list of accounts that kintone did not know cannot be read; those accounts are \
             open until kintone says so again"
        ),
    }
}

/// Writes them down whenever they change. Never returns.
pub(super) async fn keep(running: Arc<Running>) {
    loop {
        running.quotas.closures_changed().await;
        while !write(&running).await {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Writes them down; whether the disk took them.
pub(super) async fn write(running: &Running) -> bool {
    let closures = running.quotas.closures();
    let dir = running.config.load().state_dir.clone();
    let written = tokio::task::spawn_blocking(move || Closure::write_all(closures, &dir)).await;
    match written {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "the list of accounts that kintone did not know is not written");
            false
        }
        Err(panic) => {
            tracing::error!(%panic, "the list of accounts that kintone did not know is not written");
            false
        }
    }
}
