//! What people at a terminal are told: `doctor`, `explain`, `check`.

use std::process::{Command, Output};
use std::time::Duration;

use jiff::Timestamp;

use crate::hosts::{GIVER, LINE, OWNER, Site, Wish};
use crate::support::ACME;
use crate::support::program::without_environment;

/// Runs the program beside a host.
fn run(folder: &std::path::Path, host: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let program = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
    let Output {
        status,
        stdout,
        stderr,
    } = without_environment(program)
        .args(arguments)
        .env("KINTONE_EGRESS_HOST", host)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

/// The line about a thing.
fn line<'a>(said: &'a str, what: &str) -> &'a str {
    let found = said.lines().find(|line| line.contains(what));
    found.unwrap_or_else(|| panic!("{what} in {said}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_tries_each_other_host_and_explain_says_where_a_call_goes() {
    let site = Site::new(Wish::default()).await;
    let folder = site.configure(GIVER, &site.certificate(GIVER));
    let doctor = ["doctor", "--config", "gateway.toml"];
    let (_, said) = run(&folder, GIVER, &doctor);
    let other = format!("other host {OWNER}");
    let found = line(&said, &other);
    assert!(
        found.starts_with("FINDING") && found.contains("same file"),
        "{found}"
    );
    assert!(line(&said, "certificate of [fleet.peer]").starts_with("ok"));
    let owner = site.start(OWNER).await;
    let (_, said) = run(&folder, GIVER, &doctor);
    assert!(line(&said, &other).starts_with("ok"), "{said}");
    let url = format!("https://{ACME}/k/v1/records.json");
    let explain = [
        "explain",
        "--config",
        "gateway.toml",
        "--as",
        "events",
        "GET",
        &url,
    ];
    let (code, said) = run(&folder, GIVER, &explain);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("handed to {OWNER}, which leaves from {LINE}")),
        "{said}"
    );
    owner.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_what_is_wrong_with_a_hosts_certificate() {
    let site = Site::new(Wish::default()).await;
    let check = ["check", "--config", "gateway.toml"];
    let folder = site.configure(GIVER, &site.certificate(OWNER));
    let (code, said) = run(&folder, GIVER, &check);
    assert_eq!(code, Some(78), "{said}");
    let fault = line(&said, "fleet.peer.cert");
    assert!(
        fault.contains(OWNER) && fault.contains("subjectAltName"),
        "{fault}"
    );
    let mut mixed = site.certificate(GIVER);
    mixed.key = site.certificate(GIVER).key;
    let (code, said) = run(&site.configure(GIVER, &mixed), GIVER, &check);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        line(&said, "fleet.peer.key").contains("is not the key"),
        "{said}"
    );
    let past = Timestamp::now() - jiff::SignedDuration::from_hours(48);
    let day = Duration::from_secs(24 * 3600);
    let expired = site.authority.sign(GIVER, past, day).unwrap();
    let (code, said) = run(&site.configure(GIVER, &expired), GIVER, &check);
    assert_eq!(
        code,
        Some(0),
        "what leaves from here must not suffer: {said}"
    );
    assert!(
        line(&said, "fleet.peer.cert").contains("has expired"),
        "{said}"
    );
}
