//! What is said where nobody asks, and what `doctor` finds.

use std::process::Command;

use crate::echo::{Does, Echo, FIRST_WRONG, RIGHT, plan};
use crate::support::program::without_environment;
use crate::support::{ACME, Plan, config_text, house};

const UNVERIFIED: &str = "nobody asks whether";

#[tokio::test]
async fn a_bind_that_is_not_the_published_address_is_a_warning_without_echoes() {
    house(Plan::default(), async |house| {
        let (status, page) = house.admin_page("/readyz").await;
        assert!(status == 200 && page.contains(UNVERIFIED), "{page}");
    })
    .await;
}

/// What `check` or `doctor` says of a plan's gateway, and its exit status.
async fn said(plan: &Plan, verb: &'static [&'static str]) -> (i32, String) {
    let sim = kintone_sim::Sim::start(kintone_sim::Options::default())
        .await
        .unwrap();
    sim.tenant(ACME, plan.tenant.clone());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.pem"), sim.ca_pem()).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::write(
        dir.path().join("gateway.toml"),
        config_text(plan, sim.addr()),
    )
    .unwrap();
    let mut command = without_environment(Command::new(env!("CARGO_BIN_EXE_kintone-egress")));
    command.arg(verb[0]).args(["--config", "gateway.toml"]);
    command.args(&verb[1..]).current_dir(dir.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    if said.contains("FINDING verify 18.177.83.94: ") {
        let ips = sim.ledger().sources();
        assert!(!ips.contains_key(&"127.0.1.94".parse().unwrap()), "{ips:?}");
    }
    (output.status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_it_and_doctor_asks_the_echoes() {
    let (status, text) = said(&Plan::default(), &["check"]).await;
    assert!(status == 0 && text.contains(UNVERIFIED), "{text}");
    let (_, text) = said(&Plan::default(), &["doctor"]).await;
    assert!(text.contains("cannot be seen from here"), "{text}");
    let echo = Echo::telling(RIGHT).await;
    let (status, text) = said(&plan(&[&echo]), &["check"]).await;
    assert!(status == 0 && !text.contains(UNVERIFIED), "{text}");
    let (_, text) = said(&plan(&[&echo]), &["doctor", ACME]).await;
    for address in ["18.177.83.94", "35.73.236.241"] {
        let well = format!("verify {address}: the internet sees it as published");
        assert!(text.contains(&well), "{text}");
        assert!(
            text.contains(&format!("customer {ACME}, from {address}")),
            "{text}"
        );
    }
    echo.now(Does::Tells(FIRST_WRONG));
    let (status, text) = said(&plan(&[&echo]), &["doctor", ACME]).await;
    assert_eq!(status, 3, "{text}");
    assert!(text.contains("127.0.1.94 leaves as 203.0.113.77"), "{text}");
    assert!(
        !text.contains(&format!("customer {ACME}, from 18.177.83.94")),
        "{text}"
    );
    echo.now(Does::Hangs);
    let (status, text) = said(&plan(&[&echo]), &["doctor"]).await;
    assert!(
        status == 3 && text.contains("no echo gives a usable answer"),
        "{text}"
    );
}
