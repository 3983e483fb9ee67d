//! One gateway as a process, whose way to the store is an address of its own: so it can be cut off alone.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use kintone_sim::Sim;

use crate::support::caller::Caller;
use crate::support::program::without_environment;
use crate::support::{Plan, TOKEN, config_text};

/// A gateway.
pub(crate) struct Process {
    child: Child,
    dir: PathBuf,
    proxy: SocketAddr,
}

/// The store, as each host knows it.
pub(crate) const STORES: [&str; 2] = ["127.0.9.1", "127.0.9.2"];

/// `[quota] settle`: longer than kintone ever takes for a call, of a gateway that is gone too. The run
/// looks whether that was so.
pub(crate) const SETTLE: &str = "4s";
pub(crate) const SETTLE_S: f64 = 4.0;

const NAMES: [&str; 2] = ["gw-a", "gw-b"];

/// Whether the hosts know of each other.
#[derive(Clone, Copy)]
pub(crate) enum Fleet {
    /// They share by the store.
    Shared,
    /// Each takes itself for the only one, so together they pass the limit.
    Strangers,
}

impl Process {
    pub(crate) fn start(
        index: usize,
        dir: &Path,
        sim: &Sim,
        store_port: u16,
        fleet: Fleet,
    ) -> Self {
        let dir = dir.join(NAMES[index]);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("ca.pem"), sim.ca_pem()).unwrap();
        // Ports of the namespace's own: nobody else is there.
        let proxy = SocketAddr::from(([127, 0, 0, 1], 3128 + index as u16));
        let admin = SocketAddr::from(([127, 0, 0, 1], 9180 + index as u16));
        let plan = Plan {
            quota: "concurrency = 100\nheadroom = 2\ninteractive_reserve = 0\nmax_wait = \"30s\"\n"
                .into(),
            settle: SETTLE,
            addresses: match fleet {
                Fleet::Shared => address("{ gw-a = \"127.0.1.94\", gw-b = \"127.0.1.95\" }"),
                Fleet::Strangers => address(["\"127.0.1.94\"", "\"127.0.1.95\""][index]),
            },
            tables: format!(
                "[fleet]\nhost = \"{}\"\nhosts = {:?}\nredis = \"redis://{}:{store_port}\"\n\
                 loan = \"1s\"\noverrun = \"1s\"\n[log]\naccess = \"off\"\n",
                NAMES[index],
                match fleet {
                    Fleet::Shared => &NAMES[..],
                    Fleet::Strangers => &NAMES[index..=index],
                },
                STORES[index]
            ),
            ..Plan::default()
        };
        let text = config_text(&plan, sim.addr())
            .replacen("127.0.0.1:0", &proxy.to_string(), 1)
            .replacen("127.0.0.1:0", &admin.to_string(), 1);
        std::fs::write(dir.join("gateway.toml"), text).unwrap();
        let child = spawn(&dir);
        Self { child, dir, proxy }
    }

    pub(crate) fn caller(&self, sim: &Sim) -> Caller {
        Caller::new(self.proxy, sim.ca_pem(), "events", TOKEN)
    }

    /// kill -9, and at once another one on the same state.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.dir);
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Ends it; what it said.
    pub(crate) fn end(&mut self) -> String {
        let ended = self.child.try_wait().unwrap();
        let said = std::fs::read_to_string(self.dir.join("stderr.log")).unwrap();
        assert!(ended.is_none(), "it has ended by itself: {said}");
        assert!(!said.contains("panicked"), "{said}");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(bind: &str) -> String {
    format!("[[egress.address]]\npublished = \"18.177.83.94\"\nbind = {bind}\n")
}

fn spawn(dir: &Path) -> Child {
    let said = File::options()
        .create(true)
        .append(true)
        .open(dir.join("stderr.log"));
    without_environment(Command::new(env!("CARGO_BIN_EXE_kintone-egress")))
        .arg("serve")
        .arg("--config")
        .arg(dir.join("gateway.toml"))
        .stdout(Stdio::null())
        .stderr(said.unwrap())
        .spawn()
        .unwrap()
}
