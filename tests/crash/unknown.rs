//! An account that kintone does not know stays closed over the end of the process.

use std::process::Command;

use crate::site::{Site, until};
use crate::support::Plan;

const GONE: &str = "https://gone.cybozu.com/k/v1/records.json?app=1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_opens_no_closed_account_and_explain_knows_it() {
    let plan = Plan {
        tables: "[circuit]\nunknown_after = 2\nunknown_over = \"0s\"\n".into(),
        ..Plan::default()
    };
    let site = Site::new(&plan).await;
    let process = site.start();
    site.until_serving().await;
    let caller = site.caller();
    for status in [404, 404, 403] {
        assert_eq!(caller.get(GONE).await.status, status);
    }
    let written = site.state().join("unknown-accounts.json");
    until("it is written down", async || written.exists()).await;
    process.kill();
    let mut explain = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
    explain.arg("explain").arg("--config");
    explain.arg(site.path("gateway.toml"));
    let explained = explain
        .args(["--as", "events", "GET", GONE])
        .output()
        .unwrap();
    let text = String::from_utf8(explained.stdout).unwrap();
    assert_eq!(explained.status.code(), Some(3), "{text}");
    assert!(text.contains("refused: 403 GW_ACCOUNT_UNKNOWN"), "{text}");
    let process = site.start();
    site.until_serving().await;
    let before = site.sim.ledger().executions.len();
    assert_eq!(caller.get(GONE).await.status, 403);
    assert_eq!(
        site.sim.ledger().executions.len(),
        before,
        "nothing is sent"
    );
    process.kill();
    // What cannot be read is put aside, and told.
    std::fs::write(&written, "{").unwrap();
    let process = site.start();
    site.until_serving().await;
    assert_eq!(caller.get(GONE).await.status, 404);
    assert!(written.with_extension("damaged").exists());
    assert!(site.said().contains("cannot be used"), "{}", site.said());
    assert!(process.drain().success());
}
