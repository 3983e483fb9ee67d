//! Metrics, rules, dashboard and runbooks against a real Prometheus and a gateway under load.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::dashboard::{expressions, filled};
use crate::load::Load;
use crate::pair::Pair;
use crate::prometheus::Prometheus;
use crate::support::ACME;
use crate::tools::tool;
use crate::{rules, runbooks};

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_are_given_works_on_a_gateway_under_load() {
    let load = Load::start().await;
    let pair = Pair::start(load.dir.path()).await;
    pair.hand_over(load.ca_pem()).await;
    let [first, second] = pair.metrics();
    let targets = [load.gateway.metrics, first, second];
    let prometheus = Prometheus::start(load.dir.path(), &targets).await;
    // Each figure that rises slowly has risen between two scrapes by then.
    let ripe = "count_over_time(up{job=\"kintone-egress\"}[1m]) > 14";
    prometheus.until(ripe).await;
    check_metrics(&load.gateway.exposition().await);
    let mut faults = Vec::new();
    check_rules(&prometheus, &mut faults).await;
    check_dashboard(&prometheus, &mut faults).await;
    let admin = load.gateway.admin.to_string();
    check_runbooks(&admin, load.dir.path(), &mut faults);
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
    load.end().await;
}

/// `promtool check metrics` has nothing to say.
fn check_metrics(exposition: &str) {
    let mut child = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(exposition.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

async fn check_rules(prometheus: &Prometheus, faults: &mut Vec<String>) {
    let loaded = prometheus.rules().await;
    assert!(loaded.len() > 40, "{} rules", loaded.len());
    for rule in loaded {
        let name = rule["name"].as_str().unwrap();
        if rule["health"] != "ok" {
            faults.push(format!("{name}: {}", rule["lastError"]));
        }
        if rule["type"] == "alerting" {
            faults.extend(rules::faults(&rule));
            let expression = rule["query"].as_str().unwrap();
            if let Err(error) = prometheus.query(expression).await {
                faults.push(format!("{name}: {error}"));
            }
        } else if prometheus.query(name).await.is_ok_and(|it| it.is_empty()) {
            faults.push(format!("{name}: records nothing"));
        }
    }
    // What went wrong in the load is seen; what did not is not.
    for (alert, fires) in [
        ("KintoneEgressIpNotAllowlisted", true),
        ("KintoneEgressPermitsImbalance", false),
        ("KintoneEgressAddressDown", false),
        ("KintoneEgressInternalError", false),
    ] {
        let expression = format!("ALERTS{{alertname=\"{alert}\"}}");
        let is_there = !prometheus.query(&expression).await.unwrap().is_empty();
        if is_there != fires {
            faults.push(format!("{alert}: fires {is_there}"));
        }
    }
}

async fn check_dashboard(prometheus: &Prometheus, faults: &mut Vec<String>) {
    for (panel, expression) in expressions() {
        let result: Result<Vec<Value>, _> = prometheus.query(&filled(&expression)).await;
        match result {
            Err(error) => faults.push(format!("{panel}: {error}: {expression}")),
            Ok(series) if series.is_empty() => {
                faults.push(format!("{panel}: no data: {expression}"));
            }
            Ok(_) => {}
        }
    }
}

/// Each command of a first look does something on this gateway.
fn check_runbooks(admin: &str, dir: &Path, faults: &mut Vec<String>) {
    for (runbook, command) in runbooks::commands() {
        let here = command
            .replace("127.0.0.1:9180", admin)
            .replace("journalctl -u kintone-egress -o cat", "cat access.log");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &here])
            .env("ACCOUNT", ACME)
            .env("NO_PROXY", "*")
            .current_dir(dir)
            .output()
            .unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            faults.push(format!("{runbook}: {command}: {} {said}", output.status));
        }
    }
}
