//! Imports run downward: which unit may know which. The table is the one of `src/lib.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use super::assert_none;
use super::source::{Source, sources};

/// Each unit and the units that it may import, lowest floor first.
const UNITS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("client", &[]),
    ("drain", &[]),
    ("descriptors", &[]),
    ("config", &["model"]),
    ("kintone", &["model"]),
    ("telemetry", &["config", "kintone", "model"]),
    ("tls", &["config", "kintone", "model"]),
    ("quota", &["config", "kintone", "model"]),
    ("published", &["config", "kintone", "model"]),
    ("notify", &["config", "kintone", "model"]),
    (
        "server",
        &["drain", "descriptors", "telemetry", "config", "model"],
    ),
    (
        "egress",
        &["tls", "config", "client", "descriptors", "model"],
    ),
    ("fleet", &["quota", "tls", "config", "model"]),
    ("handover", &["tls", "config", "client"]),
    (
        "proxy",
        &[
            "server",
            "egress",
            "fleet",
            "handover",
            "telemetry",
            "tls",
            "quota",
            "published",
            "notify",
            "config",
            "kintone",
            "model",
            "drain",
        ],
    ),
    (
        "admin",
        &[
            "server",
            "egress",
            "fleet",
            "handover",
            "telemetry",
            "tls",
            "quota",
            "published",
            "notify",
            "config",
            "kintone",
            "model",
            "drain",
        ],
    ),
    (
        "gateway",
        &[
            "proxy",
            "admin",
            "server",
            "egress",
            "fleet",
            "handover",
            "telemetry",
            "tls",
            "quota",
            "published",
            "notify",
            "config",
            "kintone",
            "model",
            "drain",
            "descriptors",
        ],
    ),
    (
        "operator",
        &[
            "proxy",
            "admin",
            "server",
            "egress",
            "fleet",
            "handover",
            "telemetry",
            "tls",
            "quota",
            "published",
            "notify",
            "config",
            "kintone",
            "model",
            "drain",
            "descriptors",
        ],
    ),
    (
        "main",
        &["gateway", "operator", "config", "telemetry", "descriptors"],
    ),
];

#[test]
fn imports_run_downward() {
    let mut faults = Vec::new();
    for source in sources() {
        let unit = unit_of(&source.path);
        if unit == "lib" {
            continue;
        }
        let Some((_, allowed)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            faults.push(format!("{}: `{unit}` has no floor", source.path.display()));
            continue;
        };
        for import in imports(&source.code) {
            if import != unit && is_unit(&import) && !allowed.contains(&import.as_str()) {
                faults.push(format!(
                    "{}: `{unit}` imports `{import}`",
                    source.path.display()
                ));
            }
        }
    }
    assert_none("imports run downward only", &faults);
}

#[test]
fn the_table_itself_has_no_cycle() {
    for (at, (unit, allowed)) in UNITS.iter().enumerate() {
        for import in *allowed {
            let below = UNITS[..at].iter().any(|(lower, _)| lower == import);
            assert!(
                below,
                "`{unit}` may import `{import}`, which stands above it"
            );
        }
    }
}

#[test]
fn a_child_does_not_import_its_parent() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some((folder, siblings)) = siblings(&source.path) else {
            continue;
        };
        let mut names = names_behind(&source.code, "super::");
        if folder.iter().count() == 2 {
            let unit = unit_of(&source.path);
            names.extend(names_behind(&source.code, &format!("crate::{unit}::")));
        }
        for name in names.difference(&siblings) {
            if name != "super" {
                faults.push(format!(
                    "{}: takes `{name}` from its mod.rs",
                    source.path.display()
                ));
            }
        }
    }
    assert_none(
        "what two files of a unit share has a file of its own",
        &faults,
    );
}

fn unit_of(path: &Path) -> String {
    let first = path.iter().nth(1).unwrap();
    Path::new(first)
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned()
}

fn is_unit(name: &str) -> bool {
    UNITS.iter().any(|(unit, _)| *unit == name)
}

/// The units that the code names.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = names_behind(code, "crate::");
    found.extend(names_behind(code, "kintone_egress::"));
    found
}

/// The folder of a child file, and what lies beside it; `None` for files that are no children.
fn siblings(path: &Path) -> Option<(&Path, BTreeSet<String>)> {
    let is_front = path.file_name()? == "mod.rs";
    let folder = if is_front {
        path.parent()?.parent()?
    } else {
        path.parent()?
    };
    if folder == Path::new("src") {
        return None;
    }
    let siblings = std::fs::read_dir(super::root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "mod")
        .collect();
    Some((folder, siblings))
}

/// The first names behind `prefix`, also within braces: `prefix::{a::B, c}` gives a and c.
fn names_behind(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        let visibility = code[..at].ends_with("in ");
        if visibility || before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let behind = &code[at + prefix.len()..];
        match behind.strip_prefix('{') {
            Some(group) => found.extend(first_names(group)),
            None => found.extend(name(behind)),
        }
    }
    found
}

/// The first name of each part of a group, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0_usize;
    let mut begins = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && !c.is_whitespace() => {
                names.extend(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn every_way_to_write_an_import_is_seen() {
    let code = "use crate::model::A;\nuse crate::{config::{B, C}, quota};\nlet x = crate::tls::y();\npub(in crate::proxy) fn z() {}";
    let found: Vec<_> = imports(code).into_iter().collect();
    assert_eq!(found, ["config", "model", "quota", "tls"]);
    let source = Source {
        path: "src/server/serve.rs".into(),
        code: "use super::guard::Guard;\nuse super::{connection::Connection, Server};".to_owned(),
    };
    let (_, siblings) = siblings(&source.path).unwrap();
    let names = names_behind(&source.code, "super::");
    let strange: Vec<_> = names.difference(&siblings).collect();
    assert_eq!(strange, ["Server"]);
}
