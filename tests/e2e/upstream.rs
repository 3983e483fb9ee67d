//! Connections to kintone that end whenever kintone likes.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use kintone_sim::{Fault, FaultKind};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::caller::{Caller, read, record};
use crate::support::{ACME, House, Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";
const RECORD: &str = "https://acme.cybozu.com/k/v1/record.json";

/// Callers at once, and how often each calls in a round.
const CALLERS: usize = 50;
const CALLS: usize = 5;

/// A kintone that closes connections, and callers who pause.
struct Weather {
    /// Shortest time after which kintone closes an idle connection, and how much later at most.
    keep_alive_ms: (u64, u64),
    /// How long the callers pause after a round, of numbers from 0 to 1 that look random.
    pause: fn(f64) -> Duration,
    rounds: usize,
    /// At least so many connections are closed by kintone.
    closed_min: usize,
    /// At most so many are made.
    made_max: usize,
}

const ONE_ADDRESS: &str = r#"
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.1.94"
"#;

/// A caller over its own connection to the gateway.
struct Line {
    caller: Caller,
    sender: SendRequest<Full<bytes::Bytes>>,
    name: usize,
}

impl Line {
    /// Its calls of one round, writes and reads in turn: how each ended.
    async fn call(mut self, round: usize) -> (Self, Vec<String>) {
        let mut ends = Vec::new();
        for turn in 0..CALLS {
            let request = self.request(round, turn);
            let method = request.method().clone();
            let sent = self.sender.send_request(request).await;
            let answer = read(sent.expect("an answer")).await.expect("a whole one");
            ends.push(match answer.status {
                StatusCode::OK => format!("{method} 200"),
                status => format!("{method} {status} {}", answer.code()),
            });
            self.sender.ready().await.expect("the gateway keeps it");
        }
        (self, ends)
    }

    fn request(&self, round: usize, turn: usize) -> Request<Full<bytes::Bytes>> {
        if (self.name + turn).is_multiple_of(2) {
            let title = format!("{round} {turn} {}", self.name);
            self.caller.request(Method::POST, RECORD, record(&title))
        } else {
            self.caller.request(Method::GET, RECORDS, "")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_survive_a_kintone_that_closes_idle_connections_at_random() {
    // A call that is not safe to repeat uses a connection for a second, any other for `pool_idle`,
    // which is 4 s. Pauses are nearly always short, and now and then of seconds, so that connections
    // of every age are met.
    brave(Weather {
        keep_alive_ms: (200, 4800),
        pause: |draw| Duration::from_secs_f64(0.03 + 4.5 * draw.powi(8)),
        rounds: 40,
        closed_min: 100,
        made_max: 2500,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_into_a_close_goes_again_only_where_kintone_cannot_have_seen_it() {
    // Connections live hardly longer than the pauses are.
    brave(Weather {
        keep_alive_ms: (1, 40),
        pause: |draw| Duration::from_secs_f64(0.04 * draw),
        rounds: 20,
        closed_min: 500,
        made_max: 4000,
    })
    .await;
}

async fn brave(weather: Weather) {
    let mut plan = Plan::default();
    let (shortest, jitter) = weather.keep_alive_ms;
    plan.tenant.keep_alive_idle_ms = Some(shortest);
    plan.tenant.keep_alive_jitter_ms = jitter;
    plan.tenant.latency.base_ms = 5;
    // The simulator would compare each title with all before it.
    plan.tenant.apps[0].fields[0].unique = false;
    house(plan, async |house| {
        let mut lines = Vec::new();
        for name in 0..CALLERS {
            let caller = house.caller();
            let sender = caller.connect().await;
            lines.push(Line {
                caller,
                sender,
                name,
            });
        }
        let mut ends = BTreeMap::<String, u64>::new();
        for round in 0..weather.rounds {
            let mut calling: JoinSet<_> = lines.drain(..).map(|line| line.call(round)).collect();
            while let Some(called) = calling.join_next().await {
                let (line, of_one) = called.expect("no panic");
                lines.push(line);
                for end in of_one {
                    *ends.entry(end).or_default() += 1;
                }
            }
            // The golden ratio spreads evenly.
            let draw = (round as f64 * 0.618_033_988_749).fract();
            sleep((weather.pause)(draw)).await;
        }
        check(&house, &weather, &ends).await;
    })
    .await;
}

async fn check(house: &House, weather: &Weather, ends: &BTreeMap<String, u64>) {
    let ledger = house.sim.ledger();
    let calls = (CALLERS * CALLS * weather.rounds) as u64;
    let closed = ledger
        .sockets
        .iter()
        .filter(|socket| socket.closed.is_some());
    let closed = closed.count();
    let stale = house
        .metric("kintone_egress_retries_total{reason=\"stale_connection\"}")
        .await
        .unwrap_or_default();
    println!(
        "{calls} calls over {} connections, {closed} closed by kintone, {} with a request unread; \
         {stale} calls found theirs closed; {ends:?}",
        ledger.sockets.len(),
        ledger.totals.unread
    );
    assert_eq!(ends.values().sum::<u64>(), calls);
    assert!(closed >= weather.closed_min, "only {closed} were closed");
    assert!(
        ledger.sockets.len() <= weather.made_max,
        "they are hardly used again"
    );
    // Where kintone's host had taken a request in and kintone closed without reading it, nobody but
    // kintone knows that it was not executed: such a write fails, and nothing else does.
    let well = |end: &str| ends.get(end).copied().unwrap_or_default();
    let failed = calls - well("GET 200") - well("POST 200");
    assert!(
        failed <= ledger.totals.unread,
        "{failed} calls failed: {ends:?}"
    );
    let posts = ledger
        .executions
        .iter()
        .filter(|it| it.method == "POST" && it.executed);
    assert_eq!(posts.count() as u64, well("POST 200"), "each once");
}

#[tokio::test]
async fn a_body_that_is_not_kept_is_not_begun_on_a_closed_connection() {
    let plan = Plan {
        upstream: "replay = \"1KiB\"".into(),
        addresses: ONE_ADDRESS.into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let caller = house.caller();
        for round in 0..30 {
            house.sim.fault(Fault::once(FaultKind::CloseAfterAnswer));
            assert_eq!(caller.get(RECORDS).await.status, StatusCode::OK);
            house
                .until("it is closed", |house| {
                    let sockets = house.sim.ledger().sockets;
                    sockets.iter().all(|socket| socket.closed.is_some())
                })
                .await;
            let title = format!("{round}{}", "x".repeat(20_000));
            let answer = caller.post_record(ACME, &title).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "{round}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_lives_as_long_as_it_may_and_only_so_many_wait() {
    let plan = Plan {
        upstream: "pool_life = \"1s\"\npool_per_host = 1\npool_total = 3".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let hits = async |limit: &str| {
            let sample = format!("kintone_egress_limit_hits_total{{limit=\"{limit}\"}}");
            house.metric(&sample).await.unwrap_or_default()
        };
        // Two addresses: two may wait for each host name, three in all.
        for domain in ["a.cybozu.com", "b.cybozu.com"] {
            house
                .sim
                .tenant(domain, kintone_sim::TenantSettings::default());
        }
        house.sim.update(ACME, |tenant| tenant.latency.base_ms = 50);
        let url = |domain: &str| format!("https://{domain}/k/v1/records.json?app=1");
        let all_well = crate::support::crowd::burst(&house.caller(), 6, &url(ACME)).await;
        assert!(all_well.is_all_well());
        assert_eq!(
            (hits("pool_per_host").await, hits("pool_total").await),
            (4.0, 0.0)
        );
        for domain in ["a.cybozu.com", "b.cybozu.com"] {
            house.caller().get(&url(domain)).await;
        }
        assert_eq!(hits("pool_total").await, 1.0);

        let before = house.sim.ledger().sockets.len();
        let born = tokio::time::Instant::now();
        while born.elapsed() < Duration::from_millis(2500) {
            house.caller().get(&url(ACME)).await;
        }
        let made = house.sim.ledger().sockets.len() - before;
        assert!((2..=8).contains(&made), "{made} connections in 2.5 s");
    })
    .await;
}
