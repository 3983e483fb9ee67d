//! The daily counts: opened, warned of, brought to disk.

use std::path::Path;
use std::sync::Arc;

use super::state::Running;
use crate::config::Config;
use crate::notify::Event;
use crate::quota::{Budget, DayClock, Days, FoundCounts, RecordError, Warning};
use crate::telemetry::{LimitName, Telemetry};

/// Takes the counts in the state directory, which must be this process's, and says what was found.
pub(super) fn open(config: &Config, telemetry: &Arc<Telemetry>) -> Result<Days, RecordError> {
    let full = Arc::clone(telemetry);
    let full = move || full.limit_hit(LimitName::DailyRows);
    let (days, found) = Days::open(&config.state_dir, DayClock::System, full)?;
    say(&config.state_dir, &found);
    days.judge(|account| Budget::of(config, account).part);
    Ok(days)
}

fn say(dir: &Path, found: &FoundCounts) {
    let dir = dir.display();
    match found {
        FoundCounts::Nothing | FoundCounts::Kept { uncertain: 0 } => {}
        FoundCounts::Kept { uncertain } => tracing::info!(
            %dir,
            uncertain,
            "calls counted in the instant in which their process was killed: kintone may not have \
             had them"
        ),
        FoundCounts::Missing => tracing::error!(
            %dir,
            "the daily counts are gone, although days were counted here before: today begins at 0. \
             Keep [state] dir, or put its file counts back from a backup"
        ),
        FoundCounts::Damaged { saved, lost } => tracing::error!(
            %dir,
            saved,
            lost,
            "the daily counts were damaged: what could be read goes on, and the file is kept as \
             counts.damaged"
        ),
    }
}

/// Runs what the counts need beside the calls, for ever.
pub(super) async fn drive(running: Arc<Running>) {
    let days = running.days.clone();
    days.drive(|warning| warn(&running, warning)).await;
}

fn warn(running: &Running, warning: &Warning) {
    let Warning {
        account,
        app,
        percent,
        requests,
        budget,
    } = warning;
    running.telemetry.budget_warned(account, *percent);
    tracing::warn!(
        %account,
        %app,
        percent,
        requests,
        budget,
        "an app nears the end of its calls of the day, which begins anew at 09:00 Japan time"
    );
    let near = Event::BudgetNear(account.clone(), *app, *percent);
    running.desk.tell(near);
}

/// Brings the counts to disk, so that the end of the machine after this one costs none.
pub(super) async fn close(running: &Arc<Running>) {
    let days = running.days.clone();
    let synced = tokio::task::spawn_blocking(move || days.sync()).await;
    match synced {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the daily counts could not be brought to disk"),
        Err(panic) => tracing::warn!(%panic, "the daily counts could not be brought to disk"),
    }
}
