//! `[verify]`: who says as which address we leave.

use std::time::Duration;

use super::read::{Section, Value};

/// `[verify]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// Echoes of the caller's address.
    pub urls: Vec<String>,
    /// What has changed is known within this time.
    pub interval: Duration,
    /// Longest wait for an echo.
    pub timeout: Duration,
    /// How long the last verdict stands without an answer.
    pub unknown_for: Duration,
    /// What echoes are asked for beside the addresses.
    pub connections: Vouching,
    /// Shortest time from one question for connections to the next.
    pub connection_pause: Duration,
}

/// Which connections to kintone wait for an echo's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouching {
    /// Each new one: it carries nothing before an echo that was asked later has seen the address.
    Each,
    /// None: what the echoes said last, up to an interval ago, is good for it.
    Interval,
}

impl Vouching {
    /// It in a word, as in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Each => "each",
            Self::Interval => "interval",
        }
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Longest wait for an echo, unless a third of `interval` is shorter.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);

/// About as long as a TLS handshake with kintone takes, so that it is hardly felt.
const PAUSE: Duration = Duration::from_millis(50);

const VOUCHINGS: [(&str, Vouching); 2] = [
    (Vouching::Each.word(), Vouching::Each),
    (Vouching::Interval.word(), Vouching::Interval),
];

/// Reads `[verify]`.
pub(super) fn read(root: &mut Section<'_>) -> Option<Verify> {
    let mut section = root.section("verify");
    if !section.is_present() {
        return None;
    }
    let single = section.get("url").and_then(|value| echo(&value));
    let several = section
        .get("urls")
        .and_then(|value| value.list_of("URLs", echo));
    let is_named = |urls: &Value<'_>| urls.raw().as_array().is_none_or(|urls| !urls.is_empty());
    match (section.get("url"), section.get("urls")) {
        (Some(_), Some(_)) => {
            section.fault("url", "stands beside `urls`", "expected one of the two");
        }
        (Some(_), None) => {}
        (None, Some(urls)) if is_named(&urls) => {}
        (None, _) => section.fault(
            "urls",
            "names no echo",
            "expected such as [\"https://echo.example/ip\"]",
        ),
    }
    let interval = section.or("interval", 30 * SECOND, |value| {
        value.duration(SECOND..=24 * HOUR)
    });
    let unknown_for = section.or("unknown_for", 900 * SECOND, |value| {
        value.duration(SECOND..=7 * 24 * HOUR)
    });
    let timeout = section.or("timeout", (interval / 3).min(ECHO_TIMEOUT), |value| {
        value.duration(MS..=HOUR)
    });
    if timeout > interval / 2 {
        section.fault(
            "timeout",
            "is more than half of `interval`",
            "expected less, so that an echo that is asked in time can also answer in time",
        );
    }
    if unknown_for < interval {
        section.warn(
            "unknown_for",
            "is shorter than `interval`, so one lost answer takes the addresses out",
            "expected several intervals",
        );
    }
    let connections = section.or("connections", Vouching::Each, |value| {
        value.word(&VOUCHINGS)
    });
    let connection_pause = section.or("connection_pause", PAUSE.min(timeout), |value| {
        value.duration(MS..=HOUR)
    });
    if connections == Vouching::Each && connection_pause > timeout {
        section.fault(
            "connection_pause",
            "is longer than `timeout`, and calls wait for it",
            "expected a part of a second, or connections = \"interval\"",
        );
    }
    section.finish();
    Some(Verify {
        urls: several.into_iter().flatten().chain(single).collect(),
        interval,
        timeout,
        unknown_for,
        connections,
        connection_pause,
    })
}

/// The URL of an echo. Not shown: it may hold credentials.
fn echo(value: &Value<'_>) -> Option<String> {
    const ECHO: &str = "a URL such as \"https://echo.example/ip\"";
    let text = value.text(ECHO)?;
    let is_url = text.parse::<http::Uri>().is_ok_and(|url| {
        let authority = url.authority().map_or("", |authority| authority.as_str());
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
            // It is asked by IPv4, which is what customers allow.
            && !authority.contains(['@', '['])
    });
    if is_url {
        Some(text.to_owned())
    } else {
        value.fault(
            "is not such a URL",
            format!("expected {ECHO}, without credentials"),
        )
    }
}
