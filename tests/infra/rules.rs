//! Recording and alert rules: valid, tested, and complete.

use std::process::Command;

use serde_json::Value;

use crate::tools::{files, infra, read, succeed, tool};

/// What is wrong with an alert as Prometheus has loaded it.
pub(crate) fn faults(alert: &Value) -> Vec<String> {
    let name = alert["name"].as_str().unwrap();
    let mut faults = Vec::new();
    let mut fault = |what: &str| faults.push(format!("{name}: {what}"));
    if !["critical", "warning", "info"]
        .iter()
        .any(|severity| alert["labels"]["severity"] == *severity)
    {
        fault("severity is critical, warning or info");
    }
    let note = |key: &str| alert["annotations"][key].as_str().unwrap_or_default();
    let place = format!("infra/runbooks/{name}.md");
    if note("runbook_url") != place {
        fault("the runbook has the alert's name");
    }
    if note("summary").is_empty() || note("description").is_empty() {
        fault("says what is the matter, and what that does");
    }
    let is_counted = note("summary").contains("$value") || note("summary").contains("$labels");
    if !is_counted && name != "KintoneEgressNoTarget" {
        fault("the summary names no figure and no place");
    }
    faults
}

/// Every alert's name, as the rules spell it.
pub(crate) fn alerts() -> Vec<String> {
    let rules = read(infra("prometheus/kintone-egress.alerts.yml"));
    let names: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 30, "the rules were not understood");
    names
}

#[test]
fn promtool_finds_them_valid() {
    let promtool = tool("promtool");
    succeed(
        Command::new(&promtool)
            .args(["check", "rules", "--lint=all", "--lint-fatal"])
            .args(files("prometheus", "recording.yml"))
            .args(files("prometheus", "alerts.yml")),
    );
    succeed(
        Command::new(&promtool)
            .args(["check", "config", "--lint=all", "--lint-fatal"])
            .arg(infra("prometheus/kintone-egress.scrape.yml")),
    );
}

#[test]
fn each_alert_fires_when_it_should_and_not_else() {
    succeed(
        Command::new(tool("promtool"))
            .args(["test", "rules"])
            .args(files("prometheus", ".test.yml")),
    );
    let tests = read(infra("prometheus/kintone-egress.alerts.test.yml"));
    let behind = |name: &str, kind: &str| {
        let test = format!("  - name: {name} {kind}\n");
        let (_, rest) = tests
            .split_once(&test)
            .unwrap_or_else(|| panic!("no test {test}"));
        rest.split("\n  - name: ").next().unwrap().to_owned()
    };
    for alert in alerts() {
        let asked = format!("        alertname: {alert}\n        exp_alerts:");
        let fires = behind(&alert, "fires");
        assert!(
            fires.contains(&format!("{asked}\n          - exp_labels:")),
            "{fires}"
        );
        let silent = behind(&alert, "silent");
        assert!(silent.contains(&format!("{asked} []")), "{silent}");
    }
}
