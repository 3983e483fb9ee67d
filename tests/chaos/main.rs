//! Two gateways of one fleet and a real redis-server, and everything that can happen to them, drawn by a
//! seed: kill -9, SIGSTOP and SIGCONT, a store that is flushed, killed, stopped, rolled back or replaced by
//! a replica that lacks the last writes, partitions in one direction and in both. kintone counts: there is
//! no instant over the limit.
//!
//! `make chaos` runs it for half an hour; CHAOS_SECONDS and CHAOS_SEED say otherwise. As a part of the
//! tests it takes about a minute. It needs a network namespace (`unshare`) and nft.

#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(
    clippy::print_stdout,
    reason = "figures that were measured are shown by --nocapture"
)]

#[allow(dead_code, reason = "one store is enough here")]
#[path = "../fleet/store.rs"]
mod store;
#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod fault;
mod gateway;
mod load;

use std::time::Duration;

use kintone_sim::{Keep, Options, Sim, TenantSettings};
use tokio::time::{Instant, sleep};

use fault::{Draw, Faults};
use gateway::{Fleet, Process, SETTLE_S};
use load::Load;
use store::Store;
use support::namespace::in_namespace;
use support::{ACME, API_TOKEN, TOKEN, invariants};

/// How long, in seconds, where CHAOS_SECONDS does not say.
const SECONDS: u64 = 60;
/// kintone's limit less what is left to others.
const TOTAL: u32 = 98;

#[test]
fn no_instant_is_over_the_limit_whatever_happens() {
    in_namespace(
        "no_instant_is_over_the_limit_whatever_happens",
        async || {
            let (seconds, seed) = (number("CHAOS_SECONDS"), number("CHAOS_SEED"));
            let mut draw = Draw::new(seed);
            println!("CHAOS_SEED={}", draw.seed());
            run(Duration::from_secs(seconds.unwrap_or(SECONDS)), &mut draw).await;
        },
    );
}

/// The control: what is found to be 0 above is found where it is not.
#[test]
fn hosts_that_do_not_know_of_each_other_are_found_out() {
    in_namespace(
        "hosts_that_do_not_know_of_each_other_are_found_out",
        async || {
            let sim = simulator().await;
            let store = Store::start(&["--bind", "0.0.0.0"]);
            let dir = tempfile::tempdir().unwrap();
            let start =
                |index| Process::start(index, dir.path(), &sim, store.port, Fleet::Strangers);
            let mut hosts = [0, 1].map(start);
            let loads = hosts.each_ref().map(|host| Load::start(host.caller(&sim)));
            loads.iter().for_each(|load| load.callers(120));
            let deadline = Instant::now() + Duration::from_secs(30);
            while sim.accounting(ACME).peak <= TOTAL {
                let peak = sim.accounting(ACME).peak;
                assert!(Instant::now() < deadline, "only {peak} at once");
                sleep(Duration::from_millis(20)).await;
            }
            for load in loads {
                load.stop().await;
            }
            let said: String = hosts.iter_mut().map(Process::end).collect();
            invariants::check_secrets(&said, &[TOKEN, API_TOKEN]);
            invariants::check_sockets(&sim.ledger(), &["127.0.1.94", "127.0.1.95"]);
        },
    );
}

async fn run(time: Duration, draw: &mut Draw) {
    let sim = simulator().await;
    let mut store = Store::start(&["--bind", "0.0.0.0"]);
    let dir = tempfile::tempdir().unwrap();
    let start = |index| Process::start(index, dir.path(), &sim, store.port, Fleet::Shared);
    let mut hosts = [0, 1].map(start);
    let loads = hosts.each_ref().map(|host| Load::start(host.caller(&sim)));
    let mut faults = Faults::new(store.port);
    let end = Instant::now() + time;
    while Instant::now() < end {
        for load in &loads {
            // Idle, a few, many: so permits are lent, recalled and lent again.
            load.callers([0, 3, 60, 120][draw.below(4) as usize]);
        }
        faults.one(draw, &mut hosts, &mut store).await;
        sleep(Duration::from_millis(200 + draw.below(1800))).await;
        let accounting = sim.accounting(ACME);
        let (peak, longest) = (accounting.peak, accounting.longest_seconds);
        assert!(
            longest < SETTLE_S,
            "a call took kintone {longest} s, which is longer than `settle`: this machine has no \
             time for chaos"
        );
        assert!(
            peak <= TOTAL,
            "{peak} at once, seed {}: {:?}",
            draw.seed(),
            faults.done()
        );
    }
    faults.heal(&mut hosts, &mut store);
    // All is well again, and both together have all there is.
    loads.iter().for_each(|load| load.callers(150));
    until_all_is_used(&sim).await;
    for load in loads {
        load.stop().await;
    }
    let accounting = sim.accounting(ACME);
    println!(
        "{} calls of at most {:.1} s, {} at once at most, {} instants over the limit; {:?}",
        accounting.admitted,
        accounting.longest_seconds,
        accounting.peak,
        accounting.over_limit_times,
        faults.done()
    );
    assert!(accounting.peak <= TOTAL, "{} at once", accounting.peak);
    assert_eq!((accounting.refused, accounting.over_limit_times), (0, 0));
    let said: String = hosts.iter_mut().map(Process::end).collect();
    invariants::check_secrets(&said, &[TOKEN, API_TOKEN]);
    invariants::check_sockets(&sim.ledger(), &["127.0.1.94", "127.0.1.95"]);
}

async fn simulator() -> Sim {
    let options = Options {
        keep: Keep::Counts,
        ..Options::default()
    };
    let sim = Sim::start(options).await.unwrap();
    sim.tenant(ACME, kintone());
    sim
}

/// Calls take a while, and kintone goes on with those of a gateway that is gone.
fn kintone() -> TenantSettings {
    let mut tenant = TenantSettings::default();
    (tenant.latency.base_ms, tenant.latency.jitter_ms) = (50, 350);
    tenant
}

/// Loans of hosts that were killed come back after at most 26 s by the times of these hosts.
async fn until_all_is_used(sim: &Sim) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let in_process = sim.accounting(ACME).in_process;
        if in_process >= 88 {
            println!("{in_process} of {TOTAL} in use again");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "only {in_process} of {TOTAL} in use"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
