//! The mails of a turn: one for each who is told of it. Pure.

use jiff::Timestamp;

use super::announce::{Planned, Stage};
use super::contacts;
use super::job::Mail;
use super::label::{Folder, Kind, Label, WEBHOOK, Way};
use super::letter::{self, Customers, House, Letter, News, When};
use super::matter::{Audience, Matter, Subject};
use super::memory::Told;
use super::notice::Facts;
use crate::config::{Config, Notify};
use crate::model::{Account, AppId};

/// What all mails of this moment have in common.
pub(super) struct Drafts<'a> {
    pub(super) config: &'a Config,
    pub(super) notify: &'a Notify,
    pub(super) house: House,
    pub(super) now: Timestamp,
}

/// Who is told, and by which way.
struct Recipient {
    way: Way,
    to: String,
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
        let contacts = self.contacts(subject);
        let facts = Facts {
            since: Some(turn.since()),
            until: turn.well_since(),
            ..self.facts(subject)
        };
        let customers = match contacts.len() {
            _ if self.notify.mail.is_none() => Customers::NoMail,
            _ if !told.customers => Customers::NotTold,
            0 => Customers::NoContacts,
            count => Customers::Told(count),
        };
        let mut mails = Vec::new();
        for (audience, is_told, recipients) in [
            (Audience::Customers, told.customers, &contacts),
            (Audience::Operators, told.operators, &self.operators()),
        ] {
            if !is_told || recipients.is_empty() {
                continue;
            }
            let letter = letter::write(&News {
                subject,
                turn,
                audience,
                budget,
                customers,
                house: &self.house,
            });
            let label = self.label(subject, kind, audience, reference.clone());
            mails.extend(to_each(recipients, &label, &facts, &letter));
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
        let facts = Facts {
            tenant: None,
            address: None,
            ..self.facts(subject)
        };
        to_each(&self.operators(), &label, &facts, &letter)
    }

    /// The announcement of an address to everybody's contacts whom `lacks` names, and to operators.
    pub(super) fn of_announcement(
        &self,
        planned: Planned,
        stage: Stage,
        lacks: impl Fn(&Account) -> bool,
    ) -> Vec<Mail> {
        let about = |account: Option<&Account>| Subject {
            account: account.cloned(),
            matter: Matter::AddressRefused(planned.address),
        };
        let mut mails = Vec::new();
        for account in self.config.accounts.keys().filter(|account| lacks(account)) {
            let subject = about(Some(account));
            let contacts = self.contacts(&subject);
            let (label, letter) = self.announcement(&subject, planned, stage, Audience::Customers);
            mails.extend(to_each(&contacts, &label, &self.facts(&subject), &letter));
        }
        let subject = about(None);
        let (label, letter) = self.announcement(&subject, planned, stage, Audience::Operators);
        let facts = self.facts(&subject);
        mails.extend(to_each(&self.operators(), &label, &facts, &letter));
        mails
    }

    /// The customers who are told, by mail alone.
    fn contacts(&self, subject: &Subject) -> Vec<Recipient> {
        if self.notify.mail.is_none() {
            return Vec::new();
        }
        let contacts = contacts::of(subject, self.config).into_iter();
        contacts.map(Recipient::by_mail).collect()
    }

    /// The operators, and their webhook.
    fn operators(&self) -> Vec<Recipient> {
        let mail = self.notify.mail.iter();
        let people = mail.flat_map(|mail| mail.operators.iter().cloned());
        let people = people.map(Recipient::by_mail);
        let hook = self.notify.webhook.iter().map(|_| Recipient {
            way: Way::Webhook,
            to: WEBHOOK.to_owned(),
        });
        people.chain(hook).collect()
    }

    fn facts(&self, subject: &Subject) -> Facts {
        let matter = &subject.matter;
        Facts {
            tenant: matter.tenant().map(ToString::to_string),
            address: matter.address().map(|address| address.0),
            since: None,
            until: None,
            host: self.house.host.clone(),
        }
    }

    fn announcement(
        &self,
        subject: &Subject,
        planned: Planned,
        stage: Stage,
        audience: Audience,
    ) -> (Label, Letter) {
        let reference = letter::reference_of_announcement(subject, planned, stage);
        let letter = letter::write_announcement(subject, planned, &reference, &self.house);
        let label = Label {
            cause: "announcement".to_owned(),
            address: None,
            ..self.label(subject, Kind::Announcement, audience, reference)
        };
        (label, letter)
    }

    fn label(&self, subject: &Subject, kind: Kind, audience: Audience, reference: String) -> Label {
        Label {
            reference,
            kind,
            cause: subject.matter.cause().to_owned(),
            account: subject.account.as_ref().map(ToString::to_string),
            address: subject.matter.address().map(|address| address.0),
            audience,
            way: Way::default(),
            from: self.sender(),
            to: String::new(),
            created: self.now,
            due: match kind {
                Kind::Begin => self.now + self.notify.brake.rest,
                Kind::End | Kind::Held | Kind::Announcement | Kind::Test => self.now,
            },
        }
    }

    fn sender(&self) -> String {
        let mail = self.notify.mail.as_ref();
        mail.map_or_else(String::new, |mail| mail.from.clone())
    }
}

impl Recipient {
    fn by_mail(to: String) -> Self {
        Self { way: Way::Mail, to }
    }
}

fn to_each(recipients: &[Recipient], label: &Label, facts: &Facts, letter: &Letter) -> Vec<Mail> {
    let mail = |Recipient { way, to }: &Recipient| Mail {
        label: Label {
            way: *way,
            to: to.clone(),
            ..label.clone()
        },
        facts: facts.clone(),
        letter: letter.clone(),
        folder: Folder::Queue,
    };
    recipients.iter().map(mail).collect()
}
