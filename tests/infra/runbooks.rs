//! Runbooks: one an alert, all of one shape.

use crate::rules::alerts;
use crate::tools::{files, read};

/// The parts of a runbook, in order.
const PARTS: [&str; 5] = [
    "## Meaning",
    "## Effect",
    "## First look",
    "## Remedy",
    "## Verify",
];

/// Each command of a first look that can be tried here, with its runbook: what stands in a block of
/// `sh`. What needs the host itself stands in a block of `console`.
pub(crate) fn commands() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for path in files("runbooks", ".md") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = read(&path);
        for block in text.split("```sh\n").skip(1) {
            let block = block.split("```").next().unwrap();
            found.extend(block.lines().map(|line| (name.clone(), line.to_owned())));
        }
    }
    assert!(found.len() > 30, "{} commands", found.len());
    found
}

#[test]
fn each_alert_has_one_and_no_other_is_there() {
    let mut wanted: Vec<_> = alerts().iter().map(|name| format!("{name}.md")).collect();
    wanted.sort();
    let there: Vec<_> = files("runbooks", ".md")
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(there, wanted);
}

#[test]
fn each_says_what_to_know_and_to_do() {
    for path in files("runbooks", ".md") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = read(&path);
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        let parts: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        assert_eq!(parts, PARTS, "{name}");
        for part in text.split("\n## ").skip(1) {
            let (title, body) = part.split_once('\n').unwrap();
            assert!(body.trim().len() > 20, "{name}: {title} is empty");
        }
    }
}
