//! Which accounts take which address, from one process to the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::state::Running;
use crate::config::Config;
use crate::egress::Egress;
use crate::egress::acceptance_file::{self as file, AcceptanceError};
use crate::proxy::Outgoing;

/// How often what was learned goes to the disk: what a crash can lose.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// Takes over what an earlier process has learned.
pub(super) fn restore(config: &Config, egress: &Egress<Outgoing>) {
    let dir = config.state_dir.display();
    match file::read(&config.state_dir) {
        Ok(accounts) => egress.acceptance().take_over(&accounts),
        Err(error @ AcceptanceError::Damaged(_)) => {
            tracing::error!(
                %dir,
                %error,
                "which accounts take which address is not known any more: it is learned again. What \
                 cannot be read is kept as acceptance.damaged"
            );
            if let Err(error) = file::put_aside(&config.state_dir) {
                tracing::error!(%dir, %error, "it could not be put aside");
            }
        }
        Err(error @ AcceptanceError::Unreadable(_)) => tracing::error!(
            %dir,
            %error,
            "acceptance.json cannot be read: which accounts take which address is learned again"
        ),
    }
}

/// Saves what was learned every ten seconds. Never returns.
pub(super) async fn keep(running: Arc<Running>) {
    let mut tick = interval(SAVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if running.egress.acceptance().take_changed() {
            save(&running).await;
        }
    }
}

/// Saves it, whether it has changed or not.
pub(super) async fn save(running: &Arc<Running>) {
    let running = Arc::clone(running);
    let written = tokio::task::spawn_blocking(move || {
        let acceptance = running.egress.acceptance();
        let written = file::write(&acceptance.all(), &running.config.load().state_dir);
        if let Err(error) = written {
            acceptance.set_changed();
            tracing::error!(%error, "acceptance.json is not written");
        }
    });
    if let Err(panic) = written.await {
        tracing::error!(%panic, "acceptance.json is not written");
    }
}
