//! The configuration as operators meet it: the example, what it means, and every way to get it wrong.

mod broken;
mod inspect;
mod program;
mod total;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kintone_egress::config::file::{Environment, Loaded, load, parse};
use kintone_egress::config::place::{Fault, Faults, Severity};
use kintone_egress::config::show::{effective_json, effective_toml};
use kintone_egress::config::{
    Acceptance, AccessLog, AddressState, Config, NamePattern, TenantRule, Vouching,
};
use kintone_egress::model::{Account, Bind, Mode, Priority, Tenant};

const EXAMPLE: &str = include_str!("../../infra/kintone-egress.example.toml");
const EVERY_KEY: &str = include_str!("every-key.toml");

/// The least that can be used.
const LEAST: &str = r#"
[[egress.address]]
published = "18.177.83.94"
[callers]
anonymous = true
"#;

fn environment() -> Environment {
    Environment {
        host_name: "gw-a".to_owned(),
        ..Environment::default()
    }
}

fn read(text: &str) -> Result<Loaded, Faults> {
    parse(text, Path::new("conf/test.toml"), &environment())
}

fn faults(text: &str) -> Vec<Fault> {
    match read(text) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults.0,
    }
}

/// A directory with everything that the file of every key refers to, and its configuration.
fn every_key() -> (tempfile::TempDir, Loaded) {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).expect("made");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    write("extra-ca.pem", &authority.cert.pem()).expect("written");
    let (ca, next) = (inspect::new_ca(), inspect::new_ca());
    write("ca.pem", &ca.certificate).expect("written");
    inspect::write_key(&directory.path().join("ca.key"), &ca);
    write("next.pem", &next.certificate).expect("written");
    write("admin-token", "secret-of-the-operators\r\n").expect("written");
    write("test.toml", EVERY_KEY).expect("written");
    let environment = Environment {
        credentials_directory: Some(PathBuf::from("/run/credentials/kintone-egress")),
        ..environment()
    };
    let loaded =
        load(&directory.path().join("test.toml"), &environment).expect("every key is valid");
    (directory, loaded)
}

