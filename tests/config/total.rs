//! Reading is total: whatever stands in the file, there is an answer, with places in the text.

use proptest::prelude::*;

use super::{EVERY_KEY, EXAMPLE, faults};

fn check(text: &str) -> Result<(), TestCaseError> {
    let lines: Vec<_> = text.split('\n').collect();
    for fault in faults(text) {
        prop_assert!((1..=lines.len()).contains(&fault.line), "{}", fault);
        let columns = lines[fault.line - 1].chars().count() + 1;
        prop_assert!(
            (1..=columns).contains(&fault.column),
            "{} of {columns} columns",
            fault
        );
        prop_assert!(!fault.to_string().contains(char::is_control), "{:?}", fault);
    }
    Ok(())
}

/// One change to a text: `length` characters from the `at`th are replaced.
fn mutate(text: &str, at: prop::sample::Index, length: usize, new: &str) -> String {
    let characters: Vec<_> = text.chars().collect();
    let start = at.index(characters.len() + 1);
    let end = (start + length).min(characters.len());
    let kept = |range: &[char]| range.iter().collect::<String>();
    format!(
        "{}{new}{}",
        kept(&characters[..start]),
        kept(&characters[end..])
    )
}

/// Values of every type in the place of another.
fn value() -> impl Strategy<Value = String> {
    let values = [
        "0",
        "-1",
        "1e400",
        "nan",
        "true",
        "\"\"",
        "\"*\"",
        "\"10s\"",
        "[]",
        "{}",
        "[[]]",
        "2026-01-01",
        "99999999999999999999",
        "\"企業\"",
        "\"\\u0000\"",
        "{ file = \"/dev/null\" }",
        "\"$CREDENTIALS_DIRECTORY/\"",
    ];
    prop::sample::select(values.to_vec()).prop_map(str::to_owned)
}

/// Settings of the file of every key, by line.
fn settings() -> Vec<(usize, &'static str)> {
    let lines = EVERY_KEY.lines().enumerate();
    lines
        .filter_map(|(line, text)| Some((line, text.split_once(" = ")?.0)))
        .collect()
}

proptest! {
    #[test]
    fn any_text(text in "\\PC*") {
        check(&text)?;
    }

    #[test]
    fn any_text_of_the_alphabet(text in "[\\[\\]{}=.\",a-c \n\r\t#0-9_-]{0,60}") {
        check(&text)?;
    }

    #[test]
    fn a_changed_example(
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        new in "[\\[\\]{}=.\"a-c \n#0-9\u{0}é-]{0,4}",
        base in prop::sample::select(vec![EXAMPLE, EVERY_KEY]),
    ) {
        check(&mutate(base, at, length, &new))?;
    }

    #[test]
    fn another_value_for_any_key(at in any::<prop::sample::Index>(), value in value()) {
        let settings = settings();
        let (changed, key) = settings[at.index(settings.len())];
        let text: Vec<_> = EVERY_KEY
            .lines()
            .enumerate()
            .map(|(line, text)| if line == changed { format!("{key} = {value}") } else { text.to_owned() })
            .collect();
        check(&text.join("\n"))?;
    }
}

#[test]
fn deep_nesting_is_refused() {
    for text in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(50_000)),
    ] {
        assert!(!faults(&text).is_empty());
    }
    let deep = format!("a{} = 1", ".a".repeat(20_000));
    assert!(!faults(&deep).is_empty());
}
