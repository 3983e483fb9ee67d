//! The Grafana dashboard: whole, and each panel explained.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::tools::{infra, read};

/// Its rows, in order.
const ROWS: [&str; 8] = [
    "Can it leave?",
    "Callers",
    "Accounts",
    "Quota and waits",
    "Fleet",
    "kintone and the way there",
    "Mail and webhook",
    "Host",
];

fn dashboard() -> Value {
    serde_json::from_str(&read(infra("grafana/kintone-egress.json"))).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every expression with the title of its panel.
pub(crate) fn expressions() -> Vec<(String, String)> {
    let dashboard = dashboard();
    let of_panels = list(&dashboard, "panels").iter().flat_map(|panel| {
        let of = |target| {
            (
                text(panel, "title").to_owned(),
                text(target, "expr").to_owned(),
            )
        };
        list(panel, "targets").iter().map(of).collect::<Vec<_>>()
    });
    let found: Vec<_> = of_panels.collect();
    assert!(found.len() > 40, "{} expressions", found.len());
    found
}

/// An expression with everything chosen.
pub(crate) fn filled(expression: &str) -> String {
    let filled = expression
        .replace("$__rate_interval", "10s")
        .replace("$job", "kintone-egress")
        .replace("$instance", ".*")
        .replace("$caller", ".*")
        .replace("$account", ".*");
    assert!(!filled.contains('$'), "an unknown variable: {filled}");
    filled
}

#[test]
fn every_panel_is_explained_and_has_a_unit() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    let mut rows = Vec::new();
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id");
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert!(text(panel, "description").len() > 20, "{title}");
        assert!(
            !text(&panel["fieldConfig"]["defaults"], "unit").is_empty(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in list(panel, "targets") {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    assert_eq!(rows, ROWS);
}

#[test]
fn no_panel_lies_on_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} lies on another", panel["title"]);
        }
    }
}

#[test]
fn every_variable_that_is_used_is_there() {
    let dashboard = dashboard();
    let variables: Vec<_> = list(&dashboard["templating"], "list")
        .iter()
        .map(|variable| text(variable, "name"))
        .collect();
    assert_eq!(
        variables,
        ["datasource", "job", "instance", "caller", "account"]
    );
    for (_, expression) in expressions() {
        filled(&expression);
    }
}
