//! Calls do not wait for mail.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use kintone_sim::{Keep, TenantSettings};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

use crate::episodes::plan;
use crate::hook::Hook;
use crate::server::Server;
use crate::support::caller::read;
use crate::support::{API_TOKEN, House, Plan, house_alone, live};

/// The shortest time that `CALLS` failing calls take, of several windows.
const WINDOWS: usize = 6;
const CALLS: u32 = 300;

/// How much slower than without mail a call may be; what a call costs varies more than that from one window
/// to the next, so the best ones are compared.
const SLOWER_MAX: f64 = 1.5;

/// For how many seconds the servers are away in the longer test; `make outage` has ten minutes.
const OUTAGE_SECONDS: &str = "NOTIFY_OUTAGE_SECONDS";
const OUTAGE_SECONDS_DEFAULT: u64 = 10;

/// Of an outage the last part, in which calls succeed again, so that the episode ends before it does.
const CALM: Duration = Duration::from_secs(5);

/// Failing calls of an outage: so many a second, and at most.
const CALLS_PER_SECOND: u64 = 100;
const CALLS_MAX: u64 = 10_000;

/// The 99th percentile of answer times is taken of so many calls, and compared by its median: what else
/// the machine does disturbs some of them.
const CALLS_OF_A_PERCENTILE: usize = 100;

/// How many times as long as with the servers there that may be.
const SLOWER_P99_MAX: f64 = 3.0;

async fn window(house: &House) -> Duration {
    let caller = house.caller();
    let mut connection = caller.connect().await;
    let url = "https://acme.cybozu.com/k/v1/records.json?app=1";
    let begin = Instant::now();
    for _ in 0..CALLS {
        let mut request = caller.request(Method::GET, url, Bytes::new());
        let token = http::HeaderValue::from_static("wrong-token");
        request.headers_mut().insert("x-cybozu-api-token", token);
        connection.ready().await.unwrap();
        let answer = connection.send_request(request).await.unwrap();
        read(answer).await.unwrap();
    }
    begin.elapsed()
}

/// A server that takes connections and never says a word.
async fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_calls_are_as_fast_with_a_mail_server_that_hangs_as_without_mail() {
    let (_listener, port) = silent().await;
    let server = Server::on(port);
    let with = Plan {
        keep: Keep::Counts,
        quota: "daily_per_app = 1000000".into(),
        ..plan(&server, "", TenantSettings::default())
    };
    let without = Plan {
        keep: Keep::Counts,
        quota: "daily_per_app = 1000000".into(),
        ..Plan::default()
    };
    house_alone(with, async |told| {
        let told = &told;
        Box::pin(live(without, async |untold| {
            let (mut best, mut best_untold) = (Duration::MAX, Duration::MAX);
            for _ in 0..WINDOWS {
                best_untold = best_untold.min(window(&untold).await);
                best = best.min(window(told).await);
            }
            let slower = best.as_secs_f64() / best_untold.as_secs_f64();
            println!("{best:?} with mail, {best_untold:?} without: {slower:.2} times");
            assert!(slower < SLOWER_MAX, "{slower:.2} times as slow");
        }))
        .await;
        let queued = told.metric("kintone_egress_mails{state=\"queued\"}").await;
        assert_eq!(queued, Some(2.0), "the mails wait");
    })
    .await;
}

/// How the answers of some calls came in time.
struct Pace {
    each: Duration,
    connection: hyper::client::conn::http1::SendRequest<http_body_util::Full<Bytes>>,
}

impl Pace {
    async fn new(house: &House, each: Duration) -> Self {
        Self {
            each,
            connection: house.caller().connect().await,
        }
    }

    /// One call; how long its answer took.
    async fn call(&mut self, house: &House, token: &'static str) -> Duration {
        let url = "https://acme.cybozu.com/k/v1/records.json?app=1";
        let mut request = house.caller().request(Method::GET, url, Bytes::new());
        let token = http::HeaderValue::from_static(token);
        request.headers_mut().insert("x-cybozu-api-token", token);
        let begin = Instant::now();
        self.connection.ready().await.unwrap();
        let answer = self.connection.send_request(request).await.unwrap();
        read(answer).await.unwrap();
        begin.elapsed()
    }

    /// So many failing calls; the median of their percentiles.
    async fn fail(&mut self, house: &House, calls: usize) -> Duration {
        let mut ticks = interval(self.each);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut times = Vec::new();
        for _ in 0..calls {
            ticks.tick().await;
            times.push(self.call(house, "wrong-token").await);
        }
        let mut percentiles: Vec<_> = times
            .chunks_exact_mut(CALLS_OF_A_PERCENTILE)
            .map(|times| {
                times.sort();
                times[times.len() * 99 / 100 - 1]
            })
            .collect();
        percentiles.sort();
        percentiles[percentiles.len() / 2]
    }

