//! A gateway under load that has everything in it that an SRE may see: calls that are well, that wait, that
//! are refused, and that fail at kintone or on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use kintone_egress::config::token::hash_token;
use kintone_sim::{Fault, FaultKind, Keep, Latency, Options, Sim, TenantSettings};
use tokio::task::{JoinHandle, JoinSet};

use crate::process::Gateway;
use crate::support::caller::{Caller, fetch_plain, read};
use crate::support::inspect::PrivateCa;
use crate::support::invariants::{check_executions, check_secrets, check_sockets};
use crate::support::{ACME, API_TOKEN, BATCH_TOKEN, TOKEN};
use crate::tools;

/// An account whose allowlist lacks the gateway's addresses.
const DENIED: &str = "denied.cybozu.com";

/// An account with one permit.
const NARROW: &str = "narrow.cybozu.com";

/// An account whose kintone has trouble; a refusal there leaves the gateway little room for a while.
const TROUBLED: &str = "troubled.cybozu.com";

/// An account whose `CONNECT`s are inspected.
const WATCHED: &str = "watched.cybozu.com";

/// An account that nothing answers for.
const DOWN: &str = "down.cybozu.com";

/// A gateway, a simulated kintone and callers that do not stop.
pub(crate) struct Load {
    pub(crate) gateway: Gateway,
    pub(crate) dir: tempfile::TempDir,
    sim: Arc<Sim>,
    over: Arc<AtomicBool>,
    calling: JoinHandle<()>,
}

impl Load {
    pub(crate) async fn start() -> Self {
        let options = Options {
            keep: Keep::Executions,
            ..Options::default()
        };
        let sim = Arc::new(Sim::start(options).await.unwrap());
        let slow = |base_ms| TenantSettings {
            latency: Latency {
                base_ms,
                ..Latency::default()
            },
            ..TenantSettings::default()
        };
        sim.tenant(ACME, slow(10));
        sim.tenant(TROUBLED, slow(10));
        sim.tenant(WATCHED, slow(10));
        sim.tenant(NARROW, slow(150));
        sim.tenant(
            DENIED,
            TenantSettings {
                allow: Some(Vec::new()),
                ..TenantSettings::default()
            },
        );
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), sim.ca_pem()).unwrap();
        let authority = PrivateCa::new();
        let inspect = authority.table_for(&format!("[{WATCHED:?}]"), r#"["nightly"]"#);
        let gateway = Gateway::start(dir.path(), &(configuration(&sim) + &inspect));
        let over = Arc::new(AtomicBool::new(false));
        let calling = tokio::spawn(call(
            Arc::clone(&sim),
            Callers {
                events: Caller::new(gateway.proxy, sim.ca_pem(), "events", TOKEN),
                nightly: Caller::new(gateway.proxy, sim.ca_pem(), "nightly", BATCH_TOKEN),
                trusting: Caller::new(gateway.proxy, &authority.pem, "nightly", BATCH_TOKEN),
                mistaken: Caller::new(gateway.proxy, sim.ca_pem(), "events", "mistyped"),
                tenants: ["events+company-1", "events+company-2"]
                    .map(|user| Caller::new(gateway.proxy, sim.ca_pem(), user, TOKEN)),
            },
            Arc::clone(&over),
        ));
        Self {
            gateway,
            dir,
            sim,
            over,
            calling,
        }
    }

    /// Whom its callers trust.
    pub(crate) fn ca_pem(&self) -> &str {
        self.sim.ca_pem()
    }

    /// Ends the load and checks what must always hold.
    pub(crate) async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.calling.await.unwrap();
        let text = self.gateway.exposition().await;
        let value = |name: &str| -> f64 {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            found
                .unwrap_or_else(|| panic!("no {name}"))
                .parse()
                .unwrap()
        };
        let [acquired, released, held] = ["acquired_total", "released_total", "held"]
            .map(|name| value(&format!("kintone_egress_permits_{name}")));
        assert!(acquired > 200.0, "a load: {acquired}");
        assert!((acquired - released - held).abs() < 0.5, "permits");
        let ledger = self.sim.ledger();
        check_sockets(&ledger, &["127.0.1.94", "127.0.1.241"]);
        check_executions(&ledger);
        let dir = self.dir.path();
        let (_, page) = fetch_plain(self.gateway.admin, "/api/v1/config").await;
        let written = ["stderr", "access.log"].map(|name| tools::read(dir.join(name)));
        check_secrets(
            &(text + &page + &written.concat()),
            &[TOKEN, BATCH_TOKEN, API_TOKEN],
        );
    }
}

