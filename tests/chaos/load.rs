//! Callers that call on and on, whether or not somebody listens; as many as asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::ACME;
use crate::support::caller::{Caller, read};

/// Callers of one host.
pub(crate) struct Load {
    wanted: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

/// Most callers of one host.
const CALLERS_MAX: usize = 150;
/// A caller leaves after so long, as callers do.
const PATIENCE: Duration = Duration::from_secs(8);

impl Load {
    pub(crate) fn start(caller: Caller) -> Self {
        let wanted = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for number in 0..CALLERS_MAX {
            let (caller, wanted) = (caller.clone(), Arc::clone(&wanted));
            callers.spawn(async move {
                loop {
                    if number < wanted.load(Ordering::Relaxed) {
                        let _ = timeout(PATIENCE, call_on(&caller, number, &wanted)).await;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self { wanted, callers }
    }

    /// So many from now on.
    pub(crate) fn callers(&self, wanted: usize) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    pub(crate) async fn stop(mut self) {
        self.callers.shutdown().await;
    }
}

/// Every fifth caller has tunnels.
async fn call_on(caller: &Caller, number: usize, wanted: &AtomicUsize) {
    let is_tunnel = number % 5 == 4;
    let connected = if is_tunnel {
        caller.try_tunnel(ACME).await
    } else {
        caller.try_connect().await
    };
    let Ok(mut sender) = connected else { return };
    while number < wanted.load(Ordering::Relaxed) {
        let request = if is_tunnel {
            Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "")
        } else {
            let url = format!("https://{ACME}/k/v1/records.json?app=1");
            caller.request(Method::GET, &url, "")
        };
        if sender.ready().await.is_err() {
            return;
        }
        let Ok(answer) = sender.send_request(request).await else {
            return;
        };
        if read(answer).await.is_err() {
            return;
        }
    }
}
