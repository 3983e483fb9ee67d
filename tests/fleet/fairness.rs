//! Tenants whose calls come by different hosts.

use std::ops::Range;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::pair::{Pair, Wish};
use crate::process::Process;
use crate::sharing::slow;
use crate::store::Store;
use crate::support::crowd::{Tally, flood};

const TENANTS: usize = 10;
/// Callers of each tenant: each alone could fill half of the account.
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

/// Who calls by a host: tenants, and with how many callers each.
type Crowd = Vec<(usize, usize)>;

/// Each of these tenants with all the callers that it has by one host.
fn full(tenants: Range<usize>) -> Crowd {
    tenants.map(|tenant| (tenant, CALLERS)).collect()
}

/// Jain's index of what ten tenants get at kintone whose calls come by two hosts so.
async fn fairness(crowds: [Crowd; 2]) -> f64 {
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
    for (host, crowd) in hosts.iter().zip(crowds) {
        for (tenant, size) in crowd {
            let caller = host.caller_of(&format!("company-{tenant}"));
            let url = url_of(tenant);
            callers.spawn(async move { flood(&caller, size, &url, to).await });
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
    pair.check();
    index
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_tenants_share_alike_whatever_host_their_calls_come_by() {
    let index = fairness([full(0..7), full(7..10)]).await;
    assert!(index >= 0.97, "{index}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_that_call_by_both_hosts_have_their_share_once() {
    let both = full(0..2);
    let crowds = [full(2..7), full(7..10)].map(|crowd| [crowd, both.clone()].concat());
    let index = fairness(crowds).await;
    assert!(index >= 0.97, "{index}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_calls_by_both_hosts_unequally_has_its_share_once() {
    let (most, some) = (CALLERS * 3 / 4, CALLERS / 4);
    let index = fairness([
        [full(2..7), vec![(0, most), (1, some)]].concat(),
        [full(7..10), vec![(0, some), (1, most)]].concat(),
    ])
    .await;
    assert!(index >= 0.97, "{index}");
}
