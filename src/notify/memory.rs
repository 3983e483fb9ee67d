//! The episodes that people were told of, from one process to the next: their ends are told too, and
//! their beginnings not again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::matter::{Matter, Subject};
use crate::model::{Account, Published, Tenant};

/// Who has been told of an episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) customers: bool,
    pub(super) operators: bool,
}

/// An episode as it stands on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    account: Option<String>,
    cause: String,
    tenant: Option<String>,
    address: Option<Ipv4Addr>,
    pub(super) since: Timestamp,
    pub(super) told: Told,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    episodes: Vec<Row>,
}

/// Its name in the state directory.
const FILE: &str = "episodes.json";

/// Its form.
const VERSION: u32 = 1;

impl Row {
    pub(super) fn new(subject: &Subject, since: Timestamp, told: Told) -> Self {
        let text = |it: &dyn ToString| it.to_string();
        Self {
            account: subject.account.as_ref().map(|it| text(it)),
            cause: subject.matter.cause().to_owned(),
            tenant: subject.matter.tenant().map(|it| text(it)),
            address: subject.matter.address().map(|it| it.0),
            since,
            told,
        }
    }

    /// What it is about; `None` if this version does not know the cause.
    pub(super) fn subject(&self) -> Option<Subject> {
        let tenant = self.tenant.as_deref();
        let tenant = tenant.and_then(|tenant| Tenant::parse(tenant).ok());
        let matter = Matter::of(&self.cause, tenant, self.address.map(Published))?;
        let account = self.account.as_deref().map(Account::from_normal);
        Some(Subject { account, matter })
    }
}

/// What an earlier process left; nothing if there is no file. It blocks on the disk.
pub(super) fn read(state_dir: &Path) -> io::Result<Vec<Row>> {
    let bytes = match fs::read(state_dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let document: Document = serde_json::from_slice(&bytes)?;
    Ok(document.episodes)
}

/// Writes them, so that either these or those before are there. It blocks on the disk.
pub(super) fn write(state_dir: &Path, episodes: Vec<Row>) -> io::Result<()> {
    let document = Document {
        version: VERSION,
        episodes,
    };
    let new = state_dir.join(format!("{FILE}.new"));
    let mut file = File::create(&new)?;
    serde_json::to_writer_pretty(&mut file, &document)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&new, state_dir.join(FILE))?;
    File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn episodes_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let subject = Subject {
            account: Some(Account::from_normal("acme.cybozu.com")),
            matter: Matter::CredentialsRefused(Tenant::parse("one").ok()),
        };
        let told = Told {
            customers: true,
            operators: false,
        };
        let row = Row::new(&subject, Timestamp::UNIX_EPOCH, told);
        write(dir.path(), vec![row.clone()]).unwrap();
        let again = read(dir.path()).unwrap();
        assert_eq!(again, [row]);
        assert_eq!(again[0].subject(), Some(subject));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(read(dir.path()).is_err());
    }
}
