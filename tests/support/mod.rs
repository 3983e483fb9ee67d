//! The house that every integration test lives in: a gateway and a simulated kintone, both real, on
//! loopback. Leaving it checks what must always hold (see the architecture in `src/lib.rs`).

#![allow(
    unreachable_pub,
    missing_docs,
    reason = "a part of the test programs, which export nothing"
)]

pub mod caller;
pub mod crowd;
pub mod inspect;
pub mod invariants;
pub mod namespace;
pub mod output;
pub mod program;

use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kintone_egress::config::file::{Environment, Loaded, load};
use kintone_egress::config::token::hash_token;
use kintone_egress::drain::Finished;
use kintone_egress::gateway::{Gateway, RunError, Signal, Source};
use kintone_egress::quota::Quotas;
use kintone_egress::telemetry::access_log::AccessLogHandle;
use kintone_sim::{Keep, Options, Sim, TenantSettings};
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinHandle;

use caller::Caller;
use invariants::Watch;
use output::Output;

/// The account that calls go to unless a test says otherwise.
pub const ACME: &str = "acme.cybozu.com";

/// The token of the caller `events`; no output may contain it.
pub const TOKEN: &str = "canary-proxy-token-5f1c";

/// The token of the caller `nightly`, whose calls are batch.
pub const BATCH_TOKEN: &str = "canary-batch-token-81aa";

/// kintone's API token of the demo app; no output may contain it.
pub const API_TOKEN: &str = "demo-token";

/// The value of `Proxy-Authorization` of this proxy user name with [`TOKEN`].
pub fn basic(user: &str) -> String {
    use base64::Engine as _;
    let pair = format!("{user}:{TOKEN}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// What a house is built with.
pub struct Plan {
    /// Tables of the configuration besides the usual ones, TOML.
    pub tables: String,
    /// Lines of `[quota]`.
    pub quota: String,
    /// `settle` of `[quota]`.
    pub settle: &'static str,
    /// Lines of `[upstream]`.
    pub upstream: String,
    /// Lines of `[upstream.resolve]` that win over the usual ones.
    pub resolve: String,
    /// Lines of `[limits]`.
    pub limits: String,
    /// How long a drain waits.
    pub grace: &'static str,
    /// Lines of `[listen]` besides the usual ones.
    pub listen: String,
    /// `[[egress.address]]` tables; the usual two if empty.
    pub addresses: String,
    /// What the state directory remembers of the published list; nothing if empty.
    pub published: String,
    /// What the state directory remembers of verified addresses; nothing if empty.
    pub verified: String,
    /// Certificates that are trusted besides the simulator's, PEM.
    pub ca: String,
    /// What kintone's account [`ACME`] is like.
    pub tenant: TenantSettings,
    /// Where kintone listens.
    pub kintone: SocketAddr,
    /// How much of the past the simulator keeps.
    pub keep: Keep,
    /// Most calls of ours that may ever be in flight at [`ACME`].
    pub ceiling: u32,
    /// How long the test may take.
    pub time_max: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tables: String::new(),
            quota: String::new(),
            settle: "2s",
            upstream: String::new(),
            resolve: String::new(),
            limits: String::new(),
            grace: "5s",
            listen: String::new(),
            addresses: String::new(),
            published: String::new(),
            verified: String::new(),
            ca: String::new(),
            tenant: TenantSettings::default(),
            kintone: Options::default().listen,
            keep: Keep::Executions,
            ceiling: 80,
            time_max: TEST_TIME_MAX,
        }
    }
}

/// A gateway in front of a simulated kintone.
pub struct House {
    pub sim: Sim,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub public: Option<SocketAddr>,
    pub quotas: Quotas,
    pub output: Output,
    pub signals: mpsc::Sender<Signal>,
    pub config_path: std::path::PathBuf,
    state_dir: std::path::PathBuf,
    ceiling: u32,
    watch: Watch,
    running: JoinHandle<Result<Finished, RunError>>,
    _dir: tempfile::TempDir,
}

const ADDRESSES: &str = r#"
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.1.94"
[[egress.address]]
published = "35.73.236.241"
bind = "127.0.1.241"
"#;

