//! The mails of a turn: one for each who is told of it. Pure.

use jiff::Timestamp;

use super::contacts;
use super::job::Mail;
use super::label::{Folder, Kind, Label};
use super::letter::{self, House, Letter, News, When};
use super::matter::{Audience, Subject};
use super::memory::Told;
use crate::config::{Config, Notify};
use crate::model::AppId;

/// What all mails of this moment have in common.
pub(super) struct Drafts<'a> {
    pub(super) config: &'a Config,
    pub(super) notify: &'a Notify,
    pub(super) house: House,
    pub(super) now: Timestamp,
}

impl Drafts<'_> {
    /// The mails to those whom `told` names.
    pub(super) fn of_turn(
        &self,
        subject: &Subject,
        turn: When,
        told: Told,
        budget: Option<(AppId, u64)>,
    ) -> Vec<Mail> {
        let kind = match turn {
            When::Begins(_) => Kind::Begin,
            When::Ends { .. } => Kind::End,
        };
        let reference = letter::reference(subject, turn.since());
        let contacts = contacts::of(subject, self.config);
        let mut mails = Vec::new();
        for (audience, is_told, recipients) in [
            (Audience::Customers, told.customers, &contacts),
            (Audience::Operators, told.operators, &self.notify.operators),
        ] {
            if !is_told || recipients.is_empty() {
                continue;
            }
            let letter = letter::write(&News {
                subject,
                turn,
                audience,
                budget,
                customers: contacts.len(),
                house: &self.house,
            });
            let label = self.label(subject, kind, audience, reference.clone());
            mails.extend(to_each(recipients, &label, &letter));
        }
        mails
    }

    /// What operators are told when the mails of a cause are held.
    pub(super) fn of_held(&self, subject: &Subject, accounts: usize) -> Vec<Mail> {
        let letter = letter::write_held(&subject.matter, accounts, self.now, &self.house);
        let reference = letter::reference(subject, self.now);
        let label = Label {
            account: None,
            address: None,
            ..self.label(subject, Kind::Held, Audience::Operators, reference)
        };
        to_each(&self.notify.operators, &label, &letter)
    }

    fn label(&self, subject: &Subject, kind: Kind, audience: Audience, reference: String) -> Label {
        Label {
            reference,
            kind,
            cause: subject.matter.cause().to_owned(),
            account: subject.account.as_ref().map(ToString::to_string),
            address: subject.matter.address().map(|address| address.0),
            audience,
            from: self.notify.from.clone(),
            to: String::new(),
            created: self.now,
            due: match kind {
                Kind::Begin => self.now + self.notify.brake.rest,
                Kind::End | Kind::Held => self.now,
            },
        }
    }
}

fn to_each(recipients: &[String], label: &Label, letter: &Letter) -> Vec<Mail> {
    let mail = |to: &String| Mail {
        label: Label {
            to: to.clone(),
            ..label.clone()
        },
        letter: letter.clone(),
        folder: Folder::Queue,
    };
    recipients.iter().map(mail).collect()
}
