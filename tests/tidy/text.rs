//! Words that do not belong into what is committed.

use std::path::PathBuf;

use super::{assert_none, files, root};

/// Unfinished work. Put together here, so that this file does not find itself.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX:"),
    concat!("un", "implemented!"),
    concat!("to", "do!("),
    concat!("#[", "ignore"),
];

/// Folders of somebody's machine.
const MACHINES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/t", "mp/"),
];

fn texts() -> Vec<PathBuf> {
    let at_root = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .filter_map(|path| Some(PathBuf::from(path.file_name()?)))
        .filter(|path| !path.to_str().unwrap().starts_with(".git"))
        .filter(|path| path != "Cargo.lock" && path != "LICENSE-APACHE");
    ["src", "tests", "infra", "docs", ".ci"]
        .iter()
        .flat_map(|folder| files(folder))
        .chain(at_root)
        .collect()
}

fn lines_with(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in texts() {
        // What is no text holds no words.
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn nothing_unfinished_is_committed() {
    assert_none("finish it or open an issue", &lines_with(UNFINISHED));
}

#[test]
fn no_machines_paths_are_committed() {
    assert_none(
        "this path exists on one machine only",
        &lines_with(MACHINES),
    );
}
