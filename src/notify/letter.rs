//! What is told, in words: one letter for each turn of an episode, Japanese first and English below.
//! Pure.
//!
//! The order is that in which people read: what happens, since when, its effect, what to do, where,
//! whom to ask, the reference. A customer's letter names no other tenant, caller or app, and links to
//! nothing but the public page and Cybozu's help.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use sha2::{Digest as _, Sha256};

use super::announce::{Planned, Stage};
use super::matter::{Audience, Matter, Subject};
use super::words::{self, Words};
use super::{english, japanese};
use crate::config::{Config, Language, Notify, Public};
use crate::model::{AppId, Published};

/// Stands between the languages.
const BETWEEN: &str = "\n----------------------------------------\n\n";

/// One letter, before it becomes a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// One line.
    pub subject: String,
    /// Plain text, lines end in `\n`.
    pub body: String,
}

/// What a letter tells.
#[derive(Clone, Debug)]
pub struct News<'a> {
    /// What it is about.
    pub subject: &'a Subject,
    /// Beginning or end.
    pub turn: When,
    /// Who reads it.
    pub audience: Audience,
    /// The app whose budget is meant, and how much of it is used up, in percent.
    pub budget: Option<(AppId, u64)>,
    /// Whether the customer is told too, for operators to know.
    pub customers: Customers,
    /// What all letters have in common.
    pub house: &'a House,
}

/// Whether the customer is told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Customers {
    /// So many contacts are.
    Told(usize),
    /// Nobody is configured.
    NoContacts,
    /// Operators alone are told, by their webhook.
    NoMail,
    /// An end of whose beginning no customer was told.
    NotTold,
}

/// Beginning or end, by the clock on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It began then, and goes on.
    Begins(Timestamp),
    /// It began and is over.
    Ends {
        /// When it was first seen.
        since: Timestamp,
        /// The success that has stood since.
        well_since: Timestamp,
    },
}

/// What all letters have in common.
#[derive(Clone, Debug)]
pub struct House {
    /// Which language stands first.
    pub language: Language,
    /// The published addresses in use.
    pub addresses: Vec<Published>,
    /// The service as customers know it.
    pub service: Option<String>,
    /// Whom customers ask.
    pub contact: String,
    /// The public page.
    pub page: Option<String>,
    /// This host.
    pub host: String,
}

/// The paragraphs of a letter, in their order.
#[derive(Clone, Debug)]
pub(super) struct Paragraphs {
    pub(super) what: String,
    pub(super) effect: String,
    pub(super) action: String,
    pub(super) place: String,
}

/// Whose mails are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Customers'.
    Customers,
    /// Nobody's: operators alone are told of that cause.
    Nobody,
}

impl When {
    /// When it was first seen.
    #[must_use]
    pub const fn since(self) -> Timestamp {
        match self {
            Self::Begins(since) | Self::Ends { since, .. } => since,
        }
    }

    /// The success that has stood since, of what is over.
    #[must_use]
    pub const fn well_since(self) -> Option<Timestamp> {
        match self {
            Self::Begins(_) => None,
            Self::Ends { well_since, .. } => Some(well_since),
        }
    }
}

impl House {
    /// What the configuration says of it; `addresses` are the published ones in use.
    #[must_use]
    pub fn of(config: &Config, notify: &Notify, addresses: Vec<Published>) -> Self {
        let Public {
            service,
            contact,
            url,
            ..
        } = &config.public;
        let mail = notify.mail.as_ref();
        // Without mail operators alone read it.
        let sender = || mail.map_or_else(|| config.fleet.host.clone(), |mail| mail.from.clone());
        Self {
            language: notify.language,
            addresses,
            service: service.clone(),
            contact: contact.clone().unwrap_or_else(sender),
            page: url.clone(),
            host: config.fleet.host.clone(),
        }
    }

    /// The lines that a customer enters.
    #[must_use]
    pub fn lines(&self) -> String {
        let lines = self.addresses.iter();
        let lines = lines.map(|address| format!("  {address}/32\n"));
        lines.collect()
    }
}

/// The reference of an episode: the same in every letter about it, and nothing can be read from it.
#[must_use]
pub fn reference(subject: &Subject, since: Timestamp) -> String {
    let account = subject.account.as_ref().map_or("", |it| it.as_str());
    let tenant = subject.matter.tenant().map_or("", |it| it.as_str());
    let address = subject.matter.address().map(|it| it.to_string());
    let told = format!(
        "{account}\n{tenant}\n{}\n{}\n{}",
        subject.matter.cause(),
        address.unwrap_or_default(),
        since.as_millisecond()
    );
    reference_to(&told)
}

fn reference_to(told: &str) -> String {
    let hash = Sha256::digest(told.as_bytes());
    let digits: String = hash
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02X}"))
        .collect();
    format!("KE-{digits}")
}

/// The letter about `news`.
#[must_use]
pub fn write(news: &News<'_>) -> Letter {
    let reference = reference(news.subject, news.turn.since());
    let (first, second) = languages(news.house.language);
    let mut body = String::new();
    write_in(&mut body, first, news, &reference);
    if let Some(second) = second {
        body.push_str(BETWEEN);
        write_in(&mut body, second, news, &reference);
    }
    Letter {
        subject: subject_line(first, news),
        body,
    }
}

