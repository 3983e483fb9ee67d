//! The private authority at a terminal: `ca init` makes one, `ca print` shows what callers are to
//! trust.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{CaCertificate, Config};
use crate::model::account::is_label;
use crate::tls::{MintError, NewCa, trust_pem};

/// The zones that kintone's accounts live in.
pub const ZONES: [&str; 3] = ["cybozu.com", "kintone.com", "cybozu.cn"];

/// Longest common name and organization, in characters (RFC 5280 appendix A.1).
const NAME_CHARACTERS_MAX: usize = 64;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";

/// What `ca init` is to make.
#[derive(Debug, Clone)]
pub struct CaOrder {
    /// The folder of its files.
    pub out: PathBuf,
    /// Its common name.
    pub name: String,
    /// Whose it is.
    pub organization: Option<String>,
    /// The zones below which it may sign.
    pub zones: Vec<String>,
    /// How long it holds.
    pub life: Duration,
}

/// Why there is no new authority, or nothing to print.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file is there already.
    #[error(
        "{0} is there already and is not written over: choose another folder by --out, or move it \
         away if no gateway uses it"
    )]
    Exists(PathBuf),
    /// A file or folder cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name of a host cannot stand in a certificate.
    #[error("--host {0:?} is no name that can stand in a certificate, such as \"gw-a\"")]
    Host(String),
    /// A zone is no domain.
    #[error("--zone {0:?} is no domain such as \"cybozu.com\", in lower case")]
    Zone(String),
    /// A name does not fit into a certificate.
    #[error("--name and --organization have 1 to {NAME_CHARACTERS_MAX} characters")]
    Name,
    /// It cannot be made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The configuration has no authority.
    #[error(
        "the configuration has no [inspect]; `kintone-egress ca init --out DIR` makes a CA for it"
    )]
    NotInspecting,
}

/// Makes an authority and writes its certificate (`ca.pem`) and its key (`ca.key`, mode 0600); what
/// the operator is to do next.
///
/// # Errors
/// [`CaError`]; nothing is left behind then, and nothing is ever written over.
pub fn init(order: &CaOrder, now: Timestamp) -> Result<String, CaError> {
    let is_zone = |zone: &String| zone.contains('.') && zone.split('.').all(is_lower_label);
    if let Some(zone) = order.zones.iter().find(|zone| !is_zone(zone)) {
        return Err(CaError::Zone(zone.clone()));
    }
    let fits = |name: &String| (1..=NAME_CHARACTERS_MAX).contains(&name.chars().count());
    if !fits(&order.name) || !order.organization.iter().all(fits) {
        return Err(CaError::Name);
    }
    let made = NewCa {
        name: order.name.clone(),
        organization: order.organization.clone(),
        zones: order.zones.clone(),
        life: order.life,
    };
    let made = made.create(now)?;
    let folder = make_folder(&order.out)?;
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if certificate.symlink_metadata().is_ok() {
        return Err(CaError::Exists(certificate));
    }
    write_new(&key, made.key.expose(), 0o600)?;
    if let Err(error) = write_new(&certificate, &made.certificate, 0o644) {
        // It is ours, and of no use without the certificate.
        let _ = std::fs::remove_file(&key);
        return Err(error);
    }
    let made = CaCertificate::read_pem(&made.certificate);
    let made = made.ok().and_then(|mut certificates| certificates.pop());
    Ok(next_steps(order, &certificate, &key, made.as_ref()))
}

/// What callers are to trust under `config`: PEM, each certificate with a comment about it.
///
/// # Errors
/// [`CaError::NotInspecting`].
pub fn print(config: &Config) -> Result<String, CaError> {
    let inspect = config.inspect.as_ref().ok_or(CaError::NotInspecting)?;
    Ok(trust_pem(inspect))
}

fn is_lower_label(label: &str) -> bool {
    is_label(label) && !label.bytes().any(|b| b.is_ascii_uppercase())
}

/// Makes a folder if it is not there; its whole path.
pub(super) fn make_folder(folder: &Path) -> Result<PathBuf, CaError> {
    let unwritable = |source| CaError::Write {
        path: folder.to_owned(),
        source,
    };
    let mut folders = DirBuilder::new();
    folders.recursive(true).mode(0o755);
    folders.create(folder).map_err(unwritable)?;
    folder.canonicalize().map_err(unwritable)
}

/// Writes a file that is not there yet, down to the disk.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            return CaError::Exists(path.to_owned());
        }
        CaError::Write {
            path: path.to_owned(),
            source,
        }
    };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(failed)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| path.parent().map_or(Ok(()), sync_folder));
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed(error)
    })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn next_steps(
    order: &CaOrder,
    certificate: &Path,
    key: &Path,
    made: Option<&CaCertificate>,
) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    let zones = order.zones.join(", ");
    let about = made.map_or_else(String::new, |made| {
        format!(
            "SHA-256 {}\nvalid to {}\n",
            made.fingerprint(),
            made.not_after
        )
    });
    format!(
        "{certificate}\n  the certificate, which callers are to trust\n\
         {key}\n  its key, a secret (mode 0600): let the gateway's user read it, and nobody else\n\
         {about}It can sign for TLS servers below {zones}, and for nothing else.\n\n\
         What to do next:\n\
         1. Write into the configuration, and begin with one caller:\n\n\
         \x20  [inspect]\n\
         \x20  ca_cert = \"{certificate}\"\n\
         \x20  ca_key = {{ file = \"{key}\" }}\n\
         \x20  accounts = [\"*\"]\n\
         \x20  callers = []\n\n\
         2. kintone-egress check --config FILE, then reload (SIGHUP). Every host takes the same two files.\n\
         3. Let callers trust the certificate: http://GATEWAY/.kintone-egress/ca.pem has it, and\n\
         \x20  http://GATEWAY/.kintone-egress/help says where each client takes it.\n\
         4. Name a caller in `callers` when it trusts the certificate, and reload. One that does not\n\
         \x20  refuses its connections, and the access log says caller_distrusts_ca.\n\n\
         Where an authority is replaced by this one, name the certificate in `ca_next` first: see\n\
         \"Changing the authority\" in docs/inspect.md.\n"
    )
}
