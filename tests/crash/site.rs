//! A host: a configuration, a state directory, and the program as a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kintone_sim::{Options, Sim};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::caller::{Caller, fetch_plain};
use crate::support::program::without_environment;
use crate::support::{ACME, Plan, TOKEN, config_text};

/// A host in front of a simulated kintone.
pub(crate) struct Site {
    pub(crate) sim: Sim,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    dir: tempfile::TempDir,
}

/// The program while it runs. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    /// Just before it was started.
    pub(crate) spawned: Instant,
}

impl Site {
    pub(crate) async fn new(plan: &Plan) -> Self {
        let sim = Sim::start(Options::default()).await.unwrap();
        sim.tenant(ACME, plan.tenant.clone());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), sim.ca_pem()).unwrap();
        let [proxy, admin] = free_addresses();
        let config = config_text(plan, sim.addr())
            .replacen("127.0.0.1:0", &proxy.to_string(), 1)
            .replacen("127.0.0.1:0", &admin.to_string(), 1);
        std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
        Self {
            sim,
            proxy,
            admin,
            dir,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), "events", TOKEN)
    }

    /// The command that serves; what it says goes to files.
    pub(crate) fn serve(&self) -> Command {
        let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
        let mut command = without_environment(program);
        command.arg("serve").arg("--config");
        command.arg(self.path("gateway.toml"));
        command.stdout(append(&self.path("access.log")));
        command.stderr(append(&self.path("stderr.log")));
        command
    }

    /// Starts the program.
    pub(crate) fn start(&self) -> Process {
        let mut command = self.serve();
        let spawned = Instant::now();
        let child = command.spawn().unwrap();
        Process { child, spawned }
    }

    /// Everything that the programs said so far.
    pub(crate) fn said(&self) -> String {
        let read = |name| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        read("stderr.log") + &read("access.log")
    }

    /// Waits until the program serves.
    pub(crate) async fn until_serving(&self) {
        until("it serves", async || {
            TcpStream::connect(self.admin).await.is_ok()
                && fetch_plain(self.admin, "/healthz").await.0 == 200
        })
        .await;
    }

    /// A figure of the account at this moment; `None` while it is not in use, or nobody serves.
    pub(crate) async fn figure(&self, name: &str) -> Option<u64> {
        TcpStream::connect(self.admin).await.ok()?;
        let (status, page) = fetch_plain(self.admin, &format!("/api/v1/accounts/{ACME}")).await;
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        (status == 200).then(|| page[name].as_u64().unwrap())
    }

    /// When kintone first saw a request over a connection that was opened after `spawned`.
    pub(crate) fn first_call_after(&self, spawned: Instant) -> Option<Instant> {
        let ledger = self.sim.ledger();
        let new = ledger
            .executions
            .iter()
            .filter(|execution| ledger.sockets[execution.socket].opened.at > spawned);
        new.map(|execution| execution.start.at).min()
    }
}

impl Process {
    /// kill -9; returns when it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns when it has drained.
    pub(crate) fn drain(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").arg(pid).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds, for at most 20 seconds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn append(path: &Path) -> Stdio {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap().into()
}

/// Two that are free, and below the ports that the kernel gives to callers: one that calls while
/// nobody listens must not get the listener's own port.
fn free_addresses() -> [SocketAddr; 2] {
    let seed = std::process::id() as u16;
    let mut ports =
        (0..10_000).map(|step| 20_000 + (seed.wrapping_mul(7) % 10_000 + step) % 10_000);
    [(); 2].map(|()| {
        let free = ports.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        free.expect("a free port").local_addr().unwrap()
    })
}