/// What operators are told when so many accounts fail for one cause that nobody else is told before they
/// decide.
#[must_use]
pub fn write_held(matter: &Matter, accounts: usize, at: Timestamp, house: &House) -> Letter {
    let (cause, at, host) = (matter.cause(), time(at), &house.host);
    let held = match matter.concerns_customers() {
        true => Held::Customers,
        false => Held::Nobody,
    };
    let mut body = japanese::held(cause, accounts, &at, host, held);
    if house.language == Language::Ja {
        body.push_str(BETWEEN);
    } else {
        body.clear();
    }
    body.push_str(&english::held(cause, accounts, &at, host, held));
    let subject = match house.language {
        Language::Ja => {
            format!("【運用】kintone連携: {accounts} アカウントで {cause} が発生しています")
        }
        Language::En => format!("[Operations] kintone integration: {cause} at {accounts} accounts"),
    };
    Letter { subject, body }
}

/// The reference of an announcement to an account.
#[must_use]
pub(super) fn reference_of_announcement(
    subject: &Subject,
    planned: Planned,
    stage: Stage,
) -> String {
    let account = subject.account.as_ref().map_or("", |it| it.as_str());
    let Planned { address, from } = planned;
    let from = from.map_or_else(String::new, |from| from.to_string());
    reference_to(&format!("{account}\n{address}\n{from}\n{stage:?}"))
}

/// What customers are told of an address that will be used.
#[must_use]
pub(super) fn write_announcement(
    subject: &Subject,
    planned: Planned,
    reference: &str,
    house: &House,
) -> Letter {
    let (first, second) = languages(house.language);
    let mut body = String::new();
    for (nth, words) in std::iter::once(first).chain(second).enumerate() {
        if nth > 0 {
            body.push_str(BETWEEN);
        }
        let (when, paragraphs) = (words.announcement)(subject, planned, house);
        write_paragraphs(&mut body, words, &when, &paragraphs, house, reference);
    }
    Letter {
        subject: (first.announcement_subject)(planned),
        body,
    }
}

/// What is sent to try the mail server.
#[must_use]
pub fn write_test(at: Timestamp, house: &House) -> Letter {
    let (host, at) = (&house.host, time(at));
    let japanese = format!(
        "これは kintone-egress(ホスト {host})からの試験メールです({at})。対応は必要ありません。\n"
    );
    let english =
        format!("This is a test by kintone-egress on host {host} ({at}). Nothing is to be done.\n");
    match house.language {
        Language::Ja => Letter {
            subject: "【試験】kintone連携: メール送信の確認".to_owned(),
            body: format!("{japanese}\n{english}"),
        },
        Language::En => Letter {
            subject: "[Test] kintone integration: does mail arrive?".to_owned(),
            body: english,
        },
    }
}

fn subject_line(words: &Words, news: &News<'_>) -> String {
    let mark = match (news.turn, news.audience) {
        (When::Ends { .. }, _) => words.mark_over,
        (When::Begins(_), _) if news.subject.matter.concerns_customers() => words.mark_action,
        (When::Begins(_), _) => words.mark_operators,
    };
    let topic = (words.topic)(news);
    match &news.subject.account {
        Some(account) => {
            let Words {
                prefix,
                before_account,
                ..
            } = words;
            format!("{mark}{prefix}{topic}{before_account}{account})")
        }
        None => format!("{mark}{}{topic}", words.prefix),
    }
}

fn write_in(body: &mut String, words: &Words, news: &News<'_>, reference: &str) {
    if news.audience == Audience::Operators {
        body.push_str(&(words.to_operators)(news));
        body.push('\n');
    }
    let when = match news.turn {
        When::Begins(since) => (words.since)(&time(since)),
        When::Ends { since, well_since } => (words.from_to)(&time(since), &time(well_since)),
    };
    let paragraphs = (words.paragraphs)(news);
    write_paragraphs(body, words, &when, &paragraphs, news.house, reference);
}

fn write_paragraphs(
    body: &mut String,
    words: &Words,
    when: &str,
    paragraphs: &Paragraphs,
    house: &House,
    reference: &str,
) {
    let Paragraphs {
        what,
        effect,
        action,
        place,
    } = paragraphs;
    let whom = match &house.service {
        Some(service) => format!("{service}: {}", house.contact),
        None => house.contact.clone(),
    };
    let texts = [what, when, effect, action, place, &whom, reference];
    for (heading, text) in words.headings.iter().zip(texts) {
        let _ = write!(body, "{heading}\n{}\n\n", text.trim_end());
    }
    while body.ends_with("\n\n") {
        body.pop();
    }
}

/// The language that stands first, and the one below it.
const fn languages(language: Language) -> (&'static Words, Option<&'static Words>) {
    match language {
        Language::Ja => (&words::JA, Some(&words::EN)),
        Language::En => (&words::EN, None),
    }
}

/// A moment in Japan, such as `2026-11-26 11:05 JST`.
fn time(moment: Timestamp) -> String {
    let japan = TimeZone::fixed(Offset::constant(9));
    let there = moment.to_zoned(japan);
    there.strftime("%Y-%m-%d %H:%M JST").to_string()
}

#[cfg(test)]
mod tests;
