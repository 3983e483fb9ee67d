//! A client's process: one line of an errand in, one line of JSON out.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::client::{Client, Mode};
use super::support::API_TOKEN;

/// Longest time that an errand may take.
const ERRAND_MAX: Duration = Duration::from_secs(60);

/// What a client is to do, and as whom.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    /// `read` the records, or `work`: a record with a file there and back.
    pub(crate) what: &'static str,
    /// The proxy's user name, with its options.
    pub(crate) user: &'static str,
    /// The proxy's password.
    pub(crate) token: &'static str,
    /// Whose records.
    pub(crate) host: &'static str,
    /// Title of the record that `work` adds.
    pub(crate) title: &'static str,
    /// The file that `work` sends.
    pub(crate) file: PathBuf,
}

/// A running client.
pub(crate) struct Process {
    name: String,
    proxy: std::net::SocketAddr,
    scheme: &'static str,
    child: Child,
    errands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a client that trusts the authorities of `ca_file`.
    pub(crate) fn start(
        client: &Client,
        mode: Mode,
        proxy: std::net::SocketAddr,
        ca_file: &Path,
    ) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        if let Some(missing) = missing(client.name, root) {
            panic!(
                "{}: {missing} is not installed; `make setup` does it",
                client.name
            );
        }
        let mut child = Command::new(root.join("tests/clients/run"))
            .args([client.name, mode.name()])
            .env("CA_FILE", ca_file)
            .env("API_TOKEN", API_TOKEN)
            .env("APP", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("bash runs");
        let errands = child.stdin.take().expect("a pipe");
        let answers = child.stdout.take().expect("a pipe");
        Self {
            name: format!("{} {}", client.name, mode.name()),
            proxy,
            scheme: if mode == Mode::ForwardHttp {
                "http"
            } else {
                "https"
            },
            child,
            errands,
            answers: BufReader::new(answers).lines(),
        }
    }

    /// Does an errand; what the client said.
    pub(crate) async fn run(&mut self, errand: &Errand) -> Value {
        let Errand {
            what,
            user,
            token,
            host,
            title,
            file,
        } = errand;
        let proxy = format!("http://{user}:{token}@{}", self.proxy);
        let base = format!("{}://{host}", self.scheme);
        let line = format!("{what}\t{proxy}\t{base}\t{title}\t{}\n", file.display());
        self.errands.write_all(line.as_bytes()).await.unwrap();
        let said = tokio::time::timeout(ERRAND_MAX, self.answers.next_line())
            .await
            .unwrap_or_else(|_| panic!("{}: {errand:?} hangs", self.name));
        let said = said.unwrap().unwrap_or_else(|| {
            panic!("{}: it ended at {errand:?}", self.name);
        });
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{}: {error}: {said}", self.name))
    }

    /// Waits for its end.
    pub(crate) async fn end(self) {
        let Self {
            name,
            mut child,
            errands,
            ..
        } = self;
        drop(errands);
        let ended = tokio::time::timeout(ERRAND_MAX, child.wait()).await;
        let status = ended.expect("ends in time").unwrap();
        assert!(status.success(), "{name}: {status}");
    }
}

/// What a client needs and is not there.
fn missing(client: &str, root: &Path) -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |name: &str| std::env::split_paths(&path).any(|at| at.join(name).is_file());
    let is_file = |name: &str| root.join(name).is_file();
    let in_node = |name: &str| {
        is_file(&format!(
            "tests/clients/node/node_modules/{name}/package.json"
        ))
    };
    let python = is_file(".venv/bin/python");
    let node = is_program("node");
    let (there, what) = match client {
        "curl" => (python && is_program("curl"), "curl or Python"),
        "wget" => (python && is_program("wget"), "wget or Python"),
        "requests" | "httpx" | "aiohttp" | "pyntone" => (python, "Python with its packages"),
        "cli-kintone" => (python && node && in_node("@kintone/cli"), "@kintone/cli"),
        "undici" => (node && in_node("undici"), "undici"),
        "got" => (
            node && in_node("got") && in_node("hpagent"),
            "got or hpagent",
        ),
        "java" => (
            is_program("java") && is_file("tests/clients/java/classes/Client.class"),
            "Java 17",
        ),
        sdk => {
            let package = "node_modules/@kintone/rest-api-client/package.json";
            let found = is_file(&format!("tests/clients/{sdk}/{package}"));
            (node && found, "@kintone/rest-api-client")
        }
    };
    (!there).then_some(what)
}
