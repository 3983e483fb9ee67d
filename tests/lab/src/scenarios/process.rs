//! The gateway's own process: reloaded, restarted, killed, all under load.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::gateway::config;
use crate::lab::Lab;
use crate::site::{NEIGHBOUR, PUBLISHED};
use crate::traffic::{Outcome, Tally, Traffic};

const A_WHILE: Duration = Duration::from_millis(1000);

/// Whether the configuration last read was taken.
const TAKEN: &str = "kintone_egress_config_last_reload_successful";

/// Longest wait for a reload, and for the first good call after a start.
const SOON: Duration = Duration::from_secs(5);

/// Good and wrong configurations in turn, one of which would leave from another address.
pub(super) async fn reloads(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    let begun = Instant::now();
    for round in 0..10 {
        let quota = format!("[account.\"acme.cybozu.com\"]\nburst = {}", 100 + round);
        reload(lab, &config(&quota), 1.0).await?;
        reload(lab, &config("[quota]\nno_such_key = 1"), 0.0).await?;
    }
    let [published, _] = PUBLISHED.map(|ip| format!("published = \"{ip}\""));
    let elsewhere = format!("{published}\nbind = \"{NEIGHBOUR}\"");
    // Named as needing a restart, and not followed before.
    reload(lab, &config("").replace(&published, &elsewhere), 1.0).await?;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    let tally = Tally::of(&traffic.since(begun));
    ensure!(
        tally.beyond(&[Outcome::Ok]).total() == 0,
        "reloads: {tally}"
    );
    lab.gateway.configure(&config(""))?;
    lab.stop(traffic).await;
    Ok(())
}

pub(super) async fn reload(lab: &Lab<'_>, text: &str, taken: f64) -> anyhow::Result<()> {
    lab.gateway.configure(text)?;
    lab.gateway.signal(Signal::SIGHUP)?;
    let deadline = Instant::now() + SOON;
    while lab.gateway.metric(TAKEN).await? != taken {
        ensure!(Instant::now() < deadline, "{TAKEN} does not become {taken}");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// SIGTERM and a new start, three times: what came to kintone is answered.
pub(super) async fn restarts(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    for _ in 0..3 {
        lab.gateway.signal(Signal::SIGTERM)?;
        let status = lab.gateway.ended().await?;
        ensure!(status.success(), "drained: {status}");
        lab.gateway.start().await?;
        until_well(&traffic).await?;
        lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    }
    lab.stop(traffic).await;
    lab.expect_cut_unsent()
}

/// SIGKILL and a new start, five times: kintone goes on with what it has, and the new process counts it.
pub(super) async fn kills(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    for _ in 0..5 {
        // Until `settle` is over the calls that were killed hold their permits, and the others wait.
        lab.all_well(&traffic, A_WHILE * 2, &PUBLISHED).await?;
        lab.gateway.signal(Signal::SIGKILL)?;
        lab.gateway.ended().await?;
        lab.gateway.start().await?;
        until_well(&traffic).await?;
    }
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// Waits for the first good call that begins from here on.
pub(super) async fn until_well(traffic: &Traffic) -> anyhow::Result<()> {
    let begun = Instant::now();
    while Tally::of(&traffic.since(begun)).count(Outcome::Ok) == 0 {
        ensure!(begun.elapsed() < SOON, "no good call after the start");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
