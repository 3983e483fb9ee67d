//! Two gateways of one fleet in front of one simulated kintone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kintone_egress::config::file::{Environment, Loaded, load};
use kintone_egress::drain::Finished;
use kintone_egress::gateway::{Gateway, RunError, Signal, Source};
use kintone_egress::quota::Quotas;
use kintone_egress::telemetry::access_log::AccessLogHandle;
use kintone_sim::{Keep, Options, Sim, TenantSettings};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::caller::{Caller, fetch_plain};
use crate::support::invariants::{self, Watch};
use crate::support::output::Output;
use crate::support::{ACME, API_TOKEN, BATCH_TOKEN, Plan, TOKEN, config_text};

/// What a pair is built with.
#[derive(Clone)]
pub(crate) struct Wish {
    /// Lines of `[quota]`.
    pub(crate) quota: String,
    /// Lines of `[fleet]` besides the usual ones.
    pub(crate) fleet: String,
    /// The store.
    pub(crate) redis: String,
    /// All hosts.
    pub(crate) hosts: &'static [&'static str],
    /// What kintone is like.
    pub(crate) tenant: TenantSettings,
    /// Most calls of ours that may ever be in flight.
    pub(crate) ceiling: u32,
}

/// A fleet in one process.
pub(crate) struct Pair {
    pub(crate) sim: Sim,
    pub(crate) wish: Wish,
    dir: tempfile::TempDir,
}

/// One gateway of it.
pub(crate) struct Host {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) quotas: Quotas,
    pub(crate) output: Output,
    pub(crate) config_path: PathBuf,
    pub(crate) signals: mpsc::Sender<Signal>,
    watch: Option<Watch>,
    running: JoinHandle<Result<Finished, RunError>>,
    ca_pem: String,
}

impl Wish {
    pub(crate) fn new(redis: String) -> Self {
        Self {
            quota: "concurrency = 100\nheadroom = 2\ninteractive_reserve = 0\n".to_owned(),
            fleet: String::new(),
            redis,
            hosts: &["gw-a", "gw-b"],
            tenant: TenantSettings::default(),
            ceiling: 98,
        }
    }
}

impl Pair {
    pub(crate) async fn new(wish: Wish) -> Self {
        let options = Options {
            keep: Keep::Executions,
            ..Options::default()
        };
        let sim = Sim::start(options).await.unwrap();
        sim.tenant(ACME, wish.tenant.clone());
        let dir = tempfile::tempdir().unwrap();
        Self { sim, wish, dir }
    }

    /// Starts a host, or starts it again: its state is kept.
    pub(crate) fn start(&self, name: &'static str) -> Host {
        self.start_with(name, name, &self.wish)
    }

    /// Starts a host with a state directory of that name, and otherwise as this wish has it.
    pub(crate) fn start_with(&self, name: &str, folder: &str, wish: &Wish) -> Host {
        let config_path = self.configure(name, folder, wish);
        let environment = Environment::default();
        let loaded = load(&config_path, &environment);
        let Loaded { config, .. } = loaded.unwrap_or_else(|faults| panic!("{faults}"));
        let output = Output::default();
        let log = AccessLogHandle::to_writer(Box::new(output.clone())).unwrap();
        let source = Source {
            path: config_path.clone(),
            environment,
        };
        let gateway = Gateway::build(config, source, log).unwrap();
        let proxy = gateway.proxy_addresses().unwrap()[0];
        let admin = gateway.admin_address().unwrap();
        let quotas = gateway.quotas();
        let (signals, receiver) = mpsc::channel(4);
        let running = tokio::spawn(gateway.run(receiver));
        let watch = Some(Watch::start(quotas.clone()));
        Host {
            proxy,
            admin,
            quotas,
            output,
            config_path,
            signals,
            watch,
            running,
            ca_pem: self.sim.ca_pem().to_owned(),
        }
    }

    /// Writes a host's configuration; where it is.
    pub(crate) fn configure(&self, name: &str, folder: &str, wish: &Wish) -> PathBuf {
        let dir = self.dir.path().join(folder);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("ca.pem"), self.sim.ca_pem()).unwrap();
        let plan = Plan {
            quota: wish.quota.clone(),
            addresses: addresses(wish.hosts),
            tables: format!(
                "[fleet]\nhost = \"{name}\"\nhosts = {:?}\nredis = \"{}\"\n{}",
                wish.hosts, wish.redis, wish.fleet
            ),
            ..Plan::default()
        };
        let config_path = dir.join("gateway.toml");
        std::fs::write(&config_path, config_text(&plan, self.sim.addr())).unwrap();
        config_path
    }

    /// Checks what must always hold of the whole fleet.
    pub(crate) fn check(&self) {
        let ledger = self.sim.ledger();
        invariants::check_sockets(&ledger, &["127.0.1.94", "127.0.1.95", "127.0.1.96"]);
        let accounting = self.sim.accounting(ACME);
        assert!(
            accounting.peak <= self.wish.ceiling,
            "{} at once, {} allowed",
            accounting.peak,
            self.wish.ceiling
        );
        assert_eq!(accounting.refused, 0);
    }
}

impl Host {
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.proxy, &self.ca_pem, "events", TOKEN)
    }

    /// Permits that it may use of the account now.
    pub(crate) fn allowed(&self) -> u32 {
        let account = kintone_egress::model::Account::from_normal(ACME);
        let snapshot = self.quotas.snapshot_of(&account);
        snapshot.map_or(0, |snapshot| snapshot.allowed)
    }

    /// A page of its admin listener, JSON.
    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let (status, page) = fetch_plain(self.admin, path).await;
        assert_eq!(status, 200, "{path}: {page}");
        serde_json::from_str(&page).unwrap()
    }

    /// A sample of its metrics.
    pub(crate) async fn metric(&self, sample: &str) -> Option<f64> {
        let (_, text) = fetch_plain(self.admin, "/metrics").await;
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
            .and_then(|value| value.parse().ok())
    }

    /// Ends it as an operator does, after all permits are back.
    pub(crate) async fn leave(mut self) {
        invariants::await_rest(&self.quotas).await;
        let pages = invariants::collect_pages(self.admin).await;
        if let Some(watch) = self.watch.take() {
            watch.stop().await;
        }
        let _ = self.signals.send(Signal::End).await;
        let ended = tokio::time::timeout(Duration::from_secs(20), self.running).await;
        ended.expect("drains in time").unwrap().unwrap();
        let everything = self.output.text() + &pages;
        let secrets = [TOKEN, BATCH_TOKEN, API_TOKEN, crate::store::PASSWORD];
        invariants::check_secrets(&everything, &secrets);
    }
}

/// Waits until `condition` holds; how long that took.
pub(crate) async fn until(what: &str, limit: Duration, condition: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < limit, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    begun.elapsed()
}

fn addresses(hosts: &[&str]) -> String {
    let binds = hosts.iter().zip(94..);
    let binds: Vec<_> = binds
        .map(|(host, last)| format!("{host} = \"127.0.1.{last}\""))
        .collect();
    let binds = binds.join(", ");
    format!("[[egress.address]]\npublished = \"18.177.83.94\"\nbind = {{ {binds} }}\n")
}
