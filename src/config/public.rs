//! `[public]` and `[evidence]`: what customers are told.

use super::read::{Section, Value};
use super::shape::{Evidence, Public};
use super::source::shown;

/// Longest text of the page that the file gives, in characters.
const TEXT_MAX: usize = 200;

/// Most days that a key may have.
const DAYS_MAX: u16 = 3650;

/// Reads `[public]`.
pub(super) fn read(root: &mut Section<'_>) -> Public {
    let mut section = root.section("public");
    let default = Public::default();
    let public = Public {
        service: section.get("service").and_then(|value| line(&value)),
        contact: section.get("contact").and_then(|value| line(&value)),
        url: section.get("url").and_then(|value| url(&value)),
        connections: section.or("connections", default.connections, |value| {
            value.integer(1..=100_000)
        }),
    };
    section.finish();
    public
}

/// Reads `[evidence]`.
pub(super) fn evidence(root: &mut Section<'_>) -> Evidence {
    let mut section = root.section("evidence");
    let default = Evidence::default();
    let evidence = Evidence {
        keep_days: section.or("keep", default.keep_days, days),
        accounts: section.or("accounts", default.accounts, |value| {
            value.integer(1..=100_000)
        }),
    };
    section.finish();
    evidence
}

/// Whole days, such as `30d`: people count so.
pub(super) fn days(value: &Value<'_>) -> Option<u16> {
    let allowed = format!("days from \"0d\" to \"{DAYS_MAX}d\", such as \"30d\"");
    let text = value.text(&allowed)?;
    let digits = text.strip_suffix('d');
    let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let days = digits.and_then(|digits| digits.parse().ok());
    match days.filter(|days| *days <= DAYS_MAX) {
        Some(days) => Some(days),
        None => value.fault(
            format!("is {}", shown(text)),
            format!("allowed is {allowed}"),
        ),
    }
}

/// One line for people to read.
fn line(value: &Value<'_>) -> Option<String> {
    let expected = format!("one line of at most {TEXT_MAX} characters");
    let text = value.text(&expected)?.trim();
    let is_line = !text.is_empty() && !text.chars().any(char::is_control);
    if is_line && text.chars().count() <= TEXT_MAX {
        Some(text.to_owned())
    } else {
        value.fault(
            format!("is {}", shown(text)),
            format!("expected {expected}"),
        )
    }
}

/// Where a page is: its files are named relative to it.
fn url(value: &Value<'_>) -> Option<String> {
    const URL: &str =
        "the page's URL that ends in \"/\", such as \"https://www.example.jp/kintone/\"";
    let text = value.text(URL)?;
    let is_page = text.parse::<http::Uri>().is_ok_and(|url| {
        let authority = url.authority().map_or("", |authority| authority.as_str());
        matches!(url.scheme_str(), Some("http" | "https"))
            && !authority.is_empty()
            && !authority.contains('@')
            && url.query().is_none()
            && text.ends_with('/')
    });
    if is_page {
        Some(text.to_owned())
    } else {
        value.fault(format!("is {}", shown(text)), format!("expected {URL}"))
    }
}
