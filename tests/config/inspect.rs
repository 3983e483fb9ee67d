//! `[inspect]`: what is said about an authority, its key and their files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kintone_egress::config::file::{Environment, load};
use kintone_egress::config::place::{Fault, Severity};
use kintone_egress::tls::{CaFiles, NewCa};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::{LEAST, environment, faults};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn new_ca() -> CaFiles {
    made(
        Timestamp::now(),
        3650 * DAY,
        &["cybozu.com", "kintone.com", "cybozu.cn"],
    )
}

fn made(now: Timestamp, life: Duration, zones: &[&str]) -> CaFiles {
    let ca = NewCa {
        name: "test CA".to_owned(),
        organization: None,
        zones: zones.iter().map(ToString::to_string).collect(),
        life,
    };
    ca.create(now).expect("made")
}

/// `[inspect]` up to its key.
pub(crate) fn table_of(ca: &CaFiles) -> String {
    with(&ca.certificate, ca.key.expose())
}

fn with(certificate: &str, key: &str) -> String {
    format!("[inspect]\nca_cert = '''{certificate}'''\nca_key = '''{key}'''\n")
}

pub(crate) fn write_key(path: &Path, ca: &CaFiles) {
    std::fs::write(path, ca.key.expose()).expect("written");
    set_mode(path, 0o600);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("allowed");
}

fn said_of(table: &str) -> Vec<Fault> {
    faults(&format!(
        "{LEAST}{table}accounts = [\"*\"]\ncallers = [\"*\"]\n"
    ))
}

/// The only thing said.
fn only(table: &str) -> Fault {
    let said = said_of(table);
    assert_eq!(said.len(), 1, "{said:?}");
    said.into_iter().next().expect("one")
}

#[test]
fn a_good_authority_is_taken_without_a_word() {
    assert_eq!(said_of(&table_of(&new_ca())), []);
}

#[test]
fn what_must_be_there_is_asked_for() {
    let said = faults(&format!("{LEAST}[inspect]\n"));
    let missing: Vec<_> = said.iter().map(|fault| fault.key.as_str()).collect();
    let expected = [
        "inspect.ca_cert",
        "inspect.ca_key",
        "inspect.accounts",
        "inspect.callers",
    ];
    assert_eq!(missing, expected);
    assert!(said[0].remedy.contains("kintone-egress ca init"));
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let (ca, other) = (new_ca(), new_ca());
    let fault = only(&with(&ca.certificate, other.key.expose()));
    assert_eq!(fault.severity, Severity::Error);
    assert_eq!(
        (fault.line, fault.key.as_str()),
        (line_of("ca_key", &ca), "inspect.ca_key")
    );
    assert!(fault.problem.contains("not the key of"), "{fault}");
    let swapped = only(&with(&ca.certificate, &ca.certificate));
    assert!(swapped.problem.contains("is no private key"), "{swapped}");
}

fn line_of(key: &str, ca: &CaFiles) -> usize {
    let text = format!("{LEAST}{}", table_of(ca));
    let at = text.lines().position(|line| line.starts_with(key));
    at.expect("there") + 1
}

#[test]
fn a_certificate_that_is_no_authority_is_refused() {
    let key = KeyPair::generate().expect("made");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    for params in [CertificateParams::default(), ca] {
        let certificate = params.self_signed(&key).expect("made");
        let fault = only(&with(&certificate.pem(), &key.serialize_pem()));
        assert_eq!(fault.severity, Severity::Error);
        assert!(fault.problem.contains("no certificate of a CA"), "{fault}");
        assert!(fault.remedy.contains("keyCertSign"), "{fault}");
    }
    let fault = only(&with("-----BEGIN X-----", new_ca().key.expose()));
    assert!(fault.problem.contains("no certificate in PEM"), "{fault}");
}

#[test]
fn an_authority_without_limits_is_warned_of() {
    let key = KeyPair::generate().expect("made");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&key).expect("made").pem();
    let fault = only(&with(&certificate, &key.serialize_pem()));
    assert_eq!(fault.severity, Severity::Warning);
    assert_eq!(fault.key, "inspect.ca_cert");
    assert!(fault.problem.contains("no name constraints"), "{fault}");
}

