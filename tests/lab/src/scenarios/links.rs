//! The way between the gateway and kintone breaks, in part or wholly.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::OVER;
use crate::lab::Lab;
use crate::site::{KINTONE, PUBLISHED, ip};
use crate::traffic::{Outcome, Tally, by_address};

const A_WHILE: Duration = Duration::from_millis(1200);

/// SYNs: attempts to connect, and nothing of connections that stand.
const CONNECTS: &str = "tcp dport 443 tcp flags & (syn | ack) == syn";

/// The cable is pulled out at the router: the gateway still has its addresses.
pub(super) async fn carrier_lost(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    ip("router", "link set gw0 down")?;
    sleep(Duration::from_secs(3)).await;
    lab.site.restore()?;
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// The gateway's own interface goes down, and its routes with it.
pub(super) async fn link_down(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.probe(&[Outcome::Ok]).await?;
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    ip("gateway", "link set wan0 down")?;
    let before = lab.sent().await;
    lab.probe(&[Outcome::CONNECT, Outcome::TIMEOUT]).await?;
    sleep(A_WHILE).await;
    let after = lab.sent().await;
    lab.site.restore()?;
    ensure!(
        before == after,
        "{} packets through a link that is down",
        after - before
    );
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// One packet in eight is lost, both ways: most calls come through, the others say what happened.
pub(super) async fn packets_lost(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    for port in ["dport", "sport"] {
        let rule = format!("tcp {port} 443 numgen random mod 8 == 0 drop");
        lab.site.fault(&rule)?;
    }
    let calls = lab.phase(&traffic, Duration::from_secs(4)).await;
    lab.site.clear_faults()?;
    let tally = Tally::of(&calls);
    let well = tally.count(Outcome::Ok);
    ensure!(well * 2 > tally.total(), "most calls come through: {tally}");
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// One of kintone's two addresses swallows or refuses connections: the other is taken, and no call
/// notices.
pub(super) async fn half_of_kintone(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    for verdict in ["drop", "reject with tcp reset"] {
        for dead in KINTONE {
            lab.site
                .fault(&format!("ip daddr {dead} {CONNECTS} {verdict}"))?;
            let traffic = lab.traffic();
            let well = lab.all_well(&traffic, A_WHILE, &PUBLISHED).await;
            lab.stop(traffic).await;
            lab.site.clear_faults()?;
            well?;
        }
    }
    Ok(())
}

/// Connects are refused, and connections that stand are reset at random.
pub(super) async fn resets(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    lab.site
        .fault(&format!("{CONNECTS} reject with tcp reset"))?;
    let refused = Tally::of(&lab.phase(&traffic, A_WHILE).await);
    lab.site.clear_faults()?;
    ensure!(
        refused.count(Outcome::CONNECT) > 0,
        "connects are refused: {refused}"
    );
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    let standing = "tcp dport 443 tcp flags & (syn | fin | rst) == 0x0";
    let sometimes = "numgen random mod 20 == 0 reject with tcp reset";
    lab.site.fault(&format!("{standing} {sometimes}"))?;
    let reset = Tally::of(&lab.phase(&traffic, A_WHILE * 2).await);
    lab.site.clear_faults()?;
    ensure!(reset.count(Outcome::RESET) > 0, "calls are reset: {reset}");
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// Everything towards kintone vanishes.
pub(super) async fn blackhole(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.probe(&[Outcome::Ok]).await?;
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    lab.site.fault("tcp dport 443 drop")?;
    lab.probe(&[Outcome::CONNECT, Outcome::TIMEOUT]).await?;
    let calls = lab.phase(&traffic, A_WHILE).await;
    lab.site.clear_faults()?;
    let tally = Tally::of(&calls);
    ensure!(
        tally.count(Outcome::Ok) == 0,
        "nothing comes through: {tally}"
    );
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// One published address is on the host but leads nowhere: the other carries its calls, and both
/// do so again when it is well.
pub(super) async fn address_blackholed(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    let [dead, alive] = PUBLISHED;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    lab.site.fault(&format!("ip saddr {dead} drop"))?;
    sleep(A_WHILE).await;
    let calls = lab.phase(&traffic, Duration::from_secs(5)).await;
    lab.site.clear_faults()?;
    let well: Vec<_> = calls
        .into_iter()
        .filter(|c| c.outcome == Outcome::Ok)
        .collect();
    let used = by_address(&well);
    ensure!(
        used.keys().eq([&alive.to_string()]),
        "calls come through by {alive} alone: {used:?}"
    );
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}
