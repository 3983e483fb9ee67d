//! `ca peers`: the certificates by which the hosts of a fleet know each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::DnsName;

use super::ca::{CaError, make_folder, write_new};
use crate::config::Secret;
use crate::tls::PeerAuthority;

const CERTIFICATE: &str = "peers-ca.pem";
const KEY: &str = "peers-ca.key";

/// How long the authority holds: its certificates are replaced many times before.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// What `ca peers` is to make.
#[derive(Debug, Clone)]
pub struct PeersOrder {
    /// The folder of its files.
    pub out: PathBuf,
    /// The hosts, as `[fleet] hosts` names them.
    pub hosts: Vec<String>,
    /// How long their certificates hold.
    pub life: Duration,
}

/// Makes a certificate (`HOST.pem`) and a key (`HOST.key`, mode 0600) for each host, signed by the
/// authority in the folder (`peers-ca.pem`, `peers-ca.key`), which is made if there is none; what the
/// operator is to do next.
///
/// # Errors
/// [`CaError`]; nothing is ever written over.
pub fn make(order: &PeersOrder, now: Timestamp) -> Result<String, CaError> {
    let is_bad = |host: &&String| DnsName::try_from(host.as_str()).is_err();
    if let Some(bad) = order.hosts.iter().find(is_bad) {
        return Err(CaError::Host(bad.clone()));
    }
    let folder = make_folder(&order.out)?;
    for host in &order.hosts {
        for path in [file(&folder, host, "pem"), file(&folder, host, "key")] {
            if path.symlink_metadata().is_ok() {
                return Err(CaError::Exists(path));
            }
        }
    }
    let authority = authority(&folder, now)?;
    for host in &order.hosts {
        let made = authority.sign(host, now, order.life)?;
        write_new(&file(&folder, host, "key"), made.key.expose(), 0o600)?;
        write_new(&file(&folder, host, "pem"), &made.certificate, 0o644)?;
    }
    Ok(next_steps(order, &folder))
}

/// The authority in `folder`; a new one if it has none.
fn authority(folder: &Path, now: Timestamp) -> Result<PeerAuthority, CaError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if certificate.exists() || key.exists() {
        let read = |path: &Path| {
            let read = std::fs::read_to_string(path);
            read.map_err(|source| CaError::Read {
                path: path.to_owned(),
                source,
            })
        };
        return Ok(PeerAuthority {
            certificate: read(&certificate)?,
            key: Secret::new(read(&key)?),
        });
    }
    let made = PeerAuthority::create(now, AUTHORITY_LIFE)?;
    write_new(&key, made.key.expose(), 0o600)?;
    write_new(&certificate, &made.certificate, 0o644)?;
    Ok(made)
}

fn file(folder: &Path, host: &str, kind: &str) -> PathBuf {
    folder.join(format!("{host}.{kind}"))
}

fn next_steps(order: &PeersOrder, folder: &Path) -> String {
    let folder = folder.display();
    let hosts = order.hosts.join(", ");
    format!(
        "{folder}\n  HOST.pem and HOST.key (a secret, mode 0600) for {hosts}; {CERTIFICATE}, which every\n\
         \x20 host has; {KEY}, a secret that no host needs: keep it for new hosts and certificates\n\n\
         What to do next:\n\
         1. Bring each host {CERTIFICATE} and its own pair, under the same names on every host, such as\n\
         \x20  /etc/kintone-egress/host.pem and host.key.\n\
         2. Write into the configuration, the same on every host:\n\n\
         \x20  [fleet.peer]\n\
         \x20  listen = {{ HOST = \"ADDRESS:3130\", … }}\n\
         \x20  cert = \"/etc/kintone-egress/host.pem\"\n\
         \x20  key = {{ file = \"/etc/kintone-egress/host.key\" }}\n\
         \x20  ca = \"/etc/kintone-egress/{CERTIFICATE}\"\n\n\
         3. kintone-egress check --config FILE on each host, then start each again. New certificates\n\
         \x20  later take a reload (SIGHUP).\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::CaCertificate;

    fn order(out: &Path, hosts: &[&str]) -> PeersOrder {
        PeersOrder {
            out: out.to_owned(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            life: Duration::from_secs(24 * 3600),
        }
    }

    #[test]
    fn hosts_that_come_later_are_signed_by_the_same_authority_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let said = make(&order(dir.path(), &["gw-a", "gw-b"]), now).unwrap();
        assert!(said.contains("[fleet.peer]"), "{said}");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let (authority, first) = (read(CERTIFICATE), read("gw-a.pem"));
        make(&order(dir.path(), &["gw-c"]), now).unwrap();
        assert_eq!((read(CERTIFICATE), read("gw-a.pem")), (authority, first));
        let again = make(&order(dir.path(), &["gw-d", "gw-b"]), now).unwrap_err();
        assert!(matches!(again, CaError::Exists(_)), "{again}");
        assert!(!dir.path().join("gw-d.pem").exists(), "all or nothing");
        for name in [KEY, "gw-a.key", "gw-c.key"] {
            let mode = dir
                .path()
                .join(name)
                .metadata()
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let hosts = CaCertificate::read_pem(&read("gw-c.pem")).unwrap();
        assert!(!hosts[0].may_sign);
        let bad = make(&order(dir.path(), &["a b"]), now).unwrap_err();
        assert!(matches!(bad, CaError::Host(_)), "{bad}");
    }
}
