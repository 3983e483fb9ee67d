//! Everything at once, drawn by a seed that the report tells.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::OVER;
use crate::gateway::config;
use crate::lab::Lab;
use crate::names::{Says, truth};
use crate::site::{PUBLISHED, ip};
use crate::support::ACME;
use crate::traffic::Outcome;

/// How long, in seconds; LAB_CHAOS_SECONDS says otherwise.
const SECONDS: u64 = 8;

/// What calls may come to while anything may happen.
pub(super) const ALLOWED: &[Outcome] = &[
    Outcome::Ok,
    Outcome::UNAVAILABLE,
    Outcome::NO_PERMIT,
    Outcome::DRAINING,
    Outcome::CONNECT,
    Outcome::TLS,
    Outcome::DNS,
    Outcome::TIMEOUT,
    Outcome::RESET,
    Outcome::NoGateway,
    Outcome::Cut,
    Outcome::TunnelCut,
];

/// One fault after another, each healed by chance; then all is healed and everything works again.
pub(super) async fn everything(lab: &mut Lab<'_>) -> anyhow::Result<()> {
    let mut draw = Draw::from_environment();
    crate::report::say(&format!("chaos: LAB_SEED={}", draw.0));
    lab.names.says(ACME, [truth(0)]);
    lab.gateway.start().await?;
    let traffic = lab.traffic();
    let end = Instant::now() + Duration::from_secs(number("LAB_CHAOS_SECONDS").unwrap_or(SECONDS));
    while Instant::now() < end {
        one(lab, &mut draw).await?;
        sleep(Duration::from_millis(draw.below(600))).await;
    }
    lab.names.says(ACME, [truth(0)]);
    lab.gateway.configure(&config(""))?;
    lab.site.restore()?;
    // A name that failed is asked for again after 2 s.
    sleep(OVER + Duration::from_secs(2)).await;
    lab.gateway.until_ready_is(200).await?;
    lab.all_well(&traffic, Duration::from_secs(2), &PUBLISHED)
        .await?;
    lab.stop(traffic).await;
    Ok(())
}

async fn one(lab: &mut Lab<'_>, draw: &mut Draw) -> anyhow::Result<()> {
    let address = PUBLISHED[usize::from(draw.below(2) == 0)];
    match draw.below(10) {
        // Whether it is there at all is not known here.
        0 => drop(lab.site.remove_address(address)),
        1 => lab.site.return_address(address)?,
        2 => lab
            .site
            .fault("tcp dport 443 numgen random mod 10 == 0 drop")?,
        3 => lab
            .site
            .fault("tcp dport 443 numgen random mod 30 == 0 reject with tcp reset")?,
        4 => lab.site.fault(&format!("ip saddr {address} drop"))?,
        5 => ip("gateway", "link set wan0 down")?,
        6 => {
            let says = [Says::Nothing, Says::Addresses(Vec::new(), 0), truth(0)];
            lab.names.says(ACME, says);
        }
        7 => lab.gateway.signal(Signal::SIGHUP)?,
        8 => {
            let signal = [Signal::SIGTERM, Signal::SIGKILL][usize::from(draw.below(2) == 0)];
            lab.gateway.signal(signal)?;
            lab.gateway.ended().await?;
            lab.gateway.start().await?;
        }
        _ => lab.site.restore()?,
    }
    Ok(())
}

/// A row of numbers that a seed decides (xorshift64, Marsaglia 2003).
struct Draw(u64);

impl Draw {
    fn from_environment() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let drawn = now.map_or(1, |now| u64::from(now.subsec_nanos()));
        Self(number("LAB_SEED").unwrap_or(drawn).max(1))
    }

    fn below(&mut self, end: u64) -> u64 {
        for shift in [13_i32, -7, 17] {
            self.0 ^= if shift > 0 {
                self.0 << shift
            } else {
                self.0 >> -shift
            };
        }
        self.0 % end
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
