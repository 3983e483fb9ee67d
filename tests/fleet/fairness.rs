//! Tenants whose calls come by different hosts.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::pair::{Pair, Wish};
use crate::process::Process;
use crate::sharing::slow;
use crate::store::Store;
use crate::support::crowd::{Tally, flood};

/// Whose calls come by which host.
const BY_HOST: [&[usize]; 2] = [&[0, 1, 2, 3, 4, 5, 6], &[7, 8, 9]];
const TENANTS: usize = 10;
/// Callers of each tenant on each host: each alone could fill half of the account.
const CALLERS: usize = 40;
/// Until permits are where the calls are.
const SETTLING: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(10);

/// What a tenant asks for, by which kintone tells it from others. Those of odd numbers ask for what
/// takes three times as long.
fn url_of(tenant: usize) -> String {
    let path = ["records.json", "app/form/fields.json"][tenant % 2];
    format!(
        "http://acme.cybozu.com/k/v1/{path}?app=1&{}",
        mark_of(tenant)
    )
}

fn mark_of(tenant: usize) -> String {
    format!("tenant={tenant}")
}

/// Jain's index: 1 where all have the same, 1/n where one has all.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

/// How long each tenant's calls were at kintone between two moments, in permit-seconds.
fn shares(pair: &Pair, from: Instant, to: Instant) -> Vec<f64> {
    let executions = pair.sim.ledger().executions;
    let mut shares = vec![0.0; TENANTS];
    for execution in executions.iter().filter(|execution| execution.admitted) {
        let end = execution.end.map_or(to, |end| end.at.min(to));
        let there = end.saturating_duration_since(execution.start.at.max(from));
        let its = |tenant: &usize| execution.query.ends_with(&mark_of(*tenant));
        let tenant = (0..TENANTS).find(its).unwrap();
        shares[tenant] += there.as_secs_f64();
    }
    shares
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_tenants_share_alike_whatever_host_their_calls_come_by() {
    let store = Store::start(&[]);
    let mut tenant = slow(400);
    tenant.latency.jitter_ms = 100;
    tenant.latency.paths = vec![("/k/v1/app/form/fields.json".to_owned(), 1200)];
    let pair = Pair::new(Wish {
        tenant,
        quota: "concurrency = 100\nheadroom = 2\ninteractive_reserve = 0\nmax_wait = \"60s\"\n"
            .to_owned(),
        ..Wish::new(store.url())
    })
    .await;
    let hosts = ["gw-a", "gw-b"].map(|name| Process::start(&pair, name, &pair.wish));
    let from = Instant::now() + SETTLING;
    let to = from + MEASURED;
    let mut callers = JoinSet::new();
    for (host, tenants) in hosts.iter().zip(BY_HOST) {
        for tenant in tenants {
            let (caller, url) = (
                host.caller_of(&format!("company-{tenant}")),
                url_of(*tenant),
            );
            callers.spawn(async move { flood(&caller, CALLERS, &url, to).await });
        }
    }
    sleep_until(to).await;
    let shares = shares(&pair, from, to);
    let all = shares.iter().sum::<f64>() / MEASURED.as_secs_f64();
    let index = jain(&shares);
    let mut tally = Tally::default();
    for part in callers.join_all().await {
        tally.join(part);
    }
    let rounded: Vec<_> = shares.iter().map(|share| share.round()).collect();
    println!("Jain {index:.4}, {all:.1} at once, {rounded:?} permit-seconds");
    println!("{:?}", tally.statuses);
    assert!(tally.is_all_well());
    assert!(index >= 0.97, "{index}: {shares:?}");
    pair.check();
}
