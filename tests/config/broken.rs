//! Every way to get it wrong: the place, the key, and the way out.

use kintone_egress::config::place::Severity::{Error, Warning};

use super::inspect::{new_ca, table_of};
use super::{LEAST, faults};

const CASES: &str = include_str!("broken.txt");
const EGRESS: &str = "[[egress.address]]\npublished = \"18.177.83.94\"\n";
const TOKEN: &str = r#"[[caller]]
name = "a"
token_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"#;

/// One way to get it wrong.
pub(crate) struct Broken {
    /// The whole file.
    pub(crate) text: String,
    /// How the fault begins: file, place, key.
    pub(crate) start: String,
    /// A word of what follows.
    pub(crate) word: &'static str,
    /// Whether the file is refused.
    pub(crate) is_error: bool,
    /// What is not built is told as well.
    asks_for_unbuilt: bool,
}

/// Every way to get it wrong.
pub(crate) fn cases() -> Vec<Broken> {
    CASES.split("\n==== ").skip(1).map(read_case).collect()
}

fn read_case(case: &'static str) -> Broken {
    let (head, body) = case.split_once('\n').expect("a head");
    let (what, word) = head.split_once(" => ").expect("a word");
    let [severity, base, key] = what.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("severity, base, key: {what}");
    };
    let base = match base {
        "whole" => String::new(),
        "egress" => EGRESS.to_owned(),
        "least" => LEAST.to_owned(),
        "token" => format!("{EGRESS}{TOKEN}"),
        "inspect" => format!("{LEAST}{}", table_of(&new_ca())),
        _ => panic!("no base {base}"),
    };
    let (before, after) = body.split_once('‸').expect("a mark");
    let before = format!("{base}{before}");
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    let column = last.chars().count() + 1;
    let (is_error, severity_said) = match severity.trim_end_matches('*') {
        "error" => (true, ""),
        "warning" => (false, " warning:"),
        _ => panic!("no severity {severity}"),
    };
    Broken {
        text: format!("{before}{after}"),
        start: format!("conf/test.toml:{line}:{column}: {key}:{severity_said} "),
        word,
        is_error,
        asks_for_unbuilt: severity.ends_with('*'),
    }
}

/// The remedy where a bind is not the published address, and nobody verifies it.
const UNVERIFIED: &str = "switch [verify] on";

/// What was said where it is not what should be.
fn judge(broken: &Broken) -> Option<String> {
    let mut found = faults(&broken.text);
    if broken.asks_for_unbuilt {
        found.retain(|fault| !fault.problem.contains("not built"));
    }
    // A warning of many files whose fault is another.
    if !broken.word.contains(UNVERIFIED) {
        found.retain(|fault| !fault.remedy.contains(UNVERIFIED));
    }
    let expected = if broken.is_error { Error } else { Warning };
    let start = &broken.start;
    let said: Vec<_> = found.iter().map(ToString::to_string).collect();
    let is_right =
        |fault: &String| fault.starts_with(start) && fault[start.len()..].contains(broken.word);
    let is_alone = found.len() == 1 && found[0].severity == expected;
    (!is_alone || !said.iter().all(is_right)).then(|| said.join("\n"))
}

#[test]
fn every_wrong_setting_is_told_with_its_place_and_the_way_out() {
    let cases = cases();
    assert!(cases.len() > 100, "{} cases", cases.len());
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let (start, word) = (&case.start, case.word);
            Some(format!("{start}{word}\n---- said:\n{}\n", judge(case)?))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn anonymous_callers_off_loopback_need_networks() {
    let text = format!("{LEAST}[listen]\nproxy = [\"0.0.0.0:3128\"]\n");
    let found = faults(&text);
    let fault = found
        .iter()
        .find(|fault| fault.severity == Error)
        .expect("a fault");
    assert_eq!(
        (fault.line, fault.column, fault.key.as_str()),
        (5, 13, "callers.anonymous")
    );
    assert!(fault.remedy.contains("networks"));
    let networks = text.replace("true\n", "true\nnetworks = [\"10.0.0.0/8\"]\n");
    assert!(
        faults(&networks)
            .iter()
            .all(|fault| fault.severity == Warning)
    );
}

#[test]
fn a_file_with_many_faults_tells_them_all_in_order() {
    let text = format!(
        "{LEAST}[quota]\nburst = 0\nqueu = 5\n[log]\nlevel = 5\n[verify]\ninterval = \"0s\"\n"
    );
    let found = faults(&text);
    let places = found
        .iter()
        .map(|fault| (fault.line, fault.column, fault.key.as_str()));
    let expected = [
        (7, 9, "quota.burst"),
        (8, 1, "quota.queu"),
        (10, 9, "log.level"),
        (11, 1, "verify.urls"),
        (12, 12, "verify.interval"),
    ];
    assert_eq!(places.collect::<Vec<_>>(), expected);
}

#[test]
fn no_fault_repeats_a_secret() {
    let text = format!(
        "{EGRESS}[[caller]]\nname = \"a\"\ntoken_sha256 = \"canary-1\"\n[admin]\ntoken = \"canary-2 \"\n\
         [fleet]\nredis = \"canary-3\"\n[notify]\nsmtp = \"http://canary-4\"\n\
         webhook = \"http://canary-7.example/canary-8\"\n\
         [verify]\nurl = \"https://canary-5@host/\"\n[inspect]\nca_key = [\"canary-6\"]\n"
    );
    let found = faults(&text);
    assert!(found.len() > 6);
    for fault in found {
        assert!(!fault.to_string().contains("canary"), "{fault}");
    }
}