#[test]
fn the_example_is_taken_without_a_word() {
    let loaded = read(EXAMPLE).expect("the example is valid");
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_example_shows_the_defaults() {
    let stated = effective_json(&read(EXAMPLE).expect("valid").config);
    let silent = effective_json(&read(LEAST).expect("valid").config);
    for table in [
        "listen",
        "public",
        "evidence",
        "acceptance",
        "upstream",
        "quota",
        "limits",
        "log",
        "drain",
    ] {
        assert_eq!(stated[table], silent[table], "[{table}]");
    }
    for key in ["minimum_notice", "overlap"] {
        assert_eq!(stated["egress"][key], silent["egress"][key], "{key}");
    }
}

/// The example with every setting switched on, so that none of its lines can rot.
#[test]
fn the_examples_switched_off_settings_are_valid() {
    let switched_on: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let expected = [
        ("upstream.ca_file", "cannot be read"),
        ("inspect.ca_cert", "cannot be read"),
        ("inspect.ca_next", "cannot be read"),
        ("inspect.ca_key", "$CREDENTIALS_DIRECTORY"),
        ("fleet.peer.cert", "cannot be read"),
        ("fleet.peer.ca", "cannot be read"),
        ("fleet.peer.key", "$CREDENTIALS_DIRECTORY"),
        ("notify.smtp", "$CREDENTIALS_DIRECTORY"),
        ("notify.webhook", "$CREDENTIALS_DIRECTORY"),
        ("admin.token", "$CREDENTIALS_DIRECTORY"),
    ];
    let found = faults(&switched_on);
    let errors = found
        .iter()
        .filter(|fault| fault.severity == Severity::Error);
    for fault in errors {
        let is_expected =
            |(key, word): &(&str, &str)| fault.key.starts_with(key) && fault.problem.contains(word);
        assert!(expected.iter().any(is_expected), "{fault}");
    }
}

#[test]
fn every_key_means_what_it_says() {
    let (directory, loaded) = every_key();
    let config = &loaded.config;
    assert_eq!(config.addresses.len(), 3);
    assert_eq!(config.addresses[0].bind, Some(Bind([10, 0, 12, 34].into())));
    assert_eq!(config.addresses[1].state, AddressState::Retiring);
    assert_eq!(config.addresses[2].bind, None, "another host's");
    assert_eq!(config.notice.minimum_days, 45);
    let verify = config.verify.as_ref().expect("[verify]");
    assert_eq!(verify.urls.len(), 2);
    let times = [verify.interval, verify.timeout, verify.unknown_for];
    assert_eq!(times.map(|time| time.as_secs()), [20, 4, 300]);
    assert_eq!(verify.connections, Vouching::Interval);
    assert_eq!(verify.connection_pause, Duration::from_millis(200));
    assert_eq!(config.notice.overlap_days, 0);
    assert_eq!(config.public.service.as_deref(), Some("サンプル電話"));
    assert_eq!(config.public.connections, 9);
    assert_eq!(
        (config.evidence.keep_days, config.evidence.accounts),
        (7, 50)
    );
    let acceptance = Acceptance {
        accounts: 60,
        probe: false,
        probe_interval: Duration::from_secs(12 * 3600),
        probe_open_interval: Duration::from_secs(600),
        probes_at_once: 2,
    };
    assert_eq!(config.acceptance, acceptance);
    assert_eq!(config.upstream.response_timeout, Duration::from_secs(90));
    assert_eq!(config.upstream.replay, 1 << 20);
    assert_eq!(
        config.upstream.resolve[0].pattern,
        NamePattern::Below(".cybozu.com".to_owned())
    );
    assert_eq!(config.upstream.resolve[0].port, Some(8443));
    let caller = &config.callers.named[0];
    assert_eq!(caller.tokens.len(), 2);
    assert_eq!(caller.modes, [Mode::Forward, Mode::Tunnel]);
    assert_eq!(caller.priority, Priority::Batch);
    assert!(
        caller
            .tenants
            .allows(&Tenant::parse("company-7").expect("tenant"))
    );
    assert!(
        !caller
            .tenants
            .allows(&Tenant::parse("solo-2").expect("tenant"))
    );
    assert_eq!(config.callers.named[1].tenants, TenantRule::Any);
    let acme = &config.accounts["acme.cybozu.com"];
    assert!(!acme.enabled);
    assert_eq!(acme.quota.concurrency, 50, "its own");
    assert_eq!(acme.quota.headroom, 10, "of [quota]");
    assert!(acme.quota.rate.abs() < f64::EPSILON);
    assert_eq!(acme.tenants["company-1"].weight, 2);
    let other = config.quota_of(&Account::from_normal("other.cybozu.com"));
    assert_eq!(other.concurrency, 60);
    assert_eq!(config.fleet.hosts, ["gw-a", "gw-b"]);
    let inspect = config.inspect.as_ref().expect("[inspect]");
    assert_eq!(inspect.published().count(), 2, "this CA and the next");
    assert_eq!(inspect.leaf_life, Duration::from_secs(24 * 3600));
    assert_eq!(inspect.callers, ["call-events"]);
    let token = config.admin.token.as_ref().expect("a token");
    assert_eq!(token.expose(), "secret-of-the-operators");
    assert_eq!(
        config.log.access,
        AccessLog::File(directory.path().join("access.log"))
    );
    let tls = config.listen.tls.as_ref().expect("[listen.tls]");
    assert_eq!(tls.cert, directory.path().join("proxy.pem"));
    assert_eq!(
        tls.key,
        Path::new("/run/credentials/kintone-egress/proxy.key")
    );
}

#[test]
fn what_is_not_built_is_told_and_has_no_effect() {
    let (_directory, loaded) = every_key();
    let unbuilt = loaded
        .warnings
        .iter()
        .filter(|fault| fault.problem.contains("not built"));
    let keys: Vec<_> = unbuilt.map(|fault| fault.key.as_str()).collect();
    let expected = ["listen.proxy_tls", "listen.tls", "caller[1].certificate"];
    assert_eq!(keys, expected);
    let others = loaded
        .warnings
        .iter()
        .filter(|fault| !fault.problem.contains("not built"));
    let others: Vec<_> = others.map(|fault| fault.key.as_str()).collect();
    assert_eq!(others, ["listen.proxy[1]"], "off loopback");
}

#[test]
fn what_is_shown_has_no_secret_and_can_be_read_back() {
    let (directory, loaded) = every_key();
    let shown = effective_toml(&loaded.config);
    let json = effective_json(&loaded.config);
    let debug = format!("{loaded:?}");
    for text in [&shown, &json.to_string(), &debug] {
        assert!(!text.contains("secret-of"), "{text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
        assert!(!text.to_lowercase().contains("ba7816bf"), "{text}");
    }
    let again = shown
        .replace(
            "token_sha256 = [\"***\", \"***\"]",
            &format!(
                "token_sha256 = [{:?}, {:?}]",
                "1".repeat(64),
                "2".repeat(64)
            ),
        )
        .replace("ca_key = \"***\"", "ca_key = \"ca.key\"")
        .replace("redis = \"***\"", "redis = \"redis://h\"")
        .replace("smtp = \"***\"", "smtp = \"smtp://h\"")
        .replace("webhook = \"***\"", "webhook = \"https://h\"")
        .replace("token = \"***\"", "token = \"0123456789abcdef\"");
    let path = directory.path().join("again.toml");
    let again =
        parse(&again, &path, &environment()).unwrap_or_else(|faults| panic!("{faults}\n{again}"));
    assert_eq!(effective_json(&again.config), json);
}

#[test]
fn the_state_lives_where_systemd_says_or_beside_the_file() {
    let dir = |environment: &Environment, text: &str| -> PathBuf {
        let loaded = parse(text, Path::new("/etc/gw/gw.toml"), environment).expect("valid");
        loaded.config.state_dir
    };
    let mut environment = environment();
    assert_eq!(dir(&environment, LEAST), Path::new("/etc/gw/state"));
    environment.state_directory = Some(PathBuf::from("/var/lib/gw"));
    assert_eq!(dir(&environment, LEAST), Path::new("/var/lib/gw"));
    let stated = format!("{LEAST}\n[state]\ndir = \"here\"");
    assert_eq!(dir(&environment, &stated), Path::new("/etc/gw/here"));
}

#[test]
fn the_host_is_the_files_or_the_environments_or_the_systems() {
    let host = |host: Option<&str>, text: &str| -> Config {
        let environment = Environment {
            host: host.map(str::to_owned),
            ..environment()
        };
        parse(text, Path::new("test.toml"), &environment)
            .expect("valid")
            .config
    };
    let fleet = format!("{LEAST}\n[fleet]\nhosts = [\"gw-a\", \"gw-b\"]");
    assert_eq!(host(None, LEAST).fleet.hosts, ["gw-a"]);
    assert_eq!(host(Some("gw-b"), &fleet).fleet.host, "gw-b");
    assert_eq!(host(None, &fleet).fleet.host, "gw-a");
    let stated = fleet.replace("[fleet]", "[fleet]\nhost = \"gw-b\"");
    assert_eq!(host(None, &stated).fleet.host, "gw-b");
    let environment = Environment {
        host: Some("gw-a".to_owned()),
        ..environment()
    };
    let loaded = parse(&stated, Path::new("test.toml"), &environment).expect("valid");
    assert_eq!(loaded.config.fleet.host, "gw-b", "the file wins");
    assert_eq!(loaded.warnings[0].key, "fleet.host");
}

#[test]
fn the_hash_is_of_the_bytes() {
    let hash = |text: &str| read(text).expect("valid").config.hash;
    assert_eq!(hash(LEAST).len(), 64);
    assert_ne!(hash(LEAST), hash(&format!("{LEAST}\n")));
}

#[test]
fn an_unreadable_file_is_a_fault_with_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("absent.toml");
    let faults = load(&path, &environment()).expect_err("absent").to_string();
    assert!(
        faults.starts_with(&format!("{}:1:1: file: cannot be read", path.display())),
        "{faults}"
    );
    std::fs::write(&path, b"[log]\nlevel = \"\xff\"").expect("written");
    let faults = load(&path, &environment())
        .expect_err("not UTF-8")
        .to_string();
    assert!(faults.contains(":2:10: file: is not UTF-8"), "{faults}");
}
