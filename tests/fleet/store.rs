//! A real redis-server, and Sentinel, as processes of the test.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The ACL line of the documentation (`src/fleet/exchange`), with the password `s3cret-of-redis`.
pub(crate) const ACL: &str = "user kintone-egress on >s3cret-of-redis resetkeys ~kintone-egress:* \
    resetchannels &kintone-egress:* -@all +set +mget +publish +subscribe";

/// The password of [`ACL`]; no output may contain it.
pub(crate) const PASSWORD: &str = "s3cret-of-redis";

/// How long a server may take to start or to change.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store. Dropped, it is killed.
pub(crate) struct Store {
    pub(crate) port: u16,
    child: Option<Child>,
    arguments: Vec<String>,
    dir: tempfile::TempDir,
}

impl Store {
    /// Starts one with these arguments besides the usual ones.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut store = Self {
            port: free_port(),
            child: None,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            dir: tempfile::tempdir().unwrap(),
        };
        store.resume();
        store
    }

    /// One that only [`ACL`]'s user may use.
    pub(crate) fn with_acl() -> Self {
        let store = Self::start(&[]);
        let words: Vec<_> = ACL.split_whitespace().skip(1).collect();
        store.tell(&[&["ACL", "SETUSER"], &words[..]].concat());
        store.tell(&["ACL", "SETUSER", "default", "off"]);
        store
    }

    /// Starts it again on the same port, empty.
    pub(crate) fn resume(&mut self) {
        let said = File::create(self.dir.path().join("log")).unwrap();
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port, "--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdout(said)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is not installed; tests/setup.sh (make setup) does it");
        self.child = Some(child);
        until("redis-server listens", || {
            TcpStream::connect(self.address()).is_ok()
        });
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The URL with [`ACL`]'s user.
    pub(crate) fn url_of_user(&self) -> String {
        format!("redis://kintone-egress:{PASSWORD}@{}", self.address())
    }

    /// Sends the server a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// What redis-cli says to this command.
    pub(crate) fn tell(&self, words: &[&str]) -> String {
        cli(self.port, words)
    }

    /// Waits until it has all that its master has.
    pub(crate) fn until_it_follows(&self) {
        until("the replica follows", || {
            let said = self.tell(&["INFO", "replication"]);
            said.contains("master_link_status:up")
        });
    }

    /// How often it has carried out this command so far.
    pub(crate) fn calls_of(&self, command: &str) -> u64 {
        let stats = self.tell(&["INFO", "commandstats"]);
        let head = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&head));
        let calls = line.and_then(|line| line.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }

    /// Commands that it has carried out so far, scripts and connections included.
    pub(crate) fn commands(&self) -> u64 {
        let stats = self.tell(&["INFO", "stats"]);
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sentinel over a store, alone: its quorum is 1.
pub(crate) struct Sentinel {
    pub(crate) port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Sentinel {
    pub(crate) fn start(service: &str, master: &Store) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let file: PathBuf = dir.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {service} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {service} 300\n\
             sentinel failover-timeout {service} 2000\n",
            master.port
        );
        std::fs::write(&file, text).unwrap();
        let said = File::create(dir.path().join("log")).unwrap();
        let child = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdout(said)
            .spawn()
            .unwrap();
        until("Sentinel listens", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        });
        Self {
            port,
            child,
            _dir: dir,
        }
    }

    /// The port of the master that it names.
    pub(crate) fn master(&self, service: &str) -> u16 {
        let said = cli(self.port, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", service]);
        said.lines().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cli(port: u16, words: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string()])
        .args(words)
        .output()
        .expect("redis-cli is not installed; tests/setup.sh (make setup) does it");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until `condition` holds.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that is free, below those that the kernel gives to callers, and that nobody else in this
/// program gets: a store that was killed comes back to it.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let seed = (std::process::id() as u16).wrapping_mul(13) % 10_000;
    loop {
        let step = TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (seed + step) % 10_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// How many replicas Sentinel knows.
pub(crate) fn sentinel_replicas(port: u16, service: &str) -> usize {
    let said = cli(port, &["SENTINEL", "REPLICAS", service]);
    said.lines().filter(|line| *line == "name").count()
}
