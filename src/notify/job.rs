//! What the desk has decided, carried out on the disk.

use std::path::Path;

use jiff::Timestamp;

use super::announce::Announced;
use super::label::{Folder, Kind, Label, Way};
use super::letter::Letter;
use super::mail::{Envelope, compose};
use super::matter::Audience;
use super::memory::{self, Row};
use super::notice::{self, Facts};
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
    /// What was announced.
    SaveAnnounced(Announced),
    /// The episodes that people were told of.
    Save(Vec<Row>),
}

/// A message to be written.
#[derive(Clone, Debug)]
pub(super) struct Mail {
    pub(super) label: Label,
    pub(super) facts: Facts,
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
            Job::SaveAnnounced(announced) => {
                if let Err(error) = announced.write(state_dir) {
                    tracing::error!(%error, "what was announced cannot be written: after a restart \
                        customers are told again");
                }
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
        facts,
        letter,
        folder,
    } in mails
    {
        let put = match content(label, facts, letter) {
            Ok(content) => spool
                .put(&spool.new_id(now), label.clone(), &content, *folder, terms)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        if let Err(error) = put {
            tracing::error!(
                error,
                reference = label.reference,
                "a {} cannot be kept, and nobody gets it",
                label.way.noun()
            );
        }
    }
}

/// The bytes of a message as they go out.
fn content(label: &Label, facts: &Facts, letter: &Letter) -> Result<Vec<u8>, String> {
    match label.way {
        Way::Mail => {
            let follows = (label.kind == Kind::End).then(|| label.id_of(Kind::Begin));
            let envelope = Envelope {
                from: &label.from,
                to: &label.to,
                id: &label.id(),
                follows: follows.as_deref(),
                at: label.created,
            };
            compose(&envelope, letter).map_err(|error| error.to_string())
        }
        Way::Webhook => notice::compose(label, facts, letter).map_err(|error| error.to_string()),
    }
}
