//! Rust source as these checks see it, and the rules of length.

use std::path::{Path, PathBuf};

use super::{assert_none, files, read};

/// Longest file, in lines without its tests.
const FILE_LINES: usize = 400;
/// Longest function, in lines.
const FUNCTION_LINES: usize = 70;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[(
    "src/model/outcome.rs",
    "one table: every code with all that belongs to it",
)];

/// A file of the library or program without comments and without its test module.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) code: String,
}

/// Every source file of the gateway but those that only test.
pub(crate) fn sources() -> Vec<Source> {
    files("src")
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs") && !is_test(path))
        .map(|path| Source {
            code: without_comments(without_tests(&read(&path))),
            path,
        })
        .collect()
}

fn is_test(path: &Path) -> bool {
    path.iter().any(|part| {
        let part = part.to_str().unwrap();
        part.starts_with("tests") || part.starts_with("test_")
    })
}

/// The text up to `#[cfg(test)] mod …`: tests stand last in a file.
fn without_tests(text: &str) -> &str {
    text.match_indices("#[cfg(test)]\n")
        .find(|(at, mark)| text[at + mark.len()..].starts_with("mod "))
        .map_or(text, |(at, _)| &text[..at])
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| match line.find("//") {
            // `://` is no comment but part of an address in a string.
            Some(at) if !line[..at].ends_with(':') => &line[..at],
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn files_stay_short() {
    let faults: Vec<_> = files("src")
        .iter()
        .chain(&files("tests/kintone-sim/src"))
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs") && !is_test_below_src(path))
        .filter(|path| !LONG_FILES.iter().any(|(long, _)| Path::new(long) == *path))
        .map(|path| (path, without_tests(&read(path)).lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert_none("a file holds one idea in at most 400 lines", &faults);
}

fn is_test_below_src(path: &Path) -> bool {
    let below: PathBuf = path.iter().skip_while(|part| *part != "src").collect();
    is_test(&below)
}

#[test]
fn functions_stay_short() {
    let mut faults = Vec::new();
    for source in sources() {
        for (line, length) in functions(&source.code) {
            if length > FUNCTION_LINES {
                faults.push(format!("{}:{line}: {length} lines", source.path.display()));
            }
        }
    }
    assert_none("a function has at most 70 lines", &faults);
}

/// Where each function begins, and how many lines it has. Relies on rustfmt: a function ends at the
/// first closing brace that stands as far left as its own first line.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        let words = text.split(['(', '<']).next().unwrap_or_default();
        let declares = !words.contains('"') && format!(" {words}").contains(" fn ");
        if !declares {
            continue;
        }
        if text.trim_end().ends_with([';', '}']) {
            continue;
        }
        let closing = format!("{}}}", " ".repeat(indent));
        let bodiless = format!("{})", " ".repeat(indent));
        let ends = |line: &&str| {
            **line == closing || line.starts_with(&bodiless) && line.trim_end().ends_with(';')
        };
        if let Some(length) = lines[begin..].iter().position(ends) {
            found.push((begin + 1, length + 1));
        }
    }
    found
}

#[test]
fn functions_are_measured_from_their_first_line_to_their_last() {
    let code = "impl A {\n    pub async fn one(\n        &self,\n    ) -> u8\n    {\n        if x {\n        }\n    }\n}\nfn two() {}\nfn three() {\n}";
    assert_eq!(functions(code), [(2, 7), (11, 2)]);
}

#[test]
fn tests_and_comments_are_left_out() {
    let text =
        "a // b\nlet c = \"http://d\";\n#[cfg(test)]\nuse e;\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(
        without_comments(without_tests(text)),
        "a \nlet c = \"http://d\";\n#[cfg(test)]\nuse e;"
    );
}
