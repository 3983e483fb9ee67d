//! Calls do not wait for mail.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use kintone_sim::Keep;
use tokio::net::TcpListener;

use crate::episodes::plan;
use crate::server::Server;
use crate::support::caller::read;
use crate::support::{House, Plan, house_alone, live};

/// The shortest time that `CALLS` failing calls take, of several windows.
const WINDOWS: usize = 6;
const CALLS: u32 = 300;

/// How much slower than without mail a call may be; what a call costs varies more than that from one window
/// to the next, so the best ones are compared.
const SLOWER_MAX: f64 = 1.5;

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
        ..plan(&server, "", kintone_sim::TenantSettings::default())
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
