//! The customers' page. Its texts are the files of `pages`.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha2::{Digest as _, Sha256};

use super::calendar::day;
use super::language::Language;
use super::list::{Entry, List};
use crate::config::{AddressState, Public};

/// The page's style, which the policy names by its hash.
const STYLE: &str = include_str!("pages/style.css");

/// Changes that the page shows, the latest ones.
const PAGE_CHANGES: usize = 20;

#[derive(Template)]
#[template(path = "page.ja.html")]
struct Ja<'a> {
    page: Page<'a>,
}

#[derive(Template)]
#[template(path = "page.en.html")]
struct En<'a> {
    page: Page<'a>,
}

struct Page<'a> {
    style: &'static str,
    /// The service, if the configuration names it; else it is called `service` in sentences only.
    name: Option<&'a str>,
    service: &'a str,
    contact: Option<&'a str>,
    /// What customers paste.
    line: String,
    /// How many addresses customers must allow.
    wanted: usize,
    rows: Vec<Row>,
    changes: Vec<Change>,
    updated: String,
    minimum_notice_days: u16,
    overlap_days: u16,
}

/// An address, and what is said of it.
struct Row {
    address: String,
    is_wanted: bool,
    state: &'static str,
    class: &'static str,
    text: String,
}

/// A change of the list.
struct Change {
    date: String,
    address: String,
    text: String,
}

/// The page in one language.
pub(super) fn render(list: &List, public: &Public, language: Language) -> String {
    let wanted: Vec<_> = list
        .wanted()
        .map(|entry| format!("{}/32", entry.address))
        .collect();
    let unnamed = match language {
        Language::Ja => "当サービス",
        Language::En => "our service",
    };
    let changes = list.changes.iter().take(PAGE_CHANGES).map(|change| Change {
        date: language.date(day(change.at)),
        address: change.address.to_string(),
        text: language.change(change.what),
    });
    let page = Page {
        style: STYLE,
        name: public.service.as_deref(),
        service: public.service.as_deref().unwrap_or(unnamed),
        contact: public.contact.as_deref(),
        line: wanted.join(", "),
        wanted: wanted.len(),
        rows: list
            .entries
            .iter()
            .map(|entry| row(entry, language))
            .collect(),
        changes: changes.collect(),
        updated: language.date(day(list.changed)),
        minimum_notice_days: list.minimum_notice_days,
        overlap_days: list.overlap_days,
    };
    let html = match language {
        Language::Ja => Ja { page }.render(),
        Language::En => En { page }.render(),
    };
    html.unwrap_or_default()
}

/// `Content-Security-Policy` of the page: its own style, and nothing else.
pub(super) fn policy() -> HeaderValue {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

fn row(entry: &Entry, language: Language) -> Row {
    let date = |date| language.date(date);
    let (from, until) = (entry.valid_from.map(date), entry.retire_after.map(date));
    let text = match (language, entry.state) {
        (Language::Ja, AddressState::Planned) => match from {
            Some(from) => format!("{from}から使用します。いまから登録してください"),
            None => "使用を予定しています。いまから登録してください".to_owned(),
        },
        (Language::Ja, AddressState::Active) => match (from, until) {
            (_, Some(until)) => format!("{until}に使用を終了します。それまで登録を残してください"),
            (Some(from), None) => format!("{from}から使用しています"),
            (None, None) => "以前から使用しています".to_owned(),
        },
        (Language::Ja, AddressState::Retiring) => {
            "もう使用していません。この一覧から消えたら、登録を削除してください".to_owned()
        }
        (Language::En, AddressState::Planned) => match from {
            Some(from) => format!("Will be used from {from}. Add it now"),
            None => "Will be used. Add it now".to_owned(),
        },
        (Language::En, AddressState::Active) => match (from, until) {
            (_, Some(until)) => format!("Will be used until {until}. Keep it until then"),
            (Some(from), None) => format!("In use since {from}"),
            (None, None) => "In use for a long time".to_owned(),
        },
        (Language::En, AddressState::Retiring) => {
            "No longer used. Remove it when it has left this list".to_owned()
        }
    };
    Row {
        address: entry.address.to_string(),
        is_wanted: entry.state != AddressState::Retiring,
        state: language.state(entry.state),
        class: entry.state.word(),
        text,
    }
}