#[test]
fn an_authority_must_be_able_to_sign_for_what_is_inspected() {
    let ca = made(Timestamp::now(), 365 * DAY, &["cybozu.com"]);
    let said = said_of(&table_of(&ca));
    let zones: Vec<_> = said.iter().map(|fault| fault.problem.as_str()).collect();
    assert_eq!(zones.len(), 2, "{said:?}");
    assert!(zones[0].contains("kintone.com") && zones[1].contains("cybozu.cn"));
    assert!(said.iter().all(|fault| fault.severity == Severity::Error));
    for accounts in ["*.cybozu.com", "acme.cybozu.com"] {
        let table = format!(
            "{}accounts = [{accounts:?}]\ncallers = [\"*\"]\n",
            table_of(&ca)
        );
        assert_eq!(faults(&format!("{LEAST}{table}")), []);
    }
}

#[test]
fn an_authority_out_of_its_time_is_warned_of() {
    let now = Timestamp::now();
    let zones = ["cybozu.com", "kintone.com", "cybozu.cn"];
    let days = |days: i64| now + SignedDuration::from_hours(24 * days);
    for (ca, word) in [
        (made(days(-20), 10 * DAY, &zones), "has expired at"),
        (made(now, 29 * DAY, &zones), "expires at"),
        (made(days(2), 365 * DAY, &zones), "is not valid before"),
    ] {
        let fault = only(&table_of(&ca));
        assert_eq!(fault.severity, Severity::Warning, "others must not suffer");
        assert!(fault.problem.contains(word), "{fault}");
        assert!(fault.problem.contains("test CA"), "{fault}");
    }
    assert_eq!(said_of(&table_of(&made(now, 31 * DAY, &zones))), []);
}

#[test]
fn anonymous_callers_can_be_inspected_by_that_name() {
    let table = format!(
        "{}accounts = [\"*\"]\ncallers = [\"anonymous\"]\n",
        table_of(&new_ca())
    );
    assert_eq!(faults(&format!("{LEAST}{table}")), []);
}

/// A directory with an authority, and what is said of a configuration there.
fn in_files(ca_key: &str, mode: u32, credentials: bool) -> Vec<Fault> {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| -> PathBuf { directory.path().join(name) };
    let ca = new_ca();
    std::fs::write(at("ca.pem"), &ca.certificate).expect("written");
    write_key(&at("ca.key"), &ca);
    set_mode(&at("ca.key"), mode);
    let text = format!(
        "{LEAST}[inspect]\nca_cert = {{ file = \"ca.pem\" }}\nca_key = {ca_key}\n\
         accounts = [\"*\"]\ncallers = [\"*\"]\n"
    );
    std::fs::write(at("gw.toml"), text).expect("written");
    let environment = Environment {
        credentials_directory: credentials.then(|| directory.path().to_owned()),
        ..environment()
    };
    match load(&at("gw.toml"), &environment) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults.0,
    }
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    const CREDENTIAL: &str = "{ file = \"$CREDENTIALS_DIRECTORY/ca.key\" }";
    const FILE: &str = "{ file = \"ca.key\" }";
    for (ca_key, mode, is_warned) in [
        (FILE, 0o600, false),
        (FILE, 0o400, false),
        (FILE, 0o640, true),
        (FILE, 0o604, true),
        ("\"ca.key\"", 0o600, false),
        ("\"ca.key\"", 0o644, true),
        // systemd's access control lists look like rights of the group.
        (CREDENTIAL, 0o440, false),
        ("\"$CREDENTIALS_DIRECTORY/ca.key\"", 0o440, false),
        (CREDENTIAL, 0o444, true),
    ] {
        let said = in_files(ca_key, mode, true);
        assert_eq!(
            said.len(),
            usize::from(is_warned),
            "{ca_key} {mode:o}: {said:?}"
        );
        for fault in said {
            assert_eq!(fault.severity, Severity::Warning);
            assert!(fault.remedy.contains("0600"), "{fault}");
            let shown = format!("{mode:04o}");
            assert!(fault.problem.contains(&shown), "{fault}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_told_without_its_name() {
    let said = in_files("\"MIGHAgEAMBMGByqGSM49\"", 0o600, false);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].problem.contains("names a file that cannot be read"));
    assert!(
        !said[0].to_string().contains("MIGH"),
        "it may be a key without its first line"
    );
}
