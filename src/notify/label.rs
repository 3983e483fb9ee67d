//! What is known of a message in the spool: whose it is, by which way and when it goes, and its state.

use std::fs::File;
use std::io::{self, BufRead as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::matter::Audience;

/// What is known of a mail without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The episode, or what else it belongs to.
    pub reference: String,
    /// Which of its mails.
    pub kind: Kind,
    /// The cause.
    pub cause: String,
    /// The account, if it is about one.
    pub account: Option<String>,
    /// The published address that it asks to allow.
    pub address: Option<Ipv4Addr>,
    /// Who reads it.
    pub audience: Audience,
    /// By which way it goes.
    #[serde(default)]
    pub way: Way,
    /// The sender; empty where none is named.
    pub from: String,
    /// The recipient: an address, or [`WEBHOOK`].
    pub to: String,
    /// When it was written.
    pub created: Timestamp,
    /// Not sent before.
    pub due: Timestamp,
}

/// The recipient of what goes by the webhook. Its URL is a secret, and may change while a message waits.
pub const WEBHOOK: &str = "webhook";

/// By which way a message goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// As a mail.
    #[default]
    Mail,
    /// As JSON to the operators' webhook.
    Webhook,
}

/// Which mail of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It begins.
    Begin,
    /// It is over.
    End,
    /// Operators are told that customers' mails are held.
    Held,
    /// An address will be used.
    Announcement,
    /// An operator tries whether it arrives.
    Test,
}

/// The state of a mail: the folder that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// To be sent.
    Queue,
    /// Held until an operator decides.
    Held,
    /// Undeliverable.
    Dead,
}

/// Why a mail is not in the spool.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There are too many already.
    #[error("{0} mails wait already ([notify] mails_max)")]
    Full(usize),
    /// The disk does not take it.
    #[error("{path} cannot be written: {source}", path = path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// How many mails are in which state, and what became of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// To be sent, those that rest among them.
    pub queued: usize,
    /// Held until an operator decides.
    pub held: usize,
    /// Undeliverable ones that are kept.
    pub dead: usize,
    /// When the oldest of those to be sent was due.
    pub oldest_due: Option<Timestamp>,
    /// Taken by the server.
    pub sent: u64,
    /// Given up.
    pub given_up: u64,
    /// Not taken into the spool.
    pub refused: u64,
}

impl Kind {
    /// Its word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
            Self::Held => "held",
            Self::Announcement => "announcement",
            Self::Test => "test",
        }
    }
}

impl Way {
    /// What goes by it, for the log.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::Webhook => "webhook message",
        }
    }
}

impl Folder {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Queue, Self::Held, Self::Dead];

    /// Its name on the disk.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Held => "held",
            Self::Dead => "dead",
        }
    }
}

impl Label {
    /// What makes the message known: the same when it is sent twice, and no address can be read from it.
    #[must_use]
    pub fn id(&self) -> String {
        self.id_of(self.kind)
    }

    /// What makes the message of another kind about the same known.
    pub(super) fn id_of(&self, kind: Kind) -> String {
        let hash = Sha256::digest(self.to.as_bytes());
        let digits: String = hash
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{}.{}.{digits}", self.reference, kind.name())
    }

    /// The label of the mail in a file. It blocks on the disk.
    ///
    /// # Errors
    /// What the kernel said, or that it is no label.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut line = String::new();
        io::BufReader::new(File::open(path)?).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}
