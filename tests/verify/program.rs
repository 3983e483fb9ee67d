//! `kintone-egress echo` as operators run it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::echo::{FIRST, plan, shown, until_ready_is};
use crate::support::caller::{ask_raw, fetch_plain};
use crate::support::program::without_environment;
use crate::support::{Plan, house};

const RECORDS: &str = "https://acme.cybozu.com/k/v1/records.json?app=1";

/// A running one.
struct Program {
    child: Child,
    dir: tempfile::TempDir,
}

impl Program {
    fn start(arguments: &[&str], files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let said = std::fs::File::create(dir.path().join("stderr")).unwrap();
        let mut command = without_environment(Command::new(env!("CARGO_BIN_EXE_kintone-egress")));
        let command = command.arg("echo").args(arguments);
        command
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(said);
        let child = command.spawn().unwrap();
        Self { child, dir }
    }

    /// Where it listens, once it does.
    fn address(&mut self) -> SocketAddr {
        let began = Instant::now();
        loop {
            let said = read(self.dir.path());
            let lines = said.lines().filter(|line| line.ends_with('}'));
            let lines =
                lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let mut addresses = lines.filter_map(|line| line["listen"].as_str()?.parse().ok());
            if let Some(address) = addresses.next() {
                return address;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "{said}");
            assert!(began.elapsed() < Duration::from_secs(20), "{said}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("stderr")).unwrap()
}

#[tokio::test]
async fn it_says_as_whom_it_sees_a_caller_and_believes_no_header() {
    let mut program = Program::start(&["--listen", "127.0.0.1:0"], &[]);
    let address = program.address();
    assert_eq!(
        fetch_plain(address, "/ip").await,
        (200, "127.0.0.1\n".into())
    );
    let forged = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: 18.177.83.94\r\nForwarded: \
         for=18.177.83.94\r\nX-Real-IP: 18.177.83.94\r\n\r\n"
    );
    let answer = ask_raw(address, forged.as_bytes()).await;
    assert_eq!(answer.body, "127.0.0.1\n");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.header("connection"),
        "close",
        "one answer a connection"
    );
    let post = format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n");
    let answer = ask_raw(address, post.as_bytes()).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    program.signal("TERM");
    assert!(program.child.wait().unwrap().success());
}

#[tokio::test]
async fn a_gateway_asks_it_by_tls_and_believes_only_a_trusted_certificate() {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let files = [
        ("cert.pem", certificate.as_str()),
        ("key.pem", key.as_str()),
    ];
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--tls-cert",
        "cert.pem",
        "--tls-key",
        "key.pem",
    ];
    let mut program = Program::start(&arguments, &files);
    let url = format!(
        "[verify]\nurl = \"https://{}/ip\"\ninterval = \"1s\"\n",
        program.address()
    );
    let trusting = Plan {
        tables: url.clone(),
        ca: certificate.clone(),
        ..plan(&[])
    };
    house(trusting, async |house| {
        // The echo sees the bind address: nothing translates it here.
        until_ready_is(&house, 503).await;
        assert_eq!(house.caller().get(RECORDS).await.status, 503);
        let shown = shown(&house, FIRST.0).await;
        assert_eq!(shown["verification"]["seen_as"], FIRST.1, "{shown}");
    })
    .await;
    let doubting = Plan {
        tables: url,
        ..plan(&[])
    };
    house(doubting, async |house| {
        assert_eq!(house.caller().get(RECORDS).await.status, 503);
        let shown = shown(&house, FIRST.0).await;
        let said = &shown["verification"]["echoes"][0];
        assert_eq!(said["trouble"], "tls_untrusted", "{shown}");
    })
    .await;
    // A new certificate is read without a restart.
    let renewed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let dir = program.dir.path();
    std::fs::write(dir.join("cert.pem"), renewed.cert.pem()).unwrap();
    program.signal("HUP");
    let began = Instant::now();
    while !read(dir).contains("the old certificate stays") {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", read(dir));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::write(dir.join("key.pem"), renewed.signing_key.serialize_pem()).unwrap();
    program.signal("HUP");
    while !read(dir).contains("the certificate was read again") {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", read(dir));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
