//! The systemd unit: hardened, understood by systemd, and in step with the configuration.

use std::process::Command;
use std::time::Duration;

use kintone_egress::config::file::{Environment, load};
use kintone_egress::config::token::hash_token;

use crate::process::Gateway;
use crate::tools::{infra, read, succeed, tool};

const UNIT: &str = "systemd/kintone-egress.service";

/// Highest exposure that `systemd-analyze security` may find, of 10.
const EXPOSURE_MAX: f64 = 2.5;

/// Descriptors of the unit beside those of callers' connections and theirs to kintone.
const DESCRIPTORS_BESIDE: u64 = 10_000;

/// The value of a setting that stands once in the unit.
fn setting(name: &str) -> String {
    let unit = read(infra(UNIT));
    let mut values = unit
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("no {name}="));
    assert!(values.next().is_none(), "{name}= stands twice");
    value.to_owned()
}

fn seconds(name: &str) -> Duration {
    let value = setting(name);
    let seconds = value.strip_suffix('s').expect("seconds");
    Duration::from_secs(seconds.parse().unwrap())
}

#[test]
fn its_exposure_is_low() {
    let said = succeed(
        Command::new(tool("systemd-analyze"))
            .args(["security", "--offline=true", "--no-pager"])
            .arg(infra(UNIT)),
    );
    let overall = said
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for kintone-egress.service: "));
    let (_, level) = overall.unwrap_or_else(|| panic!("{said}"));
    let exposure: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= EXPOSURE_MAX, "{said}");
}

#[test]
fn systemd_has_nothing_to_say_against_it() {
    let dir = tempfile::tempdir().unwrap();
    // Where the unit expects the program there is none on a machine that builds it.
    let program = setting("ExecStart").split(' ').next().unwrap().to_owned();
    let here = read(infra(UNIT)).replace(&program, env!("CARGO_BIN_EXE_kintone-egress"));
    let path = dir.path().join("kintone-egress.service");
    std::fs::write(&path, here).unwrap();
    let said = succeed(
        Command::new(tool("systemd-analyze"))
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&path),
    );
    assert_eq!(said, "", "a warning of systemd");
}

#[test]
fn its_limits_hold_what_the_configuration_allows() {
    let example = infra("kintone-egress.example.toml");
    let config = load(&example, &Environment::default()).unwrap().config;
    let drain = config.drain.announce + config.drain.grace;
    assert!(
        seconds("TimeoutStopSec") >= drain + Duration::from_secs(5),
        "a drain of {drain:?} is cut"
    );
    let descriptors: u64 = setting("LimitNOFILE").parse().unwrap();
    let wanted = 2 * config.limits.connections as u64 + DESCRIPTORS_BESIDE;
    assert!(descriptors >= wanted, "{descriptors} of {wanted}");
    // The alert stands at 80% of it.
    assert_eq!(setting("MemoryMax"), "4G");
    assert!(
        read(infra("prometheus/kintone-egress.alerts.yml"))
            .contains("0.8 * 4 * 1024 * 1024 * 1024")
    );
}

#[test]
fn it_passes_on_the_secrets_that_the_example_reads() {
    let unit = read(infra(UNIT));
    let passed: Vec<_> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("LoadCredential=")?.split(':').next())
        .collect();
    let example = read(infra("kintone-egress.example.toml"));
    let wanted: Vec<_> = example
        .split("$CREDENTIALS_DIRECTORY/")
        .skip(1)
        .map(|behind| behind.split('"').next().unwrap())
        .collect();
    assert!(wanted.len() >= 3, "{wanted:?}");
    for name in wanted {
        assert!(passed.contains(&name), "{name} is not passed on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_promises_systemd_the_program_does() {
    assert_eq!(setting("Type"), "notify");
    assert_eq!(setting("ExecReload"), "/bin/kill -HUP $MAINPID");
    assert_eq!(setting("RestartPreventExitStatus"), "78");
    let dir = tempfile::tempdir().unwrap();
    let secret = "canary-admin-token-of-systemd";
    std::fs::create_dir(dir.path().join("credentials")).unwrap();
    std::fs::write(
        dir.path().join("credentials/admin-token"),
        format!("{secret}\n"),
    )
    .unwrap();
    let hash = hash_token(b"canary").to_hex();
    let mut gateway = Gateway::start(
        dir.path(),
        &format!(
            "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.1.94\"\n\
             [[caller]]\nname = \"events\"\ntoken_sha256 = \"{hash}\"\n\
             [admin]\ntoken = {{ file = \"$CREDENTIALS_DIRECTORY/admin-token\" }}\n\
             [drain]\nannounce = \"0s\"\ngrace = \"1s\"\n"
        ),
    );
    let order = |token: &str| {
        let admin = gateway.admin;
        let head = format!(
            "POST /api/v1/reload HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        async move { crate::support::caller::ask_raw(admin, head.as_bytes()).await }
    };
    assert_eq!(order("wrong-token-of-nobody").await.status, 401);
    assert_eq!(order(secret).await.status, 200, "the secret was read");
    gateway.notified("RELOADING=1");
    gateway.notified("READY=1");
    gateway.process.signal("HUP");
    gateway.notified("RELOADING=1");
    gateway.notified("READY=1");
    gateway.process.signal("TERM");
    gateway.notified("STOPPING=1");
    assert!(gateway.process.end().success(), "a drain ends with 0");
    assert!(!read(dir.path().join("stderr")).contains(secret));
}
