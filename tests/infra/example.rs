//! The example configuration: that it is valid and shows the defaults is tested in `tests/config`,
//! that no key is missing in `tests/tidy`; here, that each key is explained.

use kintone_egress::config::file::{Environment, load};

use crate::tools::{infra, read};

const EXAMPLE: &str = "kintone-egress.example.toml";

#[test]
fn each_key_says_what_it_means() {
    load(&infra(EXAMPLE), &Environment::default()).expect("the loader takes it");
    let mut faults = Vec::new();
    let mut section = String::new();
    let mut explained = Vec::new();
    let mut behind_comment = false;
    for line in read(infra(EXAMPLE)).lines() {
        let setting = line.strip_prefix('#').unwrap_or(line);
        let key = setting
            .split_once(" = ")
            .map(|(key, _)| key.trim_end())
            .filter(|key| !key.starts_with(' ') && !key.contains(' '));
        if let Some(key) = key {
            // The second table of its kind need not say it again.
            let name = format!("{section} {key}");
            if behind_comment {
                explained.push(name);
            } else if !explained.contains(&name) {
                faults.push(name);
            }
            behind_comment = false;
        } else if setting.starts_with('[') {
            section = setting.to_owned();
            behind_comment = false;
        } else {
            behind_comment = line.starts_with("# ");
        }
    }
    assert!(explained.len() > 40, "the example was not understood");
    assert!(faults.is_empty(), "without a word: {faults:#?}");
}