    /// Calls that succeed until `enough` says so.
    async fn succeed_until(&mut self, house: &House, mut enough: impl AsyncFnMut() -> bool) {
        while !enough().await {
            tokio::time::sleep(self.each.max(Duration::from_millis(20))).await;
            self.call(house, API_TOKEN).await;
        }
    }
}

/// What everybody was told, in its order: marks of beginnings and ends with the numbers of their episodes.
fn told(server: &Server, hook: &Hook) -> [Vec<(&'static str, String)>; 3] {
    let mails = |to| {
        let mails = server.mails_to(to).into_iter();
        mails
            .map(|mail| {
                let is_over = mail.subject().starts_with("【復旧】");
                let kind = if is_over { "end" } else { "begin" };
                (kind, mail.reference().to_owned())
            })
            .collect()
    };
    let posted = hook.taken().into_iter().map(|one| {
        let kind = if one.field("kind") == "end" {
            "end"
        } else {
            "begin"
        };
        (kind, one.field("reference").to_owned())
    });
    let posted = posted.collect();
    [
        mails("admin@acme.example"),
        mails("sre@service.example"),
        posted,
    ]
}

/// An episode while the servers are there, and one that begins, fails all the time and ends while they are
/// away: each has one beginning and one end in that order, nothing is lost, and no call is slowed.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_servers_loses_nothing_and_slows_no_call() {
    let seconds = std::env::var(OUTAGE_SECONDS).ok();
    let seconds = seconds.map_or(OUTAGE_SECONDS_DEFAULT, |text| text.parse().unwrap());
    let outage = Duration::from_secs(seconds);
    assert!(outage > CALM, "{OUTAGE_SECONDS}: more than {CALM:?}");
    let calls = (seconds * CALLS_PER_SECOND).min(CALLS_MAX) as usize;
    let each = (outage - CALM) / calls as u32;
    let (mut server, mut hook) = (Server::start(), Hook::start().await);
    let more = format!("retry_max = \"5s\"\n{}", hook.key());
    let plan = Plan {
        keep: Keep::Counts,
        quota: "daily_per_app = 1000000".into(),
        time_max: 2 * outage + Duration::from_secs(100),
        ..plan(&server, &more, TenantSettings::default())
    };
    house_alone(plan, async |house| {
        let mut pace = Pace::new(&house, each).await;
        let everybody = |server: &Server, hook: &Hook, count: usize| {
            let told = told(server, hook);
            told.iter().all(|told| told.len() >= count)
        };
        let there = pace.fail(&house, (calls / 5).max(500)).await;
        let at_ends = async || everybody(&server, &hook, 2);
        pace.succeed_until(&house, at_ends).await;
        server.stop();
        hook.stop();
        let begin = Instant::now();
        let away = pace.fail(&house, calls).await;
        let mails = "kintone_egress_mails{state=\"queued\"}";
        let posts = "kintone_egress_webhook_messages{state=\"queued\"}";
        let queued = async || (house.metric(mails).await, house.metric(posts).await);
        assert_eq!(queued().await, (Some(2.0), Some(1.0)), "one beginning waits");
        pace.succeed_until(&house, async || queued().await == (Some(4.0), Some(2.0)))
            .await;
        pace.succeed_until(&house, async || begin.elapsed() >= outage)
            .await;
        let lasted = begin.elapsed();
        server.resume();
        hook.resume().await;
        let at_ends = async || everybody(&server, &hook, 4);
        pace.succeed_until(&house, at_ends).await;
        pace.succeed_until(&house, async || queued().await == (Some(0.0), Some(0.0)))
            .await;
        for told in told(&server, &hook) {
            let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, ["begin", "end", "begin", "end"]);
            assert_eq!([&told[0].1, &told[2].1], [&told[1].1, &told[3].1]);
            assert_ne!(told[0].1, told[2].1);
        }
        for result in ["given_up", "lost"] {
            let sample = format!("kintone_egress_mails_total{{result=\"{result}\"}}");
            assert_eq!(house.metric(&sample).await, Some(0.0), "{result}");
        }
        let slower = away.as_secs_f64() / there.as_secs_f64();
        println!(
            "{calls} failing calls in an outage of {lasted:.1?}: p99 {away:?}, with the servers there \
             {there:?}: {slower:.2} times; {} mails, {} posts",
            server.mails().len(),
            hook.posted().len()
        );
        assert!(slower < SLOWER_P99_MAX, "{slower:.2} times as slow");
    })
    .await;
}
