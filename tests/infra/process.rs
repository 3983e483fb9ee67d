//! The gateway as a process of its own, as systemd runs it.

use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::caller::fetch_plain;

/// Longest wait for anything that a process is to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running program, killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self(child)
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended; waits for it.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Whether it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway with a folder of its own.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) dir: PathBuf,
    notified: UnixDatagram,
}

impl Gateway {
    /// Starts one in `dir` as the unit does, with `more` behind its listeners' tables, and waits until
    /// it has told the service manager that it is ready.
    pub(crate) fn start(dir: &Path, more: &str) -> Self {
        let [proxy, admin, metrics] = free_ports();
        let listen = format!(
            "[listen]\nproxy = [\"{proxy}\"]\nadmin = \"{admin}\"\nmetrics = \"{metrics}\"\n"
        );
        std::fs::write(dir.join("kintone-egress.toml"), listen + more).unwrap();
        let socket = dir.join("notify");
        let notified = UnixDatagram::bind(&socket).unwrap();
        notified.set_read_timeout(Some(PATIENCE)).unwrap();
        for folder in ["state", "credentials"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let error_log = std::fs::File::create(dir.join("stderr")).unwrap();
        let process = Process::start(
            Command::new(env!("CARGO_BIN_EXE_kintone-egress"))
                .args(["serve", "--config"])
                .arg(dir.join("kintone-egress.toml"))
                .env_remove("KINTONE_EGRESS_HOST")
                .env("NOTIFY_SOCKET", &socket)
                .env("STATE_DIRECTORY", dir.join("state"))
                .env("CREDENTIALS_DIRECTORY", dir.join("credentials"))
                .stdout(Stdio::null())
                .stderr(error_log),
        );
        let gateway = Self {
            process,
            proxy,
            admin,
            metrics,
            dir: dir.to_owned(),
            notified,
        };
        gateway.notified("READY=1");
        gateway
    }

    /// Waits for the next word to the service manager, which must be this one.
    pub(crate) fn notified(&self, word: &str) {
        let mut said = [0; 256];
        let length = self.notified.recv(&mut said).unwrap_or_else(|error| {
            let told = std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
            panic!("{word} never came: {error}\n{told}")
        });
        let said = std::str::from_utf8(&said[..length]).unwrap();
        assert!(said.lines().any(|line| line == word), "{said} for {word}");
    }

    /// What `/metrics` says.
    pub(crate) async fn exposition(&self) -> String {
        let (status, text) = fetch_plain(self.metrics, "/metrics").await;
        assert_eq!(status, 200);
        text
    }
}

/// Ports of loopback that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> [SocketAddr; N] {
    let listeners: [_; N] =
        std::array::from_fn(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
