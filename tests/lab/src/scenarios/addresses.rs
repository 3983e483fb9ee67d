//! The published addresses leave the host and come back.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::OVER;
use crate::lab::Lab;
use crate::site::{NEIGHBOUR, PUBLISHED, ip};
use crate::traffic::{Outcome, Tally};

/// The gateway looks every second for what has come back.
const NOTICED: Duration = Duration::from_millis(1300);

/// Calls themselves look before they leave.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Long enough for a few hundred calls.
const A_WHILE: Duration = Duration::from_millis(1200);

/// All is well: every call comes through, and both addresses carry about half of them.
pub(super) async fn take_turns(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    for address in PUBLISHED {
        let up = format!("kintone_egress_address_up{{address=\"{address}\"}}");
        ensure!(lab.gateway.metric(&up).await? == 1.0, "{up}");
    }
    lab.stop(traffic).await;
    let sources = lab.sim.ledger().sources();
    ensure!(sources.len() == 2, "kintone saw {sources:?}");
    Ok(())
}

/// Each address leaves in turn: the other carries everything, until it is back.
pub(super) async fn one_leaves(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    for (gone, left) in [(0, 1), (1, 0)] {
        lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
        lab.site.remove_address(PUBLISHED[gone])?;
        // At once: the few that were under way on it must not stand in the way of the others.
        sleep(AT_ONCE).await;
        lab.all_well(&traffic, A_WHILE, &[PUBLISHED[left]]).await?;
        let (status, _) = lab.gateway.page("/readyz").await?;
        ensure!(status == 200, "/readyz says {status} with one address left");
        lab.site.return_address(PUBLISHED[gone])?;
        sleep(NOTICED).await;
    }
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// Both leave: not a packet, every call is told so, and when one is back all goes on by itself.
pub(super) async fn all_leave(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    for address in PUBLISHED {
        lab.site.remove_address(address)?;
    }
    let before = lab.sent().await;
    sleep(NOTICED).await;
    lab.probe(&[Outcome::UNAVAILABLE]).await?;
    sleep(OVER).await;
    let calls = lab.phase(&traffic, A_WHILE).await;
    expect_unavailable(&Tally::of(&calls))?;
    let after = lab.sent().await;
    ensure!(
        before == after,
        "{} packets left all the same",
        after - before
    );
    lab.gateway.until_ready_is(503).await?;
    lab.site.return_address(PUBLISHED[1])?;
    lab.gateway.until_ready_is(200).await?;
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED[1..]).await?;
    lab.site.return_address(PUBLISHED[0])?;
    sleep(NOTICED).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// The gateway starts on a host that has no address yet, as at boot.
pub(super) async fn start_without(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    for address in PUBLISHED {
        lab.site.remove_address(address)?;
    }
    let before = lab.sent().await;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    let calls = lab.phase(&traffic, A_WHILE).await;
    expect_unavailable(&Tally::of(&calls))?;
    lab.gateway.until_ready_is(503).await?;
    let sent = lab.sent().await - before;
    ensure!(sent == 0, "{sent} packets before there is an address");
    lab.site.return_address(PUBLISHED[0])?;
    lab.gateway.until_ready_is(200).await?;
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED[..1]).await?;
    lab.site.return_address(PUBLISHED[1])?;
    sleep(NOTICED).await;
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// Addresses leave and come back faster than anybody looks, both of them at times.
pub(super) async fn flap(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    for _ in 0..12 {
        lab.site.remove_address(PUBLISHED[0])?;
        sleep(Duration::from_millis(90)).await;
        lab.site.remove_address(PUBLISHED[1])?;
        sleep(Duration::from_millis(40)).await;
        lab.site.return_address(PUBLISHED[0])?;
        sleep(Duration::from_millis(90)).await;
        lab.site.return_address(PUBLISHED[1])?;
    }
    lab.gateway.until_ready_is(200).await?;
    sleep(OVER).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// The host gets another address of its own and another default source; calls do not care.
pub(super) async fn host_renumbered(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE / 2, &PUBLISHED).await?;
    ip("gateway", "addr add 18.177.83.96/26 dev wan0")?;
    let default = "route replace default via 18.177.83.65 src";
    ip("gateway", &format!("{default} 18.177.83.96"))?;
    let renumbered = lab.all_well(&traffic, A_WHILE, &PUBLISHED).await;
    ip("gateway", &format!("{default} {NEIGHBOUR}"))?;
    ip("gateway", "addr del 18.177.83.96/26 dev wan0")?;
    renumbered?;
    lab.stop(traffic).await;
    Ok(())
}

fn expect_unavailable(tally: &Tally) -> anyhow::Result<()> {
    ensure!(tally.total() > 0, "no calls");
    let other = tally.beyond(&[Outcome::UNAVAILABLE]);
    ensure!(other.total() == 0, "without an address: {other}");
    Ok(())
}
