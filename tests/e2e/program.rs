//! The program itself: verbs, what they print, exit statuses.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kintone_egress::config::token::hash_token;

use crate::support::program::without_environment;

/// What `check` and `serve` exit with when the configuration is wrong.
const BAD_CONFIG: i32 = 78;

/// A folder with a configuration in it.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("gateway.toml"), config).expect("writable");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a verb with `--config`, to its end.
    fn run(&self, verb: &str, more: &[&str]) -> Output {
        let config = self.path("gateway.toml");
        command()
            .arg(verb)
            .arg("--config")
            .arg(config)
            .args(more)
            .output()
            .expect("it runs")
    }
}

fn command() -> Command {
    without_environment(Command::new(env!("CARGO_BIN_EXE_kintone-egress")))
}

fn config(lines: &str) -> String {
    let hash = hash_token(b"canary-token").to_hex();
    format!(
        "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.0.1\"\n\
         [[caller]]\nname = \"events\"\ntoken_sha256 = \"{hash}\"\n{lines}\n"
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_tells_every_fault_with_its_place() {
    let site = Site::new(&config("[quota]\nconcurency = 50\nheadroom = -1"));
    let output = site.run("check", &[]);
    assert_eq!(output.status.code(), Some(BAD_CONFIG));
    let told = text(&output.stderr) + &text(&output.stdout);
    let file = site.path("gateway.toml");
    for (place, key) in [("8:1", "quota.concurency"), ("9:12", "quota.headroom")] {
        let line = told
            .lines()
            .find(|line| line.contains(key))
            .unwrap_or_else(|| panic!("{told}"));
        assert!(
            line.starts_with(&format!("{}:{place}: {key}: ", file.display())),
            "{line}"
        );
    }
    assert!(
        told.contains("concurrency"),
        "what was probably meant: {told}"
    );
    let output = site.run("serve", &[]);
    assert_eq!(
        output.status.code(),
        Some(BAD_CONFIG),
        "serve refuses it too"
    );
}

#[test]
fn check_of_a_missing_file_names_it() {
    let site = Site::new("");
    std::fs::remove_file(site.path("gateway.toml")).unwrap();
    let output = site.run("check", &[]);
    assert_eq!(output.status.code(), Some(BAD_CONFIG));
    assert!(text(&output.stdout).contains("gateway.toml"), "{output:?}");
}

#[test]
fn check_prints_the_effective_configuration_without_secrets() {
    let site = Site::new(&config(
        "[admin]\ntoken = \"canary-admin\"\n[fleet]\nhost = \"gw-a\"\nhosts = [\"gw-a\"]\n\
         redis = \"redis://user:canary-redis@127.0.0.1:6379\"",
    ));
    let output = site.run("check", &["--print"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = text(&output.stdout);
    assert!(!printed.contains("canary"), "{printed}");
    assert!(printed.contains("***"), "{printed}");
    for default in [
        "concurrency = 100",
        "headroom = 20",
        "max_wait = \"10s\"",
        "replay = \"64KiB\"",
    ] {
        assert!(printed.contains(default), "{default} in {printed}");
    }
    let warned = text(&output.stderr);
    assert!(
        warned.contains("admin.token: warning: is shorter"),
        "{warned}"
    );
    assert!(!warned.contains("canary"), "{warned}");
    // What is printed is a configuration again, but for the secrets.
    printed.parse::<toml::Table>().expect("TOML");
}

#[test]
fn check_of_a_good_file_says_nothing() {
    let verified = config("[verify]\nurl = \"https://echo.example/ip\"");
    let output = Site::new(&verified).run("check", &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn explain_says_each_step_and_what_decides() {
    let site = Site::new(&config(
        "accounts = [\"acme.cybozu.com\"]\ntenants = [\"company-*\"]\nmax_wait = \"3s\"\n\
         [quota]\nrate = 5\n[upstream]\nallow_networks = [\"127.0.0.0/8\"]\n\
         [upstream.resolve]\n\"*.cybozu.com\" = \"127.0.0.1:8443\"",
    ));
    let explain = |arguments: &[&str]| {
        let output = site.run("explain", arguments);
        (output.status.code(), text(&output.stdout))
    };
    let records = "https://acme.cybozu.com/k/v1/records.json?secret=canary";
    let (status, said) = explain(&["--as", "events+company-1", "GET", records]);
    assert_eq!(status, Some(0), "{said}");
    let steps: Vec<_> = said
        .lines()
        .map(|line| {
            line.split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        steps,
        [
            "framing ok",
            "authentication ok",
            "destination ok",
            "rights ok",
            "address ok",
            "circuit ok",
            "quota depends",
            "quota depends",
            "quota depends",
            "quota depends",
            "name ok",
            "allowed: it"
        ]
    );
    for figure in [
        "80 of kintone's 100",
        "calls a day: 10000 an app, warned of and not refused",
        "5 a second",
        "3000 ms",
        "127.0.0.1:8443",
        "company-1",
    ] {
        assert!(said.contains(figure), "{figure} in {said}");
    }
    assert!(!said.contains("canary"), "{said}");
    for (arguments, code, because) in [
        (
            &["--as", "nobody", "GET", records][..],
            "407 GW_AUTHENTICATION_REQUIRED",
            "there are events",
        ),
        (
            &["--as", "events", "--tenant", "x", "GET", records],
            "403 GW_CALLER_FORBIDDEN",
            "company-*",
        ),
        (
            &["--as", "events", "CONNECT", "b.cybozu.com:443"],
            "403 GW_CALLER_FORBIDDEN",
            "none of accounts acme.cybozu.com",
        ),
        (
            &["--as", "events", "GET", "https://www.example.com/"],
            "403 GW_DESTINATION_FORBIDDEN",
            "zones cybozu.com",
        ),
        (
            &["--as", "events", "GET", "/k/v1/app.json"],
            "400 GW_BAD_REQUEST",
            "origin_form",
        ),
        (
            &[
                "--as",
                "events",
                "--mode",
                "tunnel",
                "GET",
                "http://acme.cybozu.com/",
            ],
            "403 GW_DESTINATION_FORBIDDEN",
            "port 443",
        ),
    ] {
        let (status, said) = explain(arguments);
        assert_eq!(status, Some(3), "{arguments:?}: {said}");
        assert!(
            said.contains(&format!("refused: {code}\n  message: ")),
            "{said}"
        );
        assert!(
            said.contains("must ") && said.contains("hint: ") && said.contains(because),
            "{said}"
        );
    }
    let wrong = Site::new("[quota]\nqueu = 1");
    let output = wrong.run("explain", &["--as", "events", "GET", records]);
    assert_eq!(output.status.code(), Some(BAD_CONFIG));
    assert!(
        text(&output.stderr).contains(":2:1: quota.queu: "),
        "{output:?}"
    );
    let output = site.run(
        "explain",
        &["--as", "events", "--mode", "fast", "GET", records],
    );
    assert_eq!(output.status.code(), Some(2), "a usage error");
}

fn hash_of(input: &[u8]) -> Output {
    let mut command = command();
    let command = command.arg("hash-token").stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn hash_token_leaves_the_line_end_out() {
    let expected = format!("{}\n", hash_token(b"secret").to_hex());
    for input in [&b"secret"[..], b"secret\n", b"secret\r\n"] {
        let output = hash_of(input);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), expected.clone())
        );
    }
    // SHA-256 of "secret", from another source.
    assert_eq!(
        expected.trim_end(),
        "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    );
    assert_eq!(hash_of(b"\n").status.code(), Some(1), "no token at all");
}

#[test]
fn hash_token_generates_a_new_one_each_time() {
    let generate = || {
        let output = command()
            .args(["hash-token", "--generate"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        let table: toml::Table = text(&output.stdout).parse().expect("TOML");
        (
            table["token"].as_str().unwrap().to_owned(),
            table["token_sha256"].as_str().unwrap().to_owned(),
        )
    };
    let ((one, hash), (other, _)) = (generate(), generate());
    assert_ne!(one, other);
    assert!(one.len() >= 43, "256 bits: {one}");
    assert_eq!(hash_token(one.as_bytes()).to_hex(), hash);
}

/// Two ports that were free a moment ago.
fn free_ports() -> (SocketAddr, SocketAddr) {
    let listeners: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    (
        listeners[0].local_addr().unwrap(),
        listeners[1].local_addr().unwrap(),
    )
}

fn listening(proxy: SocketAddr, admin: SocketAddr, more: &str) -> String {
    let resolve = "[upstream.resolve]\n\"*.cybozu.com\" = \"127.0.0.1:9\"";
    let drain = "[drain]\nannounce = \"0s\"\ngrace = \"1s\"";
    let listen = format!("[listen]\nproxy = [\"{proxy}\"]\nadmin = \"{admin}\"");
    config(&format!("{listen}\n{resolve}\n{drain}\n{more}"))
}

/// Waits for a condition, for at most ten seconds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn get(from: SocketAddr, path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(from).ok()?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn signal(child: &std::process::Child, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &child.id().to_string()])
        .status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn serve_drains_on_sigterm_and_reopens_its_log() {
    let (proxy, admin) = free_ports();
    let site = Site::new(&listening(proxy, admin, "[log]\naccess = \"access.log\""));
    let mut child = command()
        .arg("serve")
        .arg("--config")
        .arg(site.path("gateway.toml"))
        .current_dir(site.dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("it serves", || {
        get(admin, "/readyz").is_some_and(|a| a.starts_with("HTTP/1.1 200"))
    });
    let refused = get(proxy, "http://www.example.com/").expect("an answer");
    assert!(
        refused.starts_with("HTTP/1.1 407 GW_AUTHENTICATION_REQUIRED\r\n"),
        "{refused}"
    );
    let logged = |path: &Path| std::fs::read_to_string(path).is_ok_and(|log| log.contains("407"));
    let (log, rotated) = (site.path("access.log"), site.path("access.log.1"));
    until("the call is logged", || logged(&log));
    std::fs::rename(&log, &rotated).unwrap();
    signal(&child, "USR1");
    until("the log is opened again", || log.exists());
    get(proxy, "http://www.example.com/").expect("an answer");
    until("the new log is written", || logged(&log));
    signal(&child, "HUP");
    until("it is still there", || get(admin, "/healthz").is_some());
    signal(&child, "TERM");
    let output = {
        until("it ends", || child.try_wait().unwrap().is_some());
        child.wait_with_output().unwrap()
    };
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("drained"), "{output:?}");
    assert!(
        site.path("state").is_dir(),
        "the default place of its state"
    );
}

#[test]
fn serve_says_what_stands_in_its_way() {
    let (proxy, admin) = free_ports();
    let site = Site::new(&listening(proxy, admin, "[state]\ndir = \"/proc/none\""));
    let output = site.run("serve", &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("[state] dir = /proc/none") && told.contains("create it"),
        "{told}"
    );
    assert_eq!(
        told.matches("os error").count(),
        1,
        "the cause once: {told}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = Site::new(&listening(taken.local_addr().unwrap(), admin, ""));
    let output = site.run("serve", &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("[listen] proxy") && told.contains("free the port"),
        "{told}"
    );
    assert_eq!(
        told.matches("os error").count(),
        1,
        "the cause once: {told}"
    );
}

#[test]
fn an_unknown_verb_is_a_usage_error() {
    let output = command().arg("explode").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = command().arg("--version").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}
