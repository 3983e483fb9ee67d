//! Many callers at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::caller::{Answer, Caller, read};

/// What a crowd was answered.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often each status came.
    pub statuses: BTreeMap<u16, u64>,
    /// `Kintone-Egress-Queued-Ms` of every answer, in no order.
    pub queued_ms: Vec<u64>,
    /// Calls that ended without a whole answer.
    pub broken: u64,
}

impl Tally {
    /// Counts one answer, or that there was none.
    pub fn count(&mut self, answer: &Result<Answer, hyper::Error>) {
        match answer {
            Ok(answer) => {
                *self.statuses.entry(answer.status.as_u16()).or_default() += 1;
                self.queued_ms
                    .extend(answer.header("kintone-egress-queued-ms").parse::<u64>());
            }
            Err(_) => self.broken += 1,
        }
    }

    /// Answers with that status.
    pub fn of(&self, status: u16) -> u64 {
        self.statuses.get(&status).copied().unwrap_or_default()
    }

    /// Whether every call was answered 200.
    pub fn is_all_well(&self) -> bool {
        self.broken == 0 && self.statuses.keys().all(|status| *status == 200)
    }

    /// The `share` quantile of the waits, in milliseconds.
    pub fn wait_ms(&self, share: f64) -> u64 {
        let mut sorted = self.queued_ms.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.max(1) - 1]
    }

    /// Adds what another part of the crowd was answered.
    pub fn join(&mut self, other: Self) {
        for (status, times) in other.statuses {
            *self.statuses.entry(status).or_default() += times;
        }
        self.queued_ms.extend(other.queued_ms);
        self.broken += other.broken;
    }
}

/// `size` callers, each over a connection of its own: GET after GET until `end`.
pub async fn flood(caller: &Caller, size: usize, url: &str, end: Instant) -> Tally {
    flood_while(caller, size, url, move || Instant::now() < end).await
}

/// The same while `goes_on` says so.
pub async fn flood_while(
    caller: &Caller,
    size: usize,
    url: &str,
    goes_on: impl Fn() -> bool + Clone + Send + 'static,
) -> Tally {
    let mut callers = JoinSet::new();
    for _ in 0..size {
        let (caller, url, goes_on) = (caller.clone(), url.to_owned(), goes_on.clone());
        callers.spawn(async move { keep_calling(&caller, &url, goes_on).await });
    }
    gather(callers).await
}

/// `size` callers, each over a connection of its own that is open before the first call: one GET.
pub async fn burst(caller: &Caller, size: usize, url: &str) -> Tally {
    let mut senders = Vec::new();
    for _ in 0..size {
        senders.push(caller.connect().await);
    }
    let mut callers = JoinSet::new();
    for mut sender in senders {
        let request = caller.request(Method::GET, url, Bytes::new());
        callers.spawn(async move {
            let mut tally = Tally::default();
            tally.count(&exchange(&mut sender, request).await);
            tally
        });
    }
    gather(callers).await
}

async fn keep_calling(caller: &Caller, url: &str, goes_on: impl Fn() -> bool) -> Tally {
    let mut tally = Tally::default();
    let mut sender = caller.connect().await;
    while goes_on() {
        let request = caller.request(Method::GET, url, Bytes::new());
        tally.count(&exchange(&mut sender, request).await);
        if sender.ready().await.is_err() {
            sender = caller.connect().await;
        }
    }
    tally
}

async fn exchange(
    sender: &mut hyper::client::conn::http1::SendRequest<http_body_util::Full<Bytes>>,
    request: http::Request<http_body_util::Full<Bytes>>,
) -> Result<Answer, hyper::Error> {
    read(sender.send_request(request).await?).await
}

async fn gather(mut callers: JoinSet<Tally>) -> Tally {
    let mut all = Tally::default();
    while let Some(tally) = callers.join_next().await {
        all.join(tally.expect("a caller does not panic"));
    }
    all
}