/// Tests that measure have the machine to themselves, as far as this program goes.
static MACHINE: RwLock<()> = RwLock::const_new(());

/// No test takes longer unless it hangs, or says so in its plan.
const TEST_TIME_MAX: Duration = Duration::from_secs(100);

/// Runs `test` in a house built by `plan`, then checks what must always hold.
pub async fn house<F, T>(plan: Plan, test: F) -> Finished
where
    F: FnOnce(Arc<House>) -> T,
    T: Future<Output = ()>,
{
    let _shared = MACHINE.read().await;
    live(plan, test).await
}

/// The same while no other house stands: for tests whose figures depend on free processors.
pub async fn house_alone<F, T>(plan: Plan, test: F) -> Finished
where
    F: FnOnce(Arc<House>) -> T,
    T: Future<Output = ()>,
{
    let _alone = MACHINE.write().await;
    live(plan, test).await
}

/// The same beside another house, which the test that holds the machine opened.
pub async fn live<F, T>(plan: Plan, test: F) -> Finished
where
    F: FnOnce(Arc<House>) -> T,
    T: Future<Output = ()>,
{
    let time_max = plan.time_max;
    let house = Arc::new(House::open(plan).await);
    let tested = tokio::time::timeout(time_max, test(Arc::clone(&house))).await;
    if tested.is_err() {
        panic!("the test hangs: {}", house.state().await);
    }
    let house = Arc::into_inner(house).expect("the test has ended all its tasks");
    house.leave().await
}

impl House {
    async fn open(plan: Plan) -> Self {
        let options = Options {
            listen: plan.kintone,
            keep: plan.keep,
            ..Options::default()
        };
        let sim = Sim::start(options).await.expect("the simulator starts");
        sim.tenant(ACME, plan.tenant.clone());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let trusted = format!("{}{}", sim.ca_pem(), plan.ca);
        std::fs::write(dir.path().join("ca.pem"), trusted).expect("writable");
        let config_path = dir.path().join("gateway.toml");
        std::fs::write(&config_path, config_text(&plan, sim.addr())).expect("writable");
        for (file, kept) in [
            ("published.json", &plan.published),
            ("verified.json", &plan.verified),
        ] {
            if !kept.is_empty() {
                let state = dir.path().join("state");
                std::fs::create_dir_all(&state).expect("writable");
                std::fs::write(state.join(file), kept).expect("writable");
            }
        }
        let environment = Environment::default();
        let Loaded { config, .. } = load(&config_path, &environment).expect("a good configuration");
        let state_dir = config.state_dir.clone();
        let output = Output::default();
        let log = AccessLogHandle::to_writer(Box::new(output.clone())).expect("a thread");
        let source = Source {
            path: config_path.clone(),
            environment,
        };
        let gateway = Gateway::build(config, source, log).expect("free ports");
        let proxy = gateway.proxy_addresses().expect("bound")[0];
        let admin = gateway.admin_address().expect("bound");
        let public = gateway.public_address().expect("bound");
        let quotas = gateway.quotas();
        let (signals, receiver) = mpsc::channel(4);
        let running = tokio::spawn(gateway.run(receiver));
        let watch = Watch::start(quotas.clone());
        Self {
            sim,
            proxy,
            admin,
            public,
            quotas,
            output,
            signals,
            config_path,
            state_dir,
            ceiling: plan.ceiling,
            watch,
            running,
            _dir: dir,
        }
    }

