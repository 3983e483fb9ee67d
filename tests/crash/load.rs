//! Callers that call on and on, whether or not somebody listens.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::ACME;
use crate::support::caller::{Caller, read, record};

/// Callers under way.
pub(crate) struct Load {
    callers: JoinSet<()>,
}

/// What a caller does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    /// Each record once: a call that broke is not repeated.
    Write,
    Tunnel,
}

impl Load {
    /// So many callers, each with one call at a time: of four, two read, one writes and one has a
    /// tunnel.
    pub(crate) fn start(caller: &Caller, size: usize) -> Self {
        let mut callers = JoinSet::new();
        for number in 0..size {
            let way = [Way::Read, Way::Write, Way::Read, Way::Tunnel][number % 4];
            let caller = caller.clone();
            callers.spawn(async move { call_on(&caller, way, number).await });
        }
        Self { callers }
    }

    pub(crate) async fn stop(mut self) {
        self.callers.shutdown().await;
    }
}

async fn call_on(caller: &Caller, way: Way, number: usize) {
    let mut writes = 0;
    loop {
        let connected = match way {
            Way::Read | Way::Write => caller.try_connect().await,
            Way::Tunnel => caller.try_tunnel(ACME).await,
        };
        let Ok(mut sender) = connected else {
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        while call(caller, way, &mut sender, number, &mut writes)
            .await
            .is_ok()
        {}
    }
}

async fn call(
    caller: &Caller,
    way: Way,
    sender: &mut SendRequest<Full<Bytes>>,
    number: usize,
    writes: &mut u32,
) -> Result<(), hyper::Error> {
    sender.ready().await?;
    let request = match way {
        Way::Read => {
            let url = format!("https://{ACME}/k/v1/records.json?app=1");
            caller.request(Method::GET, &url, "")
        }
        Way::Write => {
            *writes += 1;
            let title = format!("of {number}, {writes}");
            let url = format!("https://{ACME}/k/v1/record.json");
            caller.request(Method::POST, &url, record(&title))
        }
        Way::Tunnel => Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", ""),
    };
    read(sender.send_request(request).await?).await.map(drop)
}
