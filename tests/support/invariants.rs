//! What must hold after every test, and during it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use kintone_egress::quota::Quotas;
use kintone_sim::Ledger;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::caller::{Answer, fetch_plain};

/// Looks at the permits all the time: acquired - released - held is 0 at every instant.
pub struct Watch {
    stop: oneshot::Sender<()>,
    watching: JoinHandle<()>,
}

impl Watch {
    pub fn start(quotas: Quotas) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let watching = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(2));
            while stopped.try_recv().is_err() {
                check_balance(&quotas);
                tick.tick().await;
            }
        });
        Self { stop, watching }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.watching
            .await
            .expect("the permits balanced at every instant");
    }
}

fn check_balance(quotas: &Quotas) {
    let balance = quotas.balance();
    assert_eq!(
        balance.acquired,
        balance.released + balance.held,
        "permits: {balance:?}"
    );
}

/// Waits until every permit is back; `settle` is two seconds in these tests.
pub async fn await_rest(quotas: &Quotas) {
    for _ in 0..2000 {
        if quotas.balance().held == 0 {
            return check_balance(quotas);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("permits are still held: {:?}", quotas.balance());
}

/// Every connection to kintone came from a bind address and carried one host name.
pub fn check_sockets(ledger: &Ledger, binds: &[&str]) {
    let binds: Vec<IpAddr> = binds
        .iter()
        .map(|bind| bind.parse().expect("an address"))
        .collect();
    for (source, count) in ledger.sources() {
        assert!(
            binds.contains(&source),
            "{count} connections to kintone from {source}"
        );
    }
    let mut hosts: HashMap<usize, &str> = HashMap::new();
    for execution in &ledger.executions {
        let host = hosts.entry(execution.socket).or_insert(&execution.host);
        assert_eq!(*host, execution.host, "two host names on one connection");
        if let Some(sni) = &ledger.sockets[execution.socket].sni {
            assert_eq!(
                sni,
                execution.host.trim_end_matches(":443"),
                "Host differs from SNI"
            );
        }
    }
}

/// A gateway that has ended at rest has left its state directory to the next one, though parts of it,
/// such as these quotas, are still held.
pub fn check_left(state: &Path, _held: &Quotas) {
    let lock = File::open(state.join("lock")).expect("every gateway keeps one");
    let taken = lock.try_lock();
    taken.expect("a gateway that has ended holds nothing");
}

/// No call with an effect was executed twice, and nothing of the gateway reached kintone. Bodies of
/// writing calls are unique in these tests.
pub fn check_executions(ledger: &Ledger) {
    let mut seen: HashMap<(&str, &str, &str), u32> = HashMap::new();
    for execution in &ledger.executions {
        let writes = !matches!(execution.effective_method.as_str(), "GET" | "HEAD");
        if execution.executed && writes && execution.body_length > 0 {
            let key = (
                &*execution.method,
                &*execution.path,
                &*execution.body_sha256,
            );
            *seen.entry(key).or_default() += 1;
        }
        for (name, _) in &execution.headers {
            let name = name.to_ascii_lowercase();
            // Into a tunnel wget itself writes what it would tell a proxy.
            let is_wgets = name == "proxy-connection"
                && execution
                    .header("user-agent")
                    .any(|agent| agent.starts_with("Wget/"));
            let private =
                name.starts_with("kintone-egress-") || name.starts_with("proxy-") && !is_wgets;
            assert!(!private, "{name} reached kintone");
        }
    }
    for (call, times) in seen {
        assert_eq!(times, 1, "executed {times} times: {call:?}");
    }
}

/// Everything that the admin listener shows.
pub async fn collect_pages(admin: SocketAddr) -> String {
    let mut pages = String::new();
    for path in [
        "/metrics",
        "/",
        "/readyz",
        "/api/v1/config",
        "/api/v1/accounts",
        "/api/v1/accounts/acme.cybozu.com",
        "/api/v1/addresses",
        "/api/v1/requests",
        "/api/v1/evidence?account=acme.cybozu.com&day=2026-11-25",
    ] {
        let (status, page) = fetch_plain(admin, path).await;
        assert!(
            matches!(status, 200 | 404 | 503),
            "{path} answered {status}"
        );
        let _ = writeln!(pages, "{page}");
    }
    pages
}

/// No secret is in any output.
pub fn check_secrets(everything: &str, secrets: &[&str]) {
    for secret in secrets {
        if let Some(at) = everything.find(secret) {
            let line = everything[..at].lines().count();
            panic!("a secret is in the output, line {line}");
        }
    }
}

/// A refusal or failure of the gateway's own tells everything there is to tell, in kintone's shape.
pub fn check_refusal(answer: &Answer, status: u16, code: &str, proxy_error: &str) {
    let body = answer.json();
    assert_eq!(
        (answer.status.as_u16(), &*answer.code()),
        (status, code),
        "{body}"
    );
    assert_eq!(answer.reason, code, "the reason phrase");
    assert_eq!(
        answer.header("content-type"),
        "application/json;charset=utf-8"
    );
    assert_eq!(body["id"], answer.id());
    assert_eq!(answer.id().len(), 20);
    let message = body["message"].as_str().expect("a message");
    assert!(!message.is_empty() && !message.contains('\n'), "{message}");
    let cause = code
        .trim_start_matches("GW_")
        .to_ascii_lowercase()
        .replace('_', "-");
    assert_eq!(answer.header("kintone-egress-cause"), cause);
    let actor = answer.header("kintone-egress-actor");
    assert!(
        ["caller", "customer", "operator", "kintone"].contains(&actor),
        "{actor}"
    );
    assert_eq!(body["actor"], actor);
    assert!(!answer.header("kintone-egress-hint").is_empty());
    assert!(answer.header("kintone-egress-hint-ja").contains('%'));
    let said = answer.header("proxy-status");
    assert_eq!(said, format!("kintone-egress; error={proxy_error}"));
    let retry: Option<u64> = answer.header("retry-after").parse().ok();
    let may_be_repeated = matches!(status, 429 | 503);
    assert_eq!(
        retry.is_some(),
        may_be_repeated,
        "Retry-After of {code}: {retry:?}"
    );
    assert!(
        retry.is_none_or(|seconds| (1..=60).contains(&seconds)),
        "{retry:?}"
    );
    assert_eq!(body["retry_at"].is_string(), may_be_repeated, "{body}");
}