fn configuration(sim: &Sim) -> String {
    let [events, nightly] = [TOKEN, BATCH_TOKEN].map(|token| hash_token(token.as_bytes()).to_hex());
    let kintone = sim.addr();
    format!(
        r#"
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.1.94"
[[egress.address]]
published = "35.73.236.241"
bind = "127.0.1.241"
[upstream]
ca_file = "ca.pem"
allow_networks = ["127.0.0.0/8"]
pool_idle = "100ms"
[upstream.resolve]
"{DOWN}" = "127.0.0.1:9"
"*.cybozu.com" = "{kintone}"
[[caller]]
name = "events"
token_sha256 = "{events}"
[[caller]]
name = "nightly"
token_sha256 = "{nightly}"
priority = "batch"
[quota]
settle = "1s"
[account."{ACME}"]
contacts = []
[account."{NARROW}"]
concurrency = 1
headroom = 0
max_wait = "400ms"
[log]
access = "access.log"
[drain]
announce = "0s"
grace = "1s"
"#
    )
}

struct Callers {
    events: Caller,
    nightly: Caller,
    /// Who trusts the private authority; `nightly` does not.
    trusting: Caller,
    mistaken: Caller,
    tenants: [Caller; 2],
}

/// Round after round of one call of each kind, until it is over.
async fn call(sim: Arc<Sim>, callers: Callers, over: Arc<AtomicBool>) {
    let records = |domain: &str| format!("https://{domain}/k/v1/records.json?app=1");
    let mut open = None;
    while !over.load(Ordering::Relaxed) {
        for kind in [
            FaultKind::TooManyRequests,
            FaultKind::Unavailable,
            FaultKind::ResetAfterExecuting,
        ] {
            sim.fault(Fault {
                domain: Some(TROUBLED.to_owned()),
                method: Some("POST".to_owned()),
                ..Fault::once(kind)
            });
        }
        let mut round = JoinSet::new();
        let get = |caller: &Caller, url: String| {
            let caller = caller.clone();
            async move {
                caller.get(&url).await;
            }
        };
        for tenant in &callers.tenants {
            round.spawn(get(tenant, records(ACME)));
        }
        round.spawn(get(&callers.nightly, records(ACME)));
        round.spawn(get(&callers.mistaken, records(ACME)));
        for domain in [DENIED, DOWN, "www.example.com"] {
            round.spawn(get(&callers.events, records(domain)));
        }
        for _ in 0..6 {
            round.spawn(get(&callers.events, records(NARROW)));
        }
        for number in 0..3 {
            let caller = callers.events.clone();
            let title = format!("{number} of {:?}", std::time::Instant::now());
            round.spawn(async move {
                // One of them is reset.
                let _ = caller.post_record(TROUBLED, &title.replace('"', "")).await;
            });
        }
        let request = Caller::inner(Method::GET, ACME, "/k/v1/records.json?app=1", "");
        let mut inspected = callers.trusting.h1(WATCHED).await.unwrap();
        let inner = Caller::inner(Method::GET, WATCHED, "/k/v1/records.json?app=1", "");
        read(inspected.send_request(inner).await.unwrap())
            .await
            .unwrap();
        let distrusted = callers.nightly.open_tunnel(WATCHED).await.unwrap();
        assert!(callers.nightly.tls(distrusted, WATCHED).await.is_err());
        let mut tunnel = callers.events.tunnel(ACME).await.unwrap();
        read(tunnel.send_request(request).await.unwrap())
            .await
            .unwrap();
        // Open for a round, so that a scrape sees one.
        drop(open.replace(tunnel));
        while let Some(called) = round.join_next().await {
            called.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
