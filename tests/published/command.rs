//! `addresses`: the same bytes as the public listener's, on the terminal and as files.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::caller::fetch_plain;
use crate::support::program::without_environment;
use crate::support::{Plan, house};
use crate::{FIRST, FORMER, PUBLIC, SECOND, memory};

fn addresses(config: &Path, more: &[&str]) -> Output {
    without_environment(Command::new(env!("CARGO_BIN_EXE_kintone-egress")))
        .args(["addresses", "--config"])
        .arg(config)
        .args(more)
        .output()
        .unwrap()
}

#[tokio::test]
async fn files_and_listener_are_one() {
    let known = [(FIRST, "active", 400), (FORMER, "active", 400)];
    let plan = Plan {
        listen: PUBLIC.into(),
        published: memory(&known),
        tables: "[public]\nservice = \"電話\"\n".into(),
        ..Plan::default()
    };
    house(plan, async |house| {
        let out = house.config_path.with_file_name("out");
        let config = &house.config_path;
        let written = addresses(config, &["--out", out.to_str().unwrap()]);
        let said = String::from_utf8(written.stderr).unwrap();
        assert!(written.status.success(), "{said}");
        for word in [
            format!("warning: {SECOND} is held as planned"),
            format!("warning: {FORMER} stays on the published list"),
        ] {
            assert!(said.contains(&word), "{said}");
        }
        assert!(written.stdout.is_empty());
        let mut names = Vec::new();
        for file in std::fs::read_dir(&out).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let bytes = std::fs::read(file.path()).unwrap();
            let path = format!("/{name}");
            let (status, served) = fetch_plain(house.public.unwrap(), &path).await;
            assert_eq!(status, 200);
            // The CSV is not UTF-8, and is shown as well as it can be.
            assert_eq!(String::from_utf8_lossy(&bytes), served, "{name}");
            names.push(name);
        }
        names.sort();
        let expected = [
            "egress-ips.atom",
            "egress-ips.csv",
            "egress-ips.json",
            "egress-ips.txt",
            "index.en.html",
            "index.html",
        ];
        assert_eq!(names, expected);
        for (format, name) in [("json", "json"), ("text", "txt"), ("csv", "csv")] {
            let printed = addresses(config, &["--format", format]);
            assert!(printed.status.success());
            let file = std::fs::read(out.join(format!("egress-ips.{name}"))).unwrap();
            assert_eq!(printed.stdout, file, "{format}");
        }
        let silent = addresses(config, &[]);
        assert_eq!(
            silent.stdout,
            std::fs::read(out.join("egress-ips.txt")).unwrap()
        );
    })
    .await;
}

#[test]
fn faults_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gateway.toml");
    std::fs::write(&config, "[egress]\nminimum_notice = \"a month\"\n").unwrap();
    let wrong = addresses(&config, &[]);
    assert_eq!(wrong.status.code(), Some(78));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        said.contains(":2:18: egress.minimum_notice: is \"a month\""),
        "{said}"
    );
    let good = "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n";
    std::fs::write(&config, good).unwrap();
    let blocked = addresses(&config, &["--out", config.to_str().unwrap()]);
    assert_eq!(blocked.status.code(), Some(1));
    let said = String::from_utf8(blocked.stderr).unwrap();
    assert!(said.contains("cannot write into"), "{said}");
    assert_eq!(
        addresses(&config, &["--format", "xml"]).status.code(),
        Some(2)
    );
}
