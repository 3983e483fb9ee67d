//! The gateway as the program that people run, in front of a simulated kintone that the test runs:
//! for what only shows in a process of its own, such as its memory and its limits.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kintone_sim::{Keep, Options, Sim};
use tokio::time::{Instant, sleep};

use super::caller::{Caller, fetch_plain};
use super::{API_TOKEN, BATCH_TOKEN, House, Plan, TOKEN, config_text, invariants};

/// How long anything of the program's may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway, built by a plan.
pub struct Program {
    pub sim: Sim,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    ceiling: u32,
    dir: tempfile::TempDir,
}

impl Program {
    /// Starts it with at most so many file descriptors.
    pub async fn start(plan: &Plan, descriptors: u64) -> Self {
        let options = Options {
            keep: plan.keep,
            ..Options::default()
        };
        let sim = Sim::start(options).await.expect("the simulator starts");
        sim.tenant(super::ACME, plan.tenant.clone());
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("ca.pem"), sim.ca_pem()).expect("writable");
        let config = config_text(plan, sim.addr()) + "[log]\naccess = \"access.log\"\n";
        std::fs::write(dir.path().join("gateway.toml"), config).expect("writable");
        let said = File::create(dir.path().join("stderr")).expect("writable");
        let mut command = without_environment(Command::new("sh"));
        command
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\""])
            .arg(descriptors.to_string())
            .arg(env!("CARGO_BIN_EXE_kintone-egress"))
            .args(["serve", "--config", "gateway.toml"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(said);
        let child = command.spawn().expect("sh runs");
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut program = Self {
            sim,
            proxy: unknown,
            admin: unknown,
            child,
            ceiling: plan.ceiling,
            dir,
        };
        let (proxy, admin) = program.serving().await;
        (program.proxy, program.admin) = (proxy, admin);
        program
    }

    /// Waits until it serves; where.
    async fn serving(&mut self) -> (SocketAddr, SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if let Some(addresses) = addresses_in(&said) {
                return addresses;
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "{said}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it wrote to standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.path("stderr")).expect("it was created")
    }

    /// A caller with the right token.
    pub fn caller(&self) -> Caller {
        Caller::new(self.proxy, self.sim.ca_pem(), "events", TOKEN)
    }

    /// The value of a sample in `/metrics`, labels and all; 0 where there is no such line.
    pub async fn metric(&self, sample: &str) -> f64 {
        let (_, text) = fetch_plain(self.admin, "/metrics").await;
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
            .map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// How often a limit bit.
    pub async fn hits(&self, limit: &str) -> f64 {
        let sample = format!("kintone_egress_limit_hits_total{{limit=\"{limit}\"}}");
        self.metric(&sample).await
    }

    /// Its memory that is resident, in bytes.
    pub fn memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        1024 * kib.expect("a size").parse::<u64>().expect("a number")
    }

    /// File descriptors that it has.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(folder).expect("it lives").count()
    }

    /// Ends it by SIGTERM and checks what must always hold.
    pub async fn leave(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.metric("kintone_egress_permits_held").await > 0.0 {
            assert!(Instant::now() < deadline, "permits are still held");
            sleep(Duration::from_millis(20)).await;
        }
        let acquired = self.metric("kintone_egress_permits_acquired_total").await;
        let released = self.metric("kintone_egress_permits_released_total").await;
        assert_eq!(acquired, released, "permits");
        let pages = invariants::collect_pages(self.admin).await;
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(killed.expect("kill runs").success());
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(status.code(), Some(0), "{}", self.said());
        let ledger = self.sim.ledger();
        invariants::check_sockets(&ledger, &["127.0.1.94", "127.0.1.241"]);
        if !ledger.executions.is_empty() {
            invariants::check_executions(&ledger);
        }
        let accounting = self.sim.accounting(super::ACME);
        assert!(
            accounting.peak <= self.ceiling,
            "{} at once",
            accounting.peak
        );
        let log = std::fs::read_to_string(self.path("access.log")).expect("it is written");
        let everything = self.said() + &pages + &log;
        invariants::check_secrets(&everything, &[TOKEN, BATCH_TOKEN, API_TOKEN]);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The proxy's and the admin listener's address in what a gateway that serves wrote to standard error.
pub fn addresses_in(said: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line = said.lines().find(|line| line.contains("\"serving\""))?;
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let address = |key: &str| {
        let text = line[key].as_str().expect("an address");
        let text = text.trim_matches(['[', ']']);
        text.parse().expect("an address")
    };
    Some((address("proxy"), address("admin")))
}

/// A command that gets nothing from the environment that a gateway reads.
pub fn without_environment(mut command: Command) -> Command {
    for name in [
        "KINTONE_EGRESS_HOST",
        "STATE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
    ] {
        command.env_remove(name);
    }
    command
}

/// A plan of a program under load: the simulator keeps sums only.
pub fn under_load() -> Plan {
    Plan {
        keep: Keep::Counts,
        ..Plan::default()
    }
}

/// Runs a verb of the program about a house, to its end; `more` follows the configuration.
pub async fn ask_house(house: &House, verb: &[&str], more: &[&str]) -> Output {
    let text = std::fs::read_to_string(&house.config_path).expect("it was written");
    // The house listens on any free port; the program must know which.
    let admin = format!("admin = \"{}\"", house.admin);
    let asking = house.config_path.with_file_name("asking.toml");
    let text = text.replace("admin = \"127.0.0.1:0\"", &admin);
    std::fs::write(&asking, text).expect("writable");
    let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
    let mut command = without_environment(program);
    command.args(verb).arg("--config").arg(asking).args(more);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("no panic").expect("it runs")
}

/// How a command ended, and what it answered; what is said beside it only if it failed.
pub fn said(output: &Output) -> (Option<i32>, String) {
    let text = match output.status.success() {
        true => output.stdout.clone(),
        false => [output.stdout.as_slice(), &output.stderr].concat(),
    };
    (
        output.status.code(),
        String::from_utf8(text).expect("UTF-8"),
    )
}
