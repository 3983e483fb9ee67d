//! `[public]`: what the customers' page says of whose it is.

use super::read::{Section, Value};
use super::shape::Public;
use super::source::shown;

/// Longest text of the page that the file gives, in characters.
const TEXT_MAX: usize = 200;

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
