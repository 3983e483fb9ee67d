//! The rules of HTTP for a proxy, one row a rule: bytes in from a socket, through a real gateway, to
//! a kintone that says what the row wants it to say.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
#![allow(unreachable_pub, reason = "a test program exports nothing")]

#[allow(dead_code, reason = "the house has more rooms than these tests need")]
#[path = "../support/mod.rs"]
mod support;

mod asides;
mod bench;
mod kintone;
mod mutations;
mod row;
mod rows {
    pub mod answers;
    pub mod connect;
    pub mod fields;
    pub mod framing;
    pub mod inside;
    pub mod target;
}
mod scenes;
mod streams;
mod talk;
mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use bench::Bench;
use kintone::RawKintone;
use row::{Reaction, Row};
use support::inspect::PrivateCa;
use support::{Plan, house};

/// How many rows are checked side by side.
const AT_ONCE: usize = 8;

/// A gateway that leaves from one address, so that it is plain which connection a call takes.
pub async fn stand<F, T>(plan: Plan, test: F)
where
    F: FnOnce(Arc<Bench>) -> T,
    T: Future<Output = ()>,
{
    raise(plan, None, test).await;
}

/// The same for calls inside inspected connections.
pub async fn stand_inside<F, T>(plan: Plan, test: F)
where
    F: FnOnce(Arc<Bench>) -> T,
    T: Future<Output = ()>,
{
    let ca = PrivateCa::new();
    raise(ca.plan(plan), Some(ca), test).await;
}

async fn raise<F, T>(plan: Plan, inside: Option<PrivateCa>, test: F)
where
    F: FnOnce(Arc<Bench>) -> T,
    T: Future<Output = ()>,
{
    let kintone = RawKintone::start().await;
    let plan = Plan {
        addresses: "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.1.94\"\n"
            .into(),
        ca: kintone.ca_pem.clone(),
        resolve: format!("\"*.cybozu.cn\" = \"{}\"", kintone.address),
        ..plan
    };
    house(plan, async |house| {
        let bench = Arc::new(Bench {
            house,
            kintone,
            calls: AtomicUsize::new(0),
            inside,
        });
        test(Arc::clone(&bench)).await;
        let bind: IpAddr = [127, 0, 1, 94].into();
        assert!(bench.kintone.peers().iter().all(|peer| *peer == bind));
    })
    .await;
}

