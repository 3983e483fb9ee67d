//! What is built with: the same bans and licences as `deny.toml`, without a tool to install.

use std::process::Command;

use super::{assert_none, read, root};

/// Crates that are not built, and why.
const BANNED: &[(&str, &str)] = &[
    ("ring", "aws-lc-rs is the one cryptographic provider"),
    ("openssl", "rustls is the one TLS"),
    ("openssl-sys", "rustls is the one TLS"),
    ("native-tls", "rustls is the one TLS"),
];

#[test]
fn only_wanted_crates_and_licences_are_built() {
    let allowed = allowed_licences();
    let mut faults = Vec::new();
    for (name, licence) in crates() {
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            faults.push(format!("{name}: {why}"));
        }
        for part in licence_names(&licence) {
            if !allowed.contains(&part) {
                faults.push(format!("{name}: licence {part}"));
            }
        }
    }
    assert_none("see deny.toml", &faults);
}

/// Name and licence of every crate that is built on Linux, tests and build scripts included.
fn crates() -> Vec<(String, String)> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--workspace", "--prefix", "none"])
        .args(["--edges", "normal,build,dev", "--format", "{p}|{l}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let lines = String::from_utf8(tree.stdout).unwrap();
    let found: Vec<_> = lines
        .lines()
        .filter_map(|line| {
            let (package, licence) = line.split_once('|')?;
            let name = package.split(' ').next()?;
            Some((name.to_owned(), licence.trim_end_matches(" (*)").to_owned()))
        })
        .collect();
    assert!(found.len() > 50, "the tree of crates was not understood");
    found
}

/// The names in a licence expression: each must be allowed, also those that are alternatives.
fn licence_names(expression: &str) -> Vec<String> {
    expression
        .replace(['(', ')'], " ")
        .replace('/', " OR ")
        .split(" OR ")
        .flat_map(|part| part.split(" AND "))
        .map(|name| name.trim().to_owned())
        .collect()
}

/// The list of `deny.toml`.
fn allowed_licences() -> Vec<String> {
    let deny: toml::Table = read("deny.toml".as_ref()).parse().unwrap();
    deny["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn licence_expressions_fall_into_names() {
    assert_eq!(
        licence_names("(MIT OR Apache-2.0 WITH LLVM-exception) AND Zlib"),
        ["MIT", "Apache-2.0 WITH LLVM-exception", "Zlib"]
    );
    assert_eq!(licence_names("Unlicense/MIT"), ["Unlicense", "MIT"]);
    assert_eq!(licence_names(""), [""]);
}
