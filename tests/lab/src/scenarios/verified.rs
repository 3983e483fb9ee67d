//! The internet sees the published addresses as others: a router translates wrongly, an address leaves
//! and comes back elsewhere, echoes lie and die.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::process::{reload, until_well};
use crate::gateway::config;
use crate::lab::{Lab, Strangers};
use crate::report;
use crate::site::{DEAD, ECHO_PORT, ECHOES, LIAR, PUBLISHED};
use crate::traffic::{Outcome, Tally};

const A_WHILE: Duration = Duration::from_millis(1200);

/// `[verify] interval` of these scenarios.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time for a machine with much to do, beyond what is promised.
const GRACE: Duration = Duration::from_millis(400);

/// The configuration, with these echoes.
fn verified(echoes: &[Ipv4Addr], unknown_for: &str) -> String {
    let urls: Vec<_> = echoes
        .iter()
        .map(|echo| format!("\"http://{echo}:{ECHO_PORT}/\""))
        .collect();
    config(&format!(
        "[verify]\nurls = [{}]\ninterval = \"{}s\"\nunknown_for = \"{unknown_for}\"\n",
        urls.join(", "),
        INTERVAL.as_secs()
    ))
}

/// The router translates to a wrong address before the gateway starts, and while it reloads: not a packet to
/// kintone. When it is right, all goes on by itself.
pub(super) async fn wrong_from_the_start(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.site.translate()?;
    lab.site.translate_wrongly(&PUBLISHED)?;
    let text = verified(&ECHOES, "3s");
    lab.gateway.configure(&text)?;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
    reload(
        lab,
        &format!("{text}[account.\"acme.cybozu.com\"]\nburst = 7\n"),
        1.0,
    )
    .await?;
    expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
    lab.gateway.until_ready_is(503).await?;
    let sent = lab.sent().await;
    ensure!(sent == 0, "{sent} packets to kintone");
    lab.site.translate_rightly()?;
    lab.gateway.until_ready_is(200).await?;
    sleep(INTERVAL).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

/// The translation turns wrong under load, first of one address, then of both, and right again. kintone may
/// see connections from the wrong address, but no call on them.
pub(super) async fn turns_wrong(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.strangers = Strangers::Counted;
    lab.site.translate()?;
    lab.gateway.configure(&verified(&ECHOES, "3s"))?;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    for round in 0..2 {
        lab.site.translate_wrongly(&PUBLISHED[..1])?;
        let took = until_verified_is(lab, PUBLISHED[0], 0.0).await?;
        ensure!(took < INTERVAL + GRACE, "out after {took:?}");
        let strangers = settled(lab).await;
        report::say(&format!(
            "verify-turns {round}: out after {} ms; kintone has seen {} connections and {} requests of a wrong address",
            took.as_millis(),
            strangers.0,
            strangers.1
        ));
        lab.all_well(&traffic, A_WHILE, &PUBLISHED[1..]).await?;
        ensure!(lab.gateway.page("/readyz").await?.0 == 200, "one is left");
        lab.site.translate_wrongly(&PUBLISHED[1..])?;
        let begun = Instant::now();
        lab.gateway.until_ready_is(503).await?;
        let took = begun.elapsed();
        ensure!(took < INTERVAL + GRACE, "unready after {took:?}");
        let strangers = settled(lab).await;
        lab.probe(&[Outcome::UNAVAILABLE]).await?;
        expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
        lab.site.translate_rightly()?;
        lab.gateway.until_ready_is(200).await?;
        for address in PUBLISHED {
            until_verified_is(lab, address, 1.0).await?;
        }
        sleep(GRACE).await;
        lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
        let later = lab.strangers();
        ensure!(
            later == strangers,
            "from {strangers:?} strangers to {later:?} since it was out"
        );
        ensure!(later.1 == 0, "{} calls from a wrong address", later.1);
    }
    lab.stop(traffic).await;
    Ok(())
}

/// An address leaves the host and comes back while the router translates it wrongly, as in a failover: no call
/// leaves from it before it is right.
pub(super) async fn comes_back_wrong(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.site.translate()?;
    lab.gateway.configure(&verified(&ECHOES, "30s"))?;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.site.remove_address(PUBLISHED[0])?;
    // What was under way on it is given up, so that nothing of it is sent again.
    sleep(super::OVER).await;
    lab.site.translate_wrongly(&PUBLISHED[..1])?;
    lab.site.return_address(PUBLISHED[0])?;
    sleep(INTERVAL).await;
    lab.all_well(&traffic, 2 * A_WHILE, &PUBLISHED[1..]).await?;
    lab.site.translate_rightly()?;
    until_verified_is(lab, PUBLISHED[0], 1.0).await?;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    ensure!(lab.strangers() == (0, 0), "{:?}", lab.strangers());
    lab.stop(traffic).await;
    Ok(())
}

/// One echo lies and another is dead: with two honest ones nobody notices; with one, nothing leaves; and a lie
/// in favour of a wrong address does not help it.
pub(super) async fn echoes_lie(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.site.translate()?;
    lab.echoes.liar_says(Some(crate::site::STRANGE));
    let all = [ECHOES[0], LIAR, DEAD, ECHOES[1]];
    lab.gateway.configure(&verified(&all, "3s"))?;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, 3 * INTERVAL, &PUBLISHED).await?;
    lab.site.fault(&format!("ip daddr {} drop", ECHOES[1]))?;
    lab.gateway.until_ready_is(503).await?;
    expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
    lab.site.clear_faults()?;
    lab.gateway.until_ready_is(200).await?;
    sleep(INTERVAL).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    lab.gateway.signal(Signal::SIGTERM)?;
    lab.gateway.ended().await?;
    lab.site.translate_wrongly(&PUBLISHED)?;
    lab.echoes.liar_says(Some(PUBLISHED[0]));
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
    ensure!(lab.strangers() == (0, 0), "{:?}", lab.strangers());
    lab.stop(traffic).await;
    lab.site.translate_rightly()?;
    lab.gateway.until_ready_is(200).await
}