/// Runs every row, several at once, and names all that fail.
async fn run<R, F, T>(rows: &'static [R], name: fn(&R) -> String, check: F)
where
    R: Sync,
    F: Fn(&'static R, String) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let (mut running, mut failed) = (JoinSet::new(), Vec::new());
    let mut names = HashMap::new();
    for (turn, row) in rows.iter().enumerate() {
        if running.len() == AT_ONCE {
            note(running.join_next_with_id().await, &names, &mut failed);
        }
        let handle = running.spawn(check(row, format!("row-{turn}.cybozu.cn")));
        names.insert(handle.id(), name(row));
    }
    while let Some(ended) = running.join_next_with_id().await {
        note(Some(ended), &names, &mut failed);
    }
    assert!(
        failed.is_empty(),
        "{} rows fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

fn note(
    ended: Option<Result<(tokio::task::Id, ()), tokio::task::JoinError>>,
    names: &HashMap<tokio::task::Id, String>,
    failed: &mut Vec<String>,
) {
    if let Some(Err(error)) = ended {
        let name = &names[&error.id()];
        let said = error.into_panic();
        let said = said.downcast_ref::<String>().map_or("", String::as_str);
        failed.push(format!("{name}: {said}"));
    }
}

/// Each call is one log line and one count, whatever became of it.
pub async fn check_accounts(bench: &Bench) {
    let calls = bench.calls.load(Ordering::Relaxed);
    bench
        .house
        .until("every call is logged", |house| {
            house.output.lines().len() >= calls
        })
        .await;
    assert_eq!(
        bench.house.output.lines().len(),
        calls,
        "one log line a call"
    );
    check_counts(bench).await;
}

/// `requests_total` counts what the log tells.
pub async fn check_counts(bench: &Bench) {
    let (_, metrics) = bench.house.admin_page("/metrics").await;
    let mut counted: HashMap<String, u64> = HashMap::new();
    let samples = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("kintone_egress_requests_total{"));
    for sample in samples {
        let (labels, value) = sample.rsplit_once("} ").expect("a sample");
        let outcome = labels.split("outcome=\"").nth(1).expect("an outcome");
        let outcome = outcome.split('"').next().unwrap_or_default().to_owned();
        *counted.entry(outcome).or_default() += value.parse::<u64>().expect("a number");
    }
    counted.retain(|_, value| *value > 0);
    let all = usize::try_from(counted.values().sum::<u64>()).expect("few");
    let written = |house: &support::House| house.output.lines().len() >= all;
    bench.house.until("every count is logged", written).await;
    let mut logged: HashMap<String, u64> = HashMap::new();
    for line in bench.house.output.lines() {
        let outcome = line["outcome"].as_str().expect("an outcome").to_owned();
        *logged.entry(outcome).or_default() += 1;
    }
    assert_eq!(counted, logged, "requests_total beside the log");
}

async fn requests(rows: &'static [Row]) {
    stand(Plan::default(), async |bench| {
        let name = |row: &Row| format!("{} ({})", row.rule, row.source);
        run(rows, name, |row, account| {
            let bench = Arc::clone(&bench);
            async move { bench.check(row, &account).await }
        })
        .await;
        check_accounts(&bench).await;
    })
    .await;
}

async fn requests_inside(rows: &'static [Row]) {
    stand_inside(Plan::default(), async |bench| {
        let name = |row: &Row| format!("{} ({})", row.rule, row.source);
        run(rows, name, |row, account| {
            let bench = Arc::clone(&bench);
            async move { bench.check(&rows::inside::inside(row), &account).await }
        })
        .await;
        check_accounts(&bench).await;
    })
    .await;
}

#[test]
fn rows_that_end_otherwise_inside_are_rows() {
    use rows::{connect, fields, framing, inside, target};
    inside::check_names(&[target::ROWS, fields::ROWS, framing::ROWS, connect::ROWS]);
}

#[tokio::test]
async fn targets_inside() {
    requests_inside(rows::target::ROWS).await;
}

#[tokio::test]
async fn fields_inside() {
    requests_inside(rows::fields::ROWS).await;
}

#[tokio::test]
async fn framing_inside() {
    requests_inside(rows::framing::ROWS).await;
}

#[tokio::test]
async fn connect_inside() {
    requests_inside(rows::connect::ROWS).await;
}

#[tokio::test]
async fn answers_inside() {
    stand_inside(Plan::default(), async |bench| {
        let name = |row: &Reaction| format!("{} ({})", row.rule, row.source);
        run(rows::answers::ROWS, name, |row, account| {
            let bench = Arc::clone(&bench);
            async move { bench.react(row, &account).await }
        })
        .await;
        check_accounts(&bench).await;
    })
    .await;
}

#[tokio::test]
async fn targets() {
    requests(rows::target::ROWS).await;
}

#[tokio::test]
async fn fields() {
    requests(rows::fields::ROWS).await;
}

#[tokio::test]
async fn framing() {
    requests(rows::framing::ROWS).await;
}

#[tokio::test]
async fn connect() {
    requests(rows::connect::ROWS).await;
}

#[tokio::test]
async fn answers() {
    stand(Plan::default(), async |bench| {
        let name = |row: &Reaction| format!("{} ({})", row.rule, row.source);
        run(rows::answers::ROWS, name, |row, account| {
            let bench = Arc::clone(&bench);
            async move { bench.react(row, &account).await }
        })
        .await;
        check_accounts(&bench).await;
    })
    .await;
}
