//! How `kintone-egress notify` ends where there is nothing to do, or nobody to ask.

use std::process::{Command, Output};

use kintone_sim::TenantSettings;

use crate::episodes::plan_of;
use crate::hook::Hook;
use crate::server::{PASSWORD, Server};
use crate::support::house;
use crate::support::program::{ask_house, said, without_environment};

const BAD_CONFIG: Option<i32> = Some(78);
const BAD_ARGUMENTS: Option<i32> = Some(2);

/// Every verb, with what it needs behind the configuration.
const VERBS: [(&str, &[&str]); 6] = [
    ("test", &["sre@service.example"]),
    ("test", &["--webhook"]),
    ("preview", &[]),
    ("held", &[]),
    ("release", &["limit-full"]),
    ("drop", &["limit-full"]),
];

/// A verb under a configuration that no gateway runs with.
fn notify(config: &str, verb: &str, more: &[&str]) -> Output {
    run(config, &["notify", verb], more)
}

fn run(config: &str, verb: &[&str], more: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = without_environment(Command::new(env!("CARGO_BIN_EXE_kintone-egress")));
    command.args(verb).arg("--config").arg(path).args(more);
    command.output().unwrap()
}

/// The admin listener is at a port where nobody listens.
fn config(tables: &str) -> String {
    format!(
        "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.0.1\"\n\
         [callers]\nanonymous = true\n[listen]\nadmin = \"127.0.0.1:9\"\n{tables}\n"
    )
}

#[test]
fn a_configuration_that_is_wrong_ends_each_verb() {
    let wrong = config("[notify]\nsmtp = \"127.0.0.1\"\n");
    for (verb, more) in VERBS {
        let (code, text) = said(&notify(&wrong, verb, more));
        assert_eq!(code, BAD_CONFIG, "{verb}: {text}");
        assert!(text.contains("notify.smtp"), "{verb}: {text}");
    }
}

#[test]
fn where_nobody_is_told_or_nobody_runs_each_verb_says_so() {
    let off = config("");
    for (verb, more) in VERBS {
        let (code, text) = said(&notify(&off, verb, more));
        assert_eq!(code, Some(1), "{verb}: {text}");
        let why = match verb {
            "test" | "preview" => "the configuration has no [notify]",
            _ => "no gateway answers at 127.0.0.1:9",
        };
        assert!(text.contains(why), "{verb}: {text}");
    }
}

#[test]
fn a_test_says_which_way_is_missing() {
    let mail = config(&Server::stopped().table("1s", ""));
    let (code, text) = said(&notify(&mail, "test", &["--webhook"]));
    assert!(code == Some(1) && text.contains("no webhook"), "{text}");
    let hook = config("[notify]\nwebhook = \"http://127.0.0.1:9/x\"\n");
    let (code, text) = said(&notify(&hook, "test", &["a@service.example"]));
    assert!(code == Some(1) && text.contains("no smtp"), "{text}");
    let (code, text) = said(&notify(&hook, "test", &["--webhook"]));
    assert!(code == Some(1) && text.contains("127.0.0.1:9: "), "{text}");
    for more in [&[][..], &["a@service.example", "--webhook"]] {
        let (code, text) = said(&notify(&hook, "test", more));
        assert_eq!(code, BAD_ARGUMENTS, "{text}");
    }
}

#[test]
fn doctor_says_whether_the_mail_server_lets_this_host_in() {
    let mut server = Server::stopped();
    let config = config(&server.table("1s", ""));
    let doctor = || {
        let (_, text) = said(&run(&config, &["doctor"], &[]));
        let mut lines = text.lines();
        let line = lines.find(|line| line.contains("mail server ([notify] smtp)"));
        let line = line.unwrap_or_else(|| panic!("{text}")).to_owned();
        assert!(!text.contains(PASSWORD), "{text}");
        line
    };
    let away = doctor();
    assert!(away.starts_with("FINDING "), "{away}");
    assert!(away.contains("Connection refused"), "{away}");
    server.resume();
    let there = doctor();
    assert!(there.starts_with("ok "), "{there}");
    assert!(server.mails().is_empty(), "doctor tells nobody anything");
}

#[tokio::test]
async fn what_is_not_held_is_neither_released_nor_dropped() {
    let hook = Hook::start().await;
    house(
        plan_of(hook.table(""), TenantSettings::default()),
        async |house| {
            for verb in ["release", "drop"] {
                let (code, text) =
                    said(&ask_house(&house, &["notify", verb], &["limit-full"]).await);
                assert_eq!(code, Some(3), "{text}");
                assert!(text.contains("no mails are held"), "{text}");
            }
            let (code, text) = said(&ask_house(&house, &["notify", "held"], &[]).await);
            assert_eq!((code, text.as_str()), (Some(0), "no mails are held\n"));
            let preview = &["--cause", "maintenance"];
            let (code, text) = said(&ask_house(&house, &["notify", "preview"], preview).await);
            assert_eq!(code, Some(0), "{text}");
            assert!(text.contains("==== to operators"), "{text}");
        },
    )
    .await;
}
