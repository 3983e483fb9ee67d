//! The gateway: the real program, as a user without rights, in its own process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kintone_egress::config::token::hash_token;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::host::Host;
use crate::site::{ADMIN_PORT, GATEWAY_LAN, PUBLISHED};
use crate::support::TOKEN;

/// Where callers reach it.
pub(crate) const PROXY_PORT: u16 = 3128;

/// The user that the gateway runs as: nobody, without a capability.
const NOBODY: u32 = 65_534;

/// Longest wait for something that a program should do at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Longest wait for an answer of the admin listener.
const ADMIN_WAIT: Duration = Duration::from_secs(5);

/// Permits that the gateway may use of [`CONCURRENCY`].
pub(crate) const PERMITS: u32 = CONCURRENCY - HEADROOM;

/// kintone's limit in the laboratory.
pub(crate) const CONCURRENCY: u32 = 12;

const HEADROOM: u32 = 4;

/// The gateway and its folder.
pub(crate) struct Gateway {
    host: Arc<Host>,
    program: PathBuf,
    dir: PathBuf,
    child: Option<Child>,
}

impl Gateway {
    /// A gateway that has not started yet, with its files in `dir`.
    pub(crate) fn new(host: Arc<Host>, program: PathBuf, dir: PathBuf) -> anyhow::Result<Self> {
        let state = dir.join("state");
        std::fs::create_dir_all(&state)?;
        for folder in [&dir, &state] {
            std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY))?;
        }
        let this = Self {
            host,
            program,
            dir,
            child: None,
        };
        this.configure(&config(""))?;
        Ok(this)
    }

    /// Writes its configuration; it is read at the next start or reload.
    pub(crate) fn configure(&self, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.dir.join("gateway.toml"), text).context("the configuration")
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let log = |name| {
            let mut options = std::fs::OpenOptions::new();
            options
                .create(true)
                .append(true)
                .open(self.dir.join(name))
                .map(Stdio::from)
        };
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.dir.join("gateway.toml"))
            .env_clear()
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(log("access.log")?)
            .stderr(log("gateway.log")?)
            .kill_on_drop(true);
        // On the thread of the host, whose namespace the program inherits.
        let child = self.host.run(async move { command.spawn() }).await?;
        self.child = Some(child);
        let deadline = Instant::now() + AT_ONCE;
        while self.page("/healthz").await.is_err() {
            ensure!(Instant::now() < deadline, "the gateway does not start");
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|c| c.try_wait().ok())
                .flatten()
            {
                bail!("the gateway ended at its start: {status}");
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().and_then(Child::id);
        let id = child.context("the gateway does not run")?;
        kill(Pid::from_raw(id.cast_signed()), signal).context("a signal")
    }

    /// Waits until it has ended; how it did.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        let mut child = self.child.take().context("the gateway does not run")?;
        let ended = timeout(AT_ONCE * 2, child.wait()).await;
        ended.context("the gateway does not end")?.context("wait")
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// A page of its admin listener: status and body.
    pub(crate) async fn page(&self, path: &'static str) -> anyhow::Result<(u16, String)> {
        fetch(&self.host, path).await
    }

    /// The value of a sample in its metrics, labels and all.
    pub(crate) async fn metric(&self, sample: &str) -> anyhow::Result<f64> {
        let (_, text) = self.page("/metrics").await?;
        value(&text, sample).with_context(|| format!("no sample {sample}"))
    }

    /// Waits until `/readyz` says so.
    pub(crate) async fn until_ready_is(&self, status: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + AT_ONCE;
        loop {
            let (now, why) = self.page("/readyz").await?;
            if now == status {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "/readyz stays {now}, not {status}: {why}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything it has written, and its pages.
    pub(crate) async fn output(&self) -> String {
        let mut output = String::new();
        for file in ["access.log", "gateway.log"] {
            output += &std::fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        }
        for path in ["/metrics", "/", "/api/v1/config", "/api/v1/requests"] {
            if let Ok((_, page)) = self.page(path).await {
                output += &page;
            }
        }
        output
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        &self.dir
    }
}

/// The configuration of every scenario, with more lines at its end.
pub(crate) fn config(more: &str) -> String {
    let hash = hash_token(TOKEN.as_bytes()).to_hex();
    let addresses: String = PUBLISHED.map(address).concat();
    format!(
        r#"
[listen]
proxy = ["{GATEWAY_LAN}:{PROXY_PORT}"]
admin = "127.0.0.1:{ADMIN_PORT}"
{addresses}
[upstream]
ca_file = "../ca/ca.pem"
connect_timeout = "2s"
response_timeout = "2s"
[[caller]]
name = "events"
token_sha256 = "{hash}"
[quota]
concurrency = {CONCURRENCY}
headroom = {HEADROOM}
settle = "1s"
max_wait = "5s"
[state]
dir = "state"
[drain]
announce = "300ms"
grace = "6s"
{more}
"#
    )
}

/// A published address that is bound as it is.
fn address(published: Ipv4Addr) -> String {
    format!("[[egress.address]]\npublished = \"{published}\"\n")
}

/// The value of a sample in the text of `/metrics`.
pub(crate) fn value(text: &str, sample: &str) -> Option<f64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    value.parse().ok()
}

/// A page of the admin listener, fetched on the gateway's own host.
pub(crate) async fn fetch(host: &Host, path: &'static str) -> anyhow::Result<(u16, String)> {
    let fetched = host.run(timeout(ADMIN_WAIT, fetch_here(path))).await;
    let text = fetched.context("the admin listener does not answer")??;
    let (head, body) = text.split_once("\r\n\r\n").context("half an answer")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

async fn fetch_here(path: &str) -> io::Result<String> {
    let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Copies the program to where nobody can reach it.
pub(crate) fn install(program: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let copy = dir.join("kintone-egress");
    std::fs::copy(program, &copy).with_context(|| format!("{}", program.display()))?;
    Ok(copy)
}
