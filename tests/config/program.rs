//! The same through the program: what `check` prints, and its exit status.

use std::path::Path;
use std::process::{Command, Output};

use super::broken::{Broken, cases};

fn check(folder: &Path, verb: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kintone-egress"));
    for name in ["STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command
        .env("KINTONE_EGRESS_HOST", "gw-a")
        .current_dir(folder)
        .args([verb, "--config", "conf/test.toml"])
        .output()
        .expect("it runs")
}

/// A folder with this configuration in it.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("conf")).expect("made");
    std::fs::write(folder.path().join("conf/test.toml"), text).expect("written");
    folder
}

/// What is wrong about what was said and how the program ended.
fn judge(broken: &Broken) -> Option<String> {
    let folder = folder(&broken.text);
    let output = check(folder.path(), "check");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.starts_with(&broken.start));
    let rest = line.map(|line| &line[broken.start.len()..]);
    // What is wrong, a comma, and what is allowed or to be done.
    let has_remedy = rest.is_some_and(|rest| {
        rest.contains(broken.word)
            && rest
                .split_once(", ")
                .is_some_and(|(problem, remedy)| !problem.is_empty() && remedy.len() > 3)
    });
    let status = output.status.code();
    // What is not built and would weaken a promise is an error beside the warning of the case.
    let is_refused = said.lines().any(|line| !line.contains(": warning: "));
    let expected = if is_refused { Some(78) } else { Some(0) };
    let is_right = has_remedy
        && is_refused >= broken.is_error
        && status == expected
        && output.stderr.is_empty();
    (!is_right).then(|| format!("{} {}: {status:?}\n{said}", broken.start, broken.word))
}

#[test]
fn every_wrong_setting_is_told_by_check_with_its_exit_status() {
    let cases = cases();
    let errors = cases.iter().filter(|broken| broken.is_error).count();
    assert!(errors >= 100, "{errors} broken configurations");
    let wrong: Vec<_> = cases.iter().filter_map(judge).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn serve_refuses_what_check_refuses_in_the_same_words() {
    let cases = cases();
    let errors = cases.iter().filter(|broken| broken.is_error);
    for broken in errors.step_by(12) {
        let folder = folder(&broken.text);
        let (checked, served) = (check(folder.path(), "check"), check(folder.path(), "serve"));
        assert_eq!(served.status.code(), Some(78), "{served:?}");
        assert_eq!(served.stderr, checked.stdout, "one wording");
        assert!(served.stdout.is_empty(), "{served:?}");
    }
}