    /// A caller with the right token.
    pub fn caller(&self) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), "events", TOKEN)
    }

    /// A caller whose calls are batch.
    pub fn batch_caller(&self) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), "nightly", BATCH_TOKEN)
    }

    /// A caller with this proxy user name and token.
    pub fn caller_as(&self, user: &str, token: &str) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), user, token)
    }

    /// Fetches a page of the admin listener.
    pub async fn admin_page(&self, path: &str) -> (u16, String) {
        let address = self.admin;
        caller::fetch_plain(address, path).await
    }

    /// The value of a sample in `/metrics`, labels and all; `None` where there is no such line.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let (_, text) = self.admin_page("/metrics").await;
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
            .and_then(|value| value.parse().ok())
    }

    /// Waits until `condition` holds, for at most ten seconds.
    pub async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never happened: {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A caller that does not say who it is.
    pub fn nobody(&self) -> Caller {
        self.caller().without_credentials()
    }

    /// What the gateway and kintone say of a test that hangs.
    async fn state(&self) -> String {
        let mut state = String::new();
        let account = format!("/api/v1/accounts/{ACME}");
        for path in ["/api/v1/requests", &account, "/metrics"] {
            let asked = tokio::time::timeout(Duration::from_secs(5), self.admin_page(path)).await;
            let said = asked.map_or_else(|_| "no answer".to_owned(), |(_, page)| page);
            let _ = writeln!(state, "{path}: {said}");
        }
        let _ = writeln!(state, "at kintone: {:?}", self.sim.accounting(ACME));
        let sockets = self.sim.ledger().sockets;
        let open = sockets.iter().filter(|socket| socket.closed.is_none());
        let _ = writeln!(state, "open there: {:?}", open.collect::<Vec<_>>());
        state + &self.output.text()
    }

    /// Rewrites the configuration file.
    pub fn reconfigure(&self, change: impl FnOnce(&str) -> String) {
        let text = std::fs::read_to_string(&self.config_path).expect("it was written");
        let changed = change(&text);
        assert_ne!(text, changed, "a change that changes nothing");
        std::fs::write(&self.config_path, changed).expect("writable");
    }

    /// Whether the gateway has ended.
    pub fn has_ended(&self) -> bool {
        self.running.is_finished()
    }

    async fn leave(self) -> Finished {
        let rest = invariants::await_rest(&self.quotas);
        if self.has_ended() {
            // The clockwork by which permits settle has ended with it.
            tokio::select! {
                () = self.quotas.drive() => unreachable!("it runs for ever"),
                () = rest => {}
            }
        } else {
            rest.await;
        }
        let pages = if self.has_ended() {
            String::new()
        } else {
            invariants::collect_pages(self.admin).await
        };
        self.watch.stop().await;
        let _ = self.signals.send(Signal::End).await;
        let ended = tokio::time::timeout(Duration::from_secs(20), self.running).await;
        let finished = ended.expect("drains in time").expect("does not panic");
        let finished = finished.expect("ends by the signal");
        if finished == Finished::Idle {
            invariants::check_left(&self.state_dir, &self.quotas);
        }
        let ledger = self.sim.ledger();
        invariants::check_sockets(&ledger, &["127.0.1.94", "127.0.1.241"]);
        invariants::check_executions(&ledger);
        let accounting = self.sim.accounting(ACME);
        assert!(
            accounting.peak <= self.ceiling,
            "{} calls in flight at once, {} allowed",
            accounting.peak,
            self.ceiling
        );
        let mut everything = self.output.text();
        let _ = write!(everything, "{pages}");
        invariants::check_secrets(&everything, &[TOKEN, BATCH_TOKEN, API_TOKEN]);
        finished
    }
}

/// The configuration that a house is built with, on any free ports of loopback.
pub fn config_text(plan: &Plan, kintone: SocketAddr) -> String {
    let addresses = if plan.addresses.is_empty() {
        ADDRESSES
    } else {
        &plan.addresses
    };
    let events = hash_token(TOKEN.as_bytes()).to_hex();
    let nightly = hash_token(BATCH_TOKEN.as_bytes()).to_hex();
    format!(
        r#"
[listen]
proxy = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
{listen}
{addresses}
[upstream]
ca_file = "ca.pem"
allow_networks = ["127.0.0.0/8"]
{upstream}
[upstream.resolve]
{resolve}
"*.cybozu.com" = "{kintone}"
"*.kintone.com" = "{kintone}"
[[caller]]
name = "events"
token_sha256 = "{events}"
[[caller]]
name = "nightly"
token_sha256 = "{nightly}"
priority = "batch"
[quota]
settle = "{settle}"
{quota}
[limits]
{limits}
[drain]
announce = "0s"
grace = "{grace}"
{tables}
"#,
        listen = plan.listen,
        upstream = plan.upstream,
        resolve = plan.resolve,
        grace = plan.grace,
        settle = plan.settle,
        quota = plan.quota,
        limits = plan.limits,
        tables = plan.tables,
    )
}
