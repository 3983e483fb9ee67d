//! What the desk has decided, carried out on the disk.

use std::path::Path;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::label::{Folder, Kind, Label};
use super::letter::Letter;
use super::mail::{Envelope, compose};
use super::matter::Audience;
use super::memory::{self, Row};
use super::spool::Spool;
use crate::config::SpoolTerms;
use crate::model::Published;

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Mails of a beginning.
    Begin(Vec<Mail>),
    /// Mails of an end; whoever's mail of the beginning was not sent yet gets neither.
    End(String, Vec<Mail>),
    /// Customers' mails of a cause are held, and operators are told once instead of account by account.
    Hold(String, Vec<Mail>),
    /// Nobody is asked to allow this address any more.
    Withdraw(Published),
    /// The episodes that people were told of.
    Save(Vec<Row>),
}

/// A mail to be written.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) label: Label,
    pub(super) letter: Letter,
    pub(super) folder: Folder,
}

/// What was found out when it was done.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Episodes of which operators were not told after all.
    pub(super) hushed: Vec<String>,
    /// Episodes of which nobody was told after all: the address is not seen to be right.
    pub(super) withdrawn: Vec<String>,
}

/// Does it. It blocks on the disk.
pub(super) fn carry_out(
    spool: &Spool,
    terms: SpoolTerms,
    state_dir: &Path,
    jobs: Vec<Job>,
) -> Found {
    let mut found = Found::default();
    for job in jobs {
        let now = Timestamp::now();
        match job {
            Job::Begin(mails) => put_all(spool, terms, &mails, now),
            Job::End(reference, mut mails) => {
                let begin =
                    |label: &Label| label.reference == reference && label.kind == Kind::Begin;
                let unsent = spool.withdraw(now, begin);
                mails.retain(|mail| unsent.iter().all(|label| label.to != mail.label.to));
                put_all(spool, terms, &mails, now);
            }
            Job::Hold(cause, mails) => {
                let of_cause = |label: &Label| label.cause == cause && label.kind == Kind::Begin;
                spool.hold(now, |label| {
                    of_cause(label) && label.audience == Audience::Customers
                });
                let hushed = spool.withdraw(now, |label| {
                    of_cause(label) && label.audience == Audience::Operators
                });
                found
                    .hushed
                    .extend(hushed.into_iter().map(|it| it.reference));
                put_all(spool, terms, &mails, now);
            }
            Job::Withdraw(address) => {
                let asks =
                    |label: &Label| label.kind == Kind::Begin && label.address == Some(address.0);
                let withdrawn = spool.withdraw_resting(now, asks);
                found
                    .withdrawn
                    .extend(withdrawn.into_iter().map(|it| it.reference));
            }
            Job::Save(rows) => {
                if let Err(error) = memory::write(state_dir, rows) {
                    tracing::error!(%error, "the open episodes cannot be written: after a restart \
                        people are told again");
                }
            }
        }
    }
    found
}

fn put_all(spool: &Spool, terms: SpoolTerms, mails: &[Mail], now: Timestamp) {
    for Mail {
        label,
        letter,
        folder,
    } in mails
    {
        let id = message_id(&label.reference, label.kind, &label.to);
        let follows =
            (label.kind == Kind::End).then(|| message_id(&label.reference, Kind::Begin, &label.to));
        let envelope = Envelope {
            from: &label.from,
            to: &label.to,
            id: &id,
            follows: follows.as_deref(),
            at: label.created,
        };
        let reference = &label.reference;
        let put = match compose(&envelope, letter) {
            Ok(mail) => spool
                .put(&spool.new_id(now), label.clone(), &mail, *folder, terms)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = put {
            tracing::error!(
                error,
                reference,
                "a mail cannot be kept, and nobody gets it"
            );
        }
    }
}

/// What makes a mail known: the same when it is sent twice, and no address can be read from it.
fn message_id(reference: &str, kind: Kind, to: &str) -> String {
    let hash = Sha256::digest(to.as_bytes());
    let digits: String = hash
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{reference}.{}.{digits}", kind.name())
}
