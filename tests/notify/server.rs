//! A real mail server (aiosmtpd) as a process of the test: STARTTLS, AUTH, and what it took.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The password in the URL; no output may contain it.
pub(crate) const PASSWORD: &str = "p%40ss%3Aw%2Frd";

/// How long a mail may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mail server. Dropped, it is killed.
pub(crate) struct Server {
    port: u16,
    child: Option<Child>,
    dir: tempfile::TempDir,
}

/// A mail that it took.
#[derive(Clone, Debug)]
pub(crate) struct Mail(Value);

impl Server {
    /// Starts one.
    pub(crate) fn start() -> Self {
        let mut server = Self::stopped();
        server.resume();
        server
    }

    /// One that does not run yet; its port is free.
    pub(crate) fn stopped() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener.local_addr().unwrap().port())
    }

    /// One that does not run yet, on this port.
    pub(crate) fn on(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.path().join("cert.pem"), key.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), key.signing_key.serialize_pem()).unwrap();
        Self {
            port,
            child: None,
            dir,
        }
    }

    /// Starts it, or starts it again on the same port.
    pub(crate) fn resume(&mut self) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join(".venv/bin/python");
        assert!(
            python.is_file(),
            "no .venv; tests/setup.sh (make setup) makes it"
        );
        let mut child = Command::new(python)
            .arg(root.join("tests/notify/server.py"))
            .arg(self.port.to_string())
            .args([
                self.path("cert.pem"),
                self.path("key.pem"),
                self.path("mails"),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        self.child = Some(child);
    }

    /// Ends it; what it took stays.
    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `[notify]` with this server, with this `rest` and with `more` keys.
    pub(crate) fn table(&self, rest: &str, more: &str) -> String {
        format!(
            "[notify]\nsmtp = \"smtp://gateway:{PASSWORD}@127.0.0.1:{}\"\n\
             from = \"gateway@service.example\"\noperators = [\"sre@service.example\"]\n\
             begins_after = \"1s\"\nends_after = \"2s\"\nrest = \"{rest}\"\nretry = \"1s\"\n{more}\n",
            self.port
        )
    }

    /// What it took so far.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        let text = std::fs::read_to_string(self.path("mails")).unwrap_or_default();
        let lines = text.lines();
        lines
            .map(|line| Mail(serde_json::from_str(line).unwrap()))
            .collect()
    }

    /// What it took for `to`.
    pub(crate) fn mails_to(&self, to: &str) -> Vec<Mail> {
        let mut mails = self.mails();
        mails.retain(|mail| mail.0["to"][0] == to);
        mails
    }

    /// Waits until it took so many mails for `to`.
    pub(crate) async fn until(&self, to: &str, count: usize) -> Vec<Mail> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mails = self.mails_to(to);
            if mails.len() >= count {
                return mails;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {count} mails for {to}: {:?}",
                mails.len(),
                self.mails()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Mail {
    pub(crate) fn subject(&self) -> &str {
        self.0["subject"].as_str().unwrap()
    }

    pub(crate) fn body(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }

    /// The number of its episode.
    pub(crate) fn reference(&self) -> &str {
        let found = self.body().lines().find(|line| line.starts_with("KE-"));
        found.unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.0["headers"][name].as_str().unwrap_or_default()
    }

    /// Over TLS, by the right user, from the right sender, in bytes that any server takes.
    pub(crate) fn check(&self) {
        assert_eq!(self.0["tls"], true);
        assert_eq!(self.0["user"], "gateway");
        assert_eq!(self.0["from"], "gateway@service.example");
        assert_eq!(self.0["ascii"], true);
        assert_eq!(self.header("Auto-Submitted"), "auto-generated");
    }
}
