//! Reads the operator's file. Every fault is found in one pass, with its place.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::grant::QuotaSettings;
use super::place::{Fault, Faults, Severity};
use super::read::Section;
use super::shape::Config;
use super::source::{Source, beside};
use super::token::sha256_hex;
use super::{
    acceptance, account, caller, circuit, egress, fleet, inspect, listen, notify, public, quota,
    service, unbuilt, upstream, verify,
};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A file that can be used, and what the operator should know of it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What the operator should know, in the order of the places.
    pub warnings: Vec<Fault>,
}

/// What the configuration takes from the process's surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `$KINTONE_EGRESS_HOST`.
    pub host: Option<String>,
    /// The system's host name.
    pub host_name: String,
    /// `$STATE_DIRECTORY`, the first of it.
    pub state_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials_directory: Option<PathBuf>,
    /// The file system that `/proc` and `/etc/machine-id` are read from; `None`: `/`.
    pub root: Option<PathBuf>,
}

/// Reads and checks the file at `path`, and the secrets that it refers to. A relative path in it
/// starts from its own directory.
/// It blocks on the disk, so a running gateway calls it on a blocking thread.
///
/// # Errors
/// Everything that is wrong with it; a file that cannot be read is wrong at line 1, column 1.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
    let unreadable = |error: std::io::Error| {
        let source = Source::new(path, "", None);
        let remedy = "expected a readable TOML file";
        source.report(
            Severity::Error,
            0,
            "file",
            format!("cannot be read: {error}"),
            remedy,
        );
        Faults(source.into_faults())
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(std::io::Error::other(format!(
            "longer than {FILE_BYTES_MAX} bytes"
        ))));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, path, environment),
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            let source = Source::new(path, &valid, None);
            source.report(
                Severity::Error,
                valid.len(),
                "file",
                "is not UTF-8 here",
                "expected UTF-8 text",
            );
            Err(Faults(source.into_faults()))
        }
    }
}

/// Checks `text`, the contents of the file at `path`, and reads the secrets that it refers to, on
/// the calling thread.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(text: &str, path: &Path, environment: &Environment) -> Result<Loaded, Faults> {
    let source = Source::new(path, text, environment.credentials_directory.as_deref());
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut is_readable = true;
    for error in &errors {
        let offset = error.span().map_or(0, |span| span.start);
        let is_repeated = error.message() == "duplicate key";
        // What follows a fault of the syntax is guesswork; a repeated key leaves the rest as it is.
        is_readable &= is_repeated;
        let (problem, remedy) = match error.message().split_once(", expected ") {
            Some((problem, expected)) => (problem, format!("expected {expected}")),
            None if is_repeated => (error.message(), "each key and table stands once".to_owned()),
            None => (error.message(), "expected TOML".to_owned()),
        };
        source.report(Severity::Error, offset, "syntax", problem, remedy);
    }
    let config = is_readable.then(|| {
        unbuilt::report(&source, document.get_ref());
        config(
            Section::root(&source, document.get_ref()),
            text,
            path,
            environment,
        )
    });
    let faults = source.into_faults();
    match config {
        Some(config)
            if faults
                .iter()
                .all(|fault| fault.severity == Severity::Warning) =>
        {
            Ok(Loaded {
                config,
                warnings: faults,
            })
        }
        _ => Err(Faults(faults)),
    }
}

/// Reads every table. The order matters where one is judged by another.
fn config(mut root: Section<'_>, text: &str, path: &Path, environment: &Environment) -> Config {
    let host_name = &environment.host_name;
    let fleet = fleet::read(&mut root, environment.host.as_deref(), host_name);
    let hosts = fleet.hosts.len();
    let listen = listen::read(&mut root);
    let (addresses, notice) = egress::read(&mut root, &fleet);
    let public = public::read(&mut root);
    let evidence = public::evidence(&mut root);
    let acceptance = acceptance::read(&mut root);
    let upstream = upstream::read(&mut root);
    let callers = caller::read(&mut root, &listen, &upstream.zones);
    let mut quota_section = root.section("quota");
    let quota = quota::read(&mut quota_section, &QuotaSettings::default(), hosts);
    quota_section.finish();
    let accounts = account::read(&mut root, &quota, &upstream.zones, hosts, &addresses);
    let circuit = circuit::read(&mut root, &upstream.zones);
    let inspect = inspect::inspect(&mut root, &callers, &upstream.zones);
    let state_default = environment.state_directory.clone();
    let state_default = state_default.unwrap_or_else(|| beside(path, Path::new("state")));
    let config = Config {
        limits: service::limits(&mut root),
        verify: verify::read(&mut root),
        notify: notify::read(&mut root, &accounts),
        admin: service::admin(&mut root),
        state_dir: service::state_dir(&mut root, &state_default),
        log: service::log(&mut root),
        drain: service::drain(&mut root),
        hash: sha256_hex(text.as_bytes()),
        fleet,
        listen,
        addresses,
        notice,
        public,
        evidence,
        acceptance,
        upstream,
        callers,
        quota,
        accounts,
        circuit,
        inspect,
    };
    root.finish();
    config
}

impl Environment {
    /// What this process sees. An empty variable is an absent one.
    #[must_use]
    pub fn from_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let host_name = nix::unistd::gethostname().unwrap_or_default();
        Self {
            host: variable("KINTONE_EGRESS_HOST").map(|host| host.to_string_lossy().into_owned()),
            host_name: host_name.to_string_lossy().into_owned(),
            // systemd separates several by colons.
            state_directory: variable("STATE_DIRECTORY")
                .and_then(|value| std::env::split_paths(&value).next()),
            credentials_directory: variable("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            root: None,
        }
    }
}
