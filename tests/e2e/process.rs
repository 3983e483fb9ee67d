//! The program itself, as a process of its own, in front of a simulated kintone.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kintone_egress::config::token::hash_token;
use kintone_sim::{Options, Sim, TenantSettings};
use tokio::time::{Instant, sleep};

use crate::support::caller::{Answer, Caller, ask_raw, fetch_plain};
use crate::support::program::without_environment;
use crate::support::{ACME, BATCH_TOKEN, TOKEN};

/// No process of these tests takes longer to begin or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The tables of every configuration here; what a test adds stands behind it.
const USUAL: &str = r#"
[listen]
proxy = ["PROXY"]
admin = "ADMIN"
metrics = "METRICS"
[[egress.address]]
published = "18.177.83.94"
bind = "127.0.1.94"
[[egress.address]]
published = "35.73.236.241"
bind = "127.0.1.241"
[upstream]
ca_file = "ca.pem"
allow_networks = ["127.0.0.0/8"]
[upstream.resolve]
"*.cybozu.com" = "KINTONE"
[[caller]]
name = "events"
token_sha256 = "EVENTS"
[[caller]]
name = "nightly"
token_sha256 = "NIGHTLY"
priority = "batch"
"#;

/// The program, running.
pub(crate) struct Process {
    pub(crate) sim: Sim,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// The configuration that it began with.
    pub(crate) config: String,
    child: Child,
    dir: tempfile::TempDir,
}

impl Process {
    /// Starts it with the usual tables and `more`; waits until it serves.
    pub(crate) async fn start(tenant: TenantSettings, more: &str) -> Self {
        Self::start_with(tenant, more, |_| ()).await
    }

    /// The same; `prepare` puts further files into its folder first.
    pub(crate) async fn start_with(
        tenant: TenantSettings,
        more: &str,
        prepare: impl FnOnce(&std::path::Path),
    ) -> Self {
        let sim = Sim::start(Options::default())
            .await
            .expect("the simulator starts");
        sim.tenant(ACME, tenant);
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("ca.pem"), sim.ca_pem()).expect("writable");
        prepare(dir.path());
        let [proxy, admin, metrics] = free_ports();
        let hash = |token: &str| hash_token(token.as_bytes()).to_hex();
        let config = USUAL
            .replace("PROXY", &proxy.to_string())
            .replace("ADMIN", &admin.to_string())
            .replace("METRICS", &metrics.to_string())
            .replace("KINTONE", &sim.addr().to_string())
            .replace("EVENTS", &hash(TOKEN))
            .replace("NIGHTLY", &hash(BATCH_TOKEN))
            + more;
        std::fs::write(dir.path().join("gateway.toml"), &config).expect("writable");
        let child = command(dir.path())
            .arg("serve")
            .arg("--config")
            .arg(dir.path().join("gateway.toml"))
            .stdout(File::create(dir.path().join("stdout")).expect("writable"))
            .stderr(File::create(dir.path().join("stderr")).expect("writable"))
            .spawn()
            .expect("it runs");
        let mut this = Self {
            sim,
            proxy,
            admin,
            metrics,
            config,
            child,
            dir,
        };
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(admin).await.is_err() {
            let ended = this.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "{ended:?}: {}", this.stderr());
            assert!(
                Instant::now() < deadline,
                "it never serves: {}",
                this.stderr()
            );
            sleep(Duration::from_millis(10)).await;
        }
        this
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What a file of its folder holds; nothing if it is absent.
    pub(crate) fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The program's own log so far.
    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Puts another configuration in the place of the one that is there, at once.
    pub(crate) fn write_config(&self, text: &str) {
        std::fs::write(self.path("next.toml"), text).expect("writable");
        std::fs::rename(self.path("next.toml"), self.path("gateway.toml")).expect("one folder");
    }

    /// Runs another verb on its configuration, to the end.
    pub(crate) fn run(&self, arguments: &[&str]) -> std::process::Output {
        let (verb, arguments) = arguments.split_first().expect("a verb");
        command(self.dir.path())
            .args([
                verb,
                "--config",
                self.path("gateway.toml").to_str().expect("UTF-8"),
            ])
            .args(arguments)
            .output()
            .expect("it runs")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// A request to the admin listener that changes something.
    pub(crate) async fn order(&self, method: &str, path: &str, token: Option<&str>) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n",
            self.admin
        );
        if let Some(token) = token {
            let _ = write!(head, "Authorization: Bearer {token}\r\n");
        }
        ask_raw(self.admin, format!("{head}\r\n").as_bytes()).await
    }

    /// A page of the admin listener.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        fetch_plain(self.admin, path).await
    }

    /// A caller with the right token.
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), "events", TOKEN)
    }

    /// A caller with this proxy user name and token.
    pub(crate) fn caller_as(&self, user: &str, token: &str) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), user, token)
    }

    /// Waits until `condition` holds.
    pub(crate) async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "never happened: {what}: {}",
                self.stderr()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_some()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.stderr()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A test that failed leaves nothing running; one that passed has seen the end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, in surroundings that say nothing.
pub(crate) fn command(folder: &std::path::Path) -> Command {
    let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
    let mut command = without_environment(program);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let listeners =
        std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound"))
}
