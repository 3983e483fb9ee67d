//! Two hosts, each with one of the two addresses, and the certificates by which they know each other.

use std::fs::{File, Permissions};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use kintone_egress::tls::{PeerAuthority, PeerFiles};
use kintone_sim::{Keep, Options, Sim, TenantSettings};
use tokio::time::{Instant, sleep};

use crate::support::caller::{Caller, fetch_plain};
use crate::support::program::{addresses_in, without_environment};
use crate::support::{ACME, API_TOKEN, BATCH_TOKEN, Plan, TOKEN, config_text, invariants};

/// The host to which callers go; its address is not on the customer's list.
pub(crate) const GIVER: &str = "gw-a";
/// The host that owns the address on the customer's list.
pub(crate) const OWNER: &str = "gw-b";
/// The owner's address, as published and as bound.
pub(crate) const LINE: &str = "35.73.236.241";
pub(crate) const BIND: &str = "127.0.1.241";

/// The address of the host to which callers go, as published and as bound.
pub(crate) const REFUSED: &str = "18.177.83.94";
pub(crate) const REFUSED_BIND: &str = "127.0.1.94";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What the two are built with.
pub(crate) struct Wish {
    /// Tables of the configuration besides the usual ones.
    pub(crate) tables: String,
    /// Lines of `[fleet.peer]` besides the usual ones.
    pub(crate) peer: String,
    /// Lines of `[quota]`.
    pub(crate) quota: String,
    /// Lines of `[upstream]`.
    pub(crate) upstream: String,
    /// Lines of the account's table.
    pub(crate) account: String,
    /// Lines of `[fleet]` besides the usual ones.
    pub(crate) fleet: String,
    /// What kintone is like, but for its list of addresses.
    pub(crate) tenant: TenantSettings,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            tables: String::new(),
            peer: String::new(),
            quota: "concurrency = 100\nheadroom = 20\n".to_owned(),
            upstream: String::new(),
            account: format!("accepts = [\"{LINE}\"]\n"),
            fleet: String::new(),
            tenant: TenantSettings::default(),
        }
    }
}

