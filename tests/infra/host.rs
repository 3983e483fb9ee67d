//! What is around the gateway on its host: user, kernel, addresses, log rotation.

use std::path::Path;
use std::process::Command;

use kintone_egress::config::file::{Environment, load};
use kintone_egress::config::token::hash_token;

use crate::process::{Gateway, until};
use crate::support::caller::fetch_plain;
use crate::tools::{infra, read, succeed, tool};

/// Lines of a file that are not comments.
fn lines(name: &str) -> Vec<String> {
    let text = read(infra(name));
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_kernel_knows_every_setting() {
    for line in lines("sysctl/60-kintone-egress.conf") {
        let (key, value) = line.split_once('=').unwrap();
        let (key, value) = (key.trim(), value.trim());
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        assert!(path.exists(), "{key}");
        assert!(
            !key.contains("ip_nonlocal_bind"),
            "every address would seem to be here"
        );
        if key != "net.ipv4.ip_local_port_range" {
            continue;
        }
        let (first, last) = value.split_once(' ').unwrap();
        let (first, last): (u32, u32) = (first.parse().unwrap(), last.parse().unwrap());
        let config = load(
            &infra("kintone-egress.example.toml"),
            &Environment::default(),
        )
        .unwrap()
        .config;
        let listens = config
            .listen
            .proxy
            .iter()
            .chain([&config.listen.admin])
            .map(|it| u32::from(it.port()));
        assert!(
            listens.into_iter().all(|port| port < first),
            "a listener's port"
        );
        assert!(last - first >= 50_000, "few ports");
    }
}

#[test]
fn the_addresses_that_networkd_sets_are_those_of_the_example() {
    let example = load(
        &infra("kintone-egress.example.toml"),
        &Environment::default(),
    )
    .unwrap();
    let set = |file: &str| -> Vec<String> {
        let mut section = String::new();
        let mut found = Vec::new();
        for line in lines(file) {
            if line.starts_with('[') {
                section = line;
            } else if section == "[Address]" {
                let value = line.strip_prefix("Address=").expect("an address");
                found.push(value.split('/').next().unwrap().to_owned());
            }
        }
        found
    };
    let addresses = &example.config.addresses;
    let published: Vec<_> = addresses
        .iter()
        .map(|it| it.published.to_string())
        .collect();
    let binds: Vec<_> = addresses
        .iter()
        .map(|it| it.bind.as_ref().expect("a bind").to_string())
        .collect();
    assert_eq!(published, ["18.177.83.94", "35.73.236.241"]);
    assert_eq!(
        set("networkd/50-kintone-egress-published.network"),
        published
    );
    assert_eq!(set("networkd/50-kintone-egress-eip.network"), binds);
}

#[test]
fn the_user_of_the_unit_is_made() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("etc")).unwrap();
    let folder = root.path().join("usr/lib/sysusers.d");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(
        infra("systemd/kintone-egress.sysusers.conf"),
        folder.join("kintone-egress.conf"),
    )
    .unwrap();
    succeed(
        Command::new(tool("systemd-sysusers"))
            .arg(format!("--root={}", root.path().display()))
            .arg("kintone-egress.conf"),
    );
    let made = read(root.path().join("etc/passwd"));
    let line = made
        .lines()
        .find(|line| line.starts_with("kintone-egress:"));
    let line = line.unwrap_or_else(|| panic!("{made}"));
    assert!(line.ends_with("/usr/sbin/nologin"), "{line}");
    let unit = read(infra("systemd/kintone-egress.service"));
    assert!(unit.contains("\nUser=kintone-egress\nGroup=kintone-egress\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logrotate_rotates_the_access_log_and_no_line_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let hash = hash_token(b"canary").to_hex();
    let gateway = Gateway::start(
        dir.path(),
        &format!(
            "[[egress.address]]\npublished = \"18.177.83.94\"\nbind = \"127.0.1.94\"\n\
             [[caller]]\nname = \"events\"\ntoken_sha256 = \"{hash}\"\n\
             [log]\naccess = \"access.log\"\n"
        ),
    );
    // The file as it stands, but for the place of the log, who owns it and how systemd is reached.
    let rules = read(infra("logrotate/kintone-egress"))
        .replace("/var/log/kintone-egress/access.log", log.to_str().unwrap())
        .replace("    su kintone-egress kintone-egress\n", "")
        .replace(
            "/usr/bin/systemctl kill --kill-whom=main --signal=USR1 kintone-egress.service",
            &format!("kill -USR1 {}", gateway.process.id()),
        );
    assert!(!rules.contains("systemctl kill"), "{rules}");
    let rules_path = dir.path().join("rules");
    std::fs::write(&rules_path, rules).unwrap();
    // logrotate trusts no rules that others may write.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&rules_path, std::fs::Permissions::from_mode(0o644)).unwrap();

    let refused = async || {
        fetch_plain(gateway.proxy, "http://www.example.com/")
            .await
            .0
    };
    assert_eq!(refused().await, 407);
    let count = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
    until("the call is logged", || count(&log) == 1);
    succeed(
        Command::new(tool("logrotate"))
            .arg("--force")
            .arg("--state")
            .arg(dir.path().join("logrotate.state"))
            .arg(&rules_path),
    );
    until("the log is opened again", || log.exists());
    assert_eq!(refused().await, 407);
    until("the new log is written", || count(&log) == 1);
    let rotated = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("access.log-")
        });
    assert_eq!(count(&rotated.expect("the old log")), 1);
}