/// A restart while no echo answers goes on with what was proven; one after the translation has turned wrong, with
/// echoes and without, sends nothing.
pub(super) async fn restarts(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.site.translate()?;
    lab.gateway.configure(&verified(&ECHOES, "60s"))?;
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    let silence = format!(
        "ip daddr {{ {}, {} }} tcp dport {ECHO_PORT} drop",
        ECHOES[0], ECHOES[1]
    );
    lab.site.fault(&silence)?;
    restart(lab).await?;
    until_well(&traffic).await?;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.gateway.signal(Signal::SIGTERM)?;
    lab.gateway.ended().await?;
    lab.site.translate_wrongly(&PUBLISHED)?;
    lab.site.clear_faults()?;
    lab.gateway.start().await?;
    expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
    lab.site.fault(&silence)?;
    restart(lab).await?;
    expect_refused(&Tally::of(&lab.phase(&traffic, A_WHILE).await))?;
    ensure!(lab.strangers() == (0, 0), "{:?}", lab.strangers());
    lab.site.clear_faults()?;
    lab.site.translate_rightly()?;
    lab.gateway.until_ready_is(200).await?;
    sleep(INTERVAL).await;
    lab.all_well(&traffic, A_WHILE, &PUBLISHED).await?;
    lab.stop(traffic).await;
    Ok(())
}

async fn restart(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    lab.gateway.signal(Signal::SIGTERM)?;
    lab.gateway.ended().await?;
    lab.gateway.start().await
}

/// Waits until the gateway says so of an address; how long that took.
async fn until_verified_is(
    lab: &Lab<'_>,
    address: Ipv4Addr,
    verified: f64,
) -> anyhow::Result<Duration> {
    let sample = format!("kintone_egress_address_verified{{address=\"{address}\"}}");
    let begun = Instant::now();
    while lab.gateway.metric(&sample).await? != verified {
        ensure!(
            begun.elapsed() < 10 * INTERVAL,
            "{sample} does not become {verified}"
        );
        sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed())
}

/// What kintone has seen of a wrong address when the calls that were under way have ended.
async fn settled(lab: &Lab<'_>) -> (usize, usize) {
    sleep(GRACE).await;
    lab.strangers()
}

/// Every call is refused, nothing of it sent.
fn expect_refused(tally: &Tally) -> anyhow::Result<()> {
    let beyond = tally.beyond(&[Outcome::UNAVAILABLE, Outcome::NoGateway, Outcome::DRAINING]);
    ensure!(beyond.total() == 0, "calls were not refused: {beyond}");
    ensure!(
        tally.count(Outcome::UNAVAILABLE) > 0,
        "nobody called: {tally}"
    );
    Ok(())
}