/// The hosts' place.
pub(crate) struct Site {
    pub(crate) sim: Sim,
    pub(crate) authority: PeerAuthority,
    /// Where each host takes calls from the other.
    pub(crate) listeners: [(&'static str, SocketAddr); 2],
    wish: Wish,
    dir: tempfile::TempDir,
}

/// A host that runs. Dropped, it is killed.
pub(crate) struct Host {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    folder: PathBuf,
    ca_pem: String,
}

impl Site {
    /// One whose kintone lets only the owner's address in.
    pub(crate) async fn new(wish: Wish) -> Self {
        let options = Options {
            keep: Keep::Executions,
            ..Options::default()
        };
        let sim = Sim::start(options).await.unwrap();
        let allowed: IpAddr = BIND.parse().unwrap();
        let tenant = TenantSettings {
            allow: Some(vec![allowed]),
            ..wish.tenant.clone()
        };
        sim.tenant(ACME, tenant);
        Self {
            sim,
            authority: PeerAuthority::create(Timestamp::now(), 30 * DAY).unwrap(),
            listeners: [GIVER, OWNER].map(|host| (host, free_address())),
            wish,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Where a host takes calls from the other.
    pub(crate) fn listener(&self, host: &str) -> SocketAddr {
        let mut listeners = self.listeners.iter();
        listeners.find(|(name, _)| *name == host).unwrap().1
    }

    /// A certificate of the authority for that name.
    pub(crate) fn certificate(&self, name: &str) -> PeerFiles {
        self.authority
            .sign(name, Timestamp::now(), 20 * DAY)
            .unwrap()
    }

    /// Starts a host, or starts it again: its state is kept.
    pub(crate) async fn start(&self, host: &str) -> Host {
        self.start_with(host, &self.certificate(host)).await
    }

    /// Starts a host that shows this certificate.
    pub(crate) async fn start_with(&self, host: &str, shown: &PeerFiles) -> Host {
        let folder = self.configure(host, shown);
        self.launch(host, folder).await
    }

    /// Starts a host whose files are there.
    pub(crate) async fn launch(&self, host: &str, folder: PathBuf) -> Host {
        let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
        let child = without_environment(program)
            .args(["serve", "--config", "gateway.toml"])
            .env("KINTONE_EGRESS_HOST", host)
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut started = Host {
            proxy: nowhere,
            admin: nowhere,
            child,
            folder,
            ca_pem: self.sim.ca_pem().to_owned(),
        };
        let deadline = Instant::now() + PATIENCE;
        (started.proxy, started.admin) = loop {
            let said = started.said();
            if let Some(addresses) = addresses_in(&said) {
                break addresses;
            }
            let ended = started.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{said}");
            sleep(Duration::from_millis(10)).await;
        };
        started
    }

    /// Both hosts, the owner first.
    pub(crate) async fn start_both(&self) -> (Host, Host) {
        let owner = self.start(OWNER).await;
        (self.start(GIVER).await, owner)
    }

    /// Writes a host's files: the configuration is the same on both, the certificate is not.
    pub(crate) fn configure(&self, host: &str, shown: &PeerFiles) -> PathBuf {
        let folder = self.dir.path().join(host);
        std::fs::create_dir_all(&folder).unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        put("ca.pem", self.sim.ca_pem());
        put("hosts-ca.pem", &self.authority.certificate);
        put("host.pem", &shown.certificate);
        put("host.key", shown.key.expose());
        let private = Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.join("host.key"), private).unwrap();
        put("gateway.toml", &self.config());
        folder
    }

    fn config(&self) -> String {
        let listen = self
            .listeners
            .map(|(host, at)| format!("{host} = \"{at}\""));
        let plan = Plan {
            quota: self.wish.quota.clone(),
            upstream: self.wish.upstream.clone(),
            addresses: format!(
                "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = {{ {GIVER} = \"127.0.1.94\" }}\n\
                 [[egress.address]]\npublished = \"{LINE}\"\nbind = {{ {OWNER} = \"{BIND}\" }}\n"
            ),
            tables: format!(
                "[log]\naccess = \"access.log\"\n\
                 [account.\"{ACME}\"]\n{}\
                 [fleet]\nhosts = [\"{GIVER}\", \"{OWNER}\"]\n{}\
                 [fleet.peer]\nlisten = {{ {} }}\ncert = \"host.pem\"\nkey = \"host.key\"\nca = \"hosts-ca.pem\"\n{}{}",
                self.wish.account,
                self.wish.fleet,
                listen.join(", "),
                self.wish.peer,
                self.wish.tables
            ),
            ..Plan::default()
        };
        config_text(&plan, self.sim.addr())
    }

    /// Checks what must always hold of the fleet: nothing left but from the owner's address, nothing
    /// went twice, no more at once than one host of two may have, no secret in what was written.
    pub(crate) fn check(&self) {
        self.check_from(&[BIND]);
    }

    /// The same, but that connections may have left from these addresses.
    pub(crate) fn check_from(&self, binds: &[&str]) {
        let ledger = self.sim.ledger();
        invariants::check_sockets(&ledger, binds);
        invariants::check_executions(&ledger);
        let accounting = self.sim.accounting(ACME);
        assert!(accounting.peak <= 40, "{} at once", accounting.peak);
        for (host, _) in self.listeners {
            let folder = self.dir.path().join(host);
            let read = |name| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            let everything = read("stderr") + &read("access.log");
            invariants::check_secrets(&everything, &[TOKEN, BATCH_TOKEN, API_TOKEN, "PRIVATE KEY"]);
        }
    }
}

impl Host {
    pub(crate) fn caller(&self) -> Caller {
        Caller::new(self.proxy, &self.ca_pem, "events", TOKEN)
    }

    /// What it wrote to standard error.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    /// The lines of its access log so far.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let log = std::fs::read_to_string(self.folder.join("access.log")).unwrap_or_default();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until its access log has so many lines.
    pub(crate) async fn lines_when(&self, count: usize) -> Vec<serde_json::Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines();
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < deadline, "{count} lines: {lines:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The sum of all samples whose name and labels begin so.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        let (_, text) = fetch_plain(self.admin, "/metrics").await;
        text.lines()
            .filter(|line| line.starts_with(sample))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// What became of calls that it was to hand over.
    pub(crate) async fn handed(&self, result: &str) -> f64 {
        let labels = format!("{{peer=\"{OWNER}\",result=\"{result}\"}}");
        self.metric(&format!("kintone_egress_handed_total{labels}"))
            .await
    }

    /// Waits until a sum of samples is so much.
    pub(crate) async fn until(&self, sample: &str, value: f64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.metric(sample).await;
            if found == value {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{sample} is {found}, not {value}"
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no permit is out, and checks that each came back.
    pub(crate) async fn rest(&self) {
        self.until("kintone_egress_permits_held", 0.0).await;
        let acquired = self.metric("kintone_egress_permits_acquired_total").await;
        let released = self.metric("kintone_egress_permits_released_total").await;
        assert_eq!(acquired, released, "permits");
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as an operator does.
    pub(crate) async fn leave(mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end: {}",
                self.said()
            );
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(status.code(), Some(0), "{}", self.said());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Fails only on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on, so far.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}
