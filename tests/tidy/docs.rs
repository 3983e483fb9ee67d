//! Documentation names what exists: each configuration key in the example, each metric in its table.

use std::path::Path;

use super::source::sources;
use super::{assert_none, files, read, root};

const EXAMPLE: &str = "infra/kintone-egress.example.toml";
const METRICS: &str = "docs/metrics.md";

/// Every key that users rely on, by section.
const KEYS: &[(&str, &str)] = &[
    ("listen", "proxy admin metrics public proxy_tls"),
    ("listen.tls", "cert key client_ca"),
    ("egress", "minimum_notice overlap"),
    ("public", "service contact url connections"),
    ("evidence", "keep accounts"),
    (
        "acceptance",
        "accounts probe probe_interval probe_open_interval probes_at_once",
    ),
    (
        "egress.address",
        "published bind state valid_from retire_after",
    ),
    (
        "upstream",
        "zones accounts ca_file allow_networks connect_timeout response_timeout pool_idle pool_life pool_per_host pool_total replay",
    ),
    (
        "caller",
        "name token_sha256 certificate networks accounts tenants modes priority max_wait enabled",
    ),
    ("callers", "anonymous networks"),
    (
        "quota",
        "concurrency headroom interactive_reserve rate burst queue max_wait settle daily_per_app daily_policy \
         tunnel_idle tunnel_yield tunnel_life tunnel_h2_weight",
    ),
    (
        "account.\"acme.cybozu.com\"",
        "enabled concurrency accepts probe contacts",
    ),
    (
        "account.\"acme.cybozu.com\".tenant.\"company-1\"",
        "weight concurrency contacts",
    ),
    (
        "inspect",
        "ca_cert ca_key ca_next leaf_life accounts callers",
    ),
    (
        "limits",
        "connections connections_per_network_address head_size head_timeout handshake_timeout caller_idle \
         stall_timeout h2_streams account_series",
    ),
    ("fleet", "host hosts redis"),
    (
        "fleet.peer",
        "listen cert key ca connect_timeout idle connections",
    ),
    (
        "verify",
        "urls interval timeout unknown_for connections connection_pause",
    ),
    (
        "notify",
        "smtp from operators webhook language ca_file begins_after ends_after subjects_max signs_max brake_accounts \
         brake_percent brake_window rest mails_max dead_max timeout retry retry_max give_up",
    ),
    ("admin", "token"),
    ("state", "dir"),
    ("log", "level access"),
    ("drain", "announce grace"),
];

#[test]
fn the_example_names_every_key() {
    if !root().join("src/config/file.rs").exists() {
        return;
    }
    let example = read(Path::new(EXAMPLE));
    let mut section = String::new();
    let mut named = Vec::new();
    for line in example.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, _)) = line.split_once('=') {
            named.push(format!("{section}.{}", key.trim()));
        }
    }
    let faults: Vec<_> = KEYS
        .iter()
        .flat_map(|(section, keys)| {
            keys.split_whitespace()
                .map(move |key| format!("{section}.{key}"))
        })
        .filter(|key| !named.contains(key))
        .collect();
    assert_none("not in the example configuration", &faults);
}

#[test]
fn the_documentation_names_every_metric_that_the_code_does() {
    if !root().join("src/telemetry/metrics.rs").exists() {
        return;
    }
    let documented = read(Path::new(METRICS));
    let mut faults = Vec::new();
    for source in sources() {
        for (at, _) in source.code.match_indices("\"kintone_egress_") {
            let name: String = source.code[at + 1..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            if !documented.contains(&name) {
                faults.push(format!("{}: {name}", source.path.display()));
            }
        }
    }
    assert_none("not in docs/metrics.md", &faults);
}

#[test]
fn rules_dashboard_and_runbooks_name_metrics_that_exist() {
    let documented = read(Path::new(METRICS));
    let recorded = read(Path::new("infra/prometheus/kintone-egress.recording.yml"));
    let mut faults = Vec::new();
    let mut seen = 0;
    for path in files("infra") {
        let text = read(&path);
        for (at, _) in text.match_indices("kintone_egress_") {
            let begin = text[..at].rfind(|c: char| !is_of_a_name(c));
            let name = &text[begin.map_or(0, |before| before + 1)..];
            let name = &name[..name.find(|c| !is_of_a_name(c)).unwrap_or(name.len())];
            let plain = name.trim_end_matches("_bucket").trim_end_matches("_count");
            let is_known = if name.contains(':') {
                recorded.contains(&format!("- record: {name}\n"))
            } else {
                // A runbook may look for all metrics that begin so.
                documented.contains(&format!("`{plain}"))
            };
            seen += 1;
            if !is_known {
                faults.push(format!("{}: {name}", path.display()));
            }
        }
    }
    assert!(seen > 100, "the files were not understood");
    assert_none("no such metric", &faults);
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}
