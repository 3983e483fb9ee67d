//! What kintone's answer says: how many calls it has running, and why it failed this one.

use http::{HeaderMap, StatusCode};

use crate::model::{Actor, Cause};

/// kintone's error code beside the JSON body.
pub const ERROR_CODE: &str = "x-cybozu-error";

/// The code of a call refused because too many were running: nothing was executed.
pub const TOO_MANY_RUNNING: &str = "GAIA_TO04";

/// `X-ConcurrencyLimit-*` of an answer
/// (<https://cybozu.dev/ja/kintone/miscellaneous/archive-tips/limit-processing-by-kintone-rest-api-concurrent-connections>).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// How many calls the account may have running.
    pub limit: Option<u32>,
    /// How many it had, this one included.
    pub running: Option<u32>,
}

impl Concurrency {
    /// Reads both headers; what is missing or not a number is `None`.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let number = |name| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            limit: number("x-concurrencylimit-limit"),
            running: number("x-concurrencylimit-running"),
        }
    }
}

/// The error code in the headers of an answer, if it looks like one of kintone's (`GAIA_TO04`,
/// `CB_WA01`).
#[must_use]
pub fn code_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(ERROR_CODE)?
        .to_str()
        .ok()
        .filter(|code| is_code(code))
}

/// Whether `text` has the form of kintone's error codes: at most 32 of `A-Z0-9_`.
#[must_use]
pub fn is_code(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

/// Why an answer of 400 or above failed, by its code and status. Message texts follow the user's
/// language and are never looked at.
#[must_use]
pub fn cause(status: StatusCode, code: Option<&str>) -> Cause {
    match code {
        Some(code) => by_code(code).unwrap_or_else(|| {
            if status.is_server_error() && status.as_u16() != LEGACY_ERROR {
                Cause::UpstreamError
            } else {
                Cause::Unclassified
            }
        }),
        None => by_status(status),
    }
}

/// Before October 2024 kintone answered nearly every application error with this status.
const LEGACY_ERROR: u16 = 520;

fn by_code(code: &str) -> Option<Cause> {
    Some(match code {
        TOO_MANY_RUNNING => Cause::AccountConcurrency,
        "GAIA_TM12" => Cause::CursorCapacity,
        "CB_AU01" | "CB_WA01" | "GAIA_IA02" => Cause::Authentication,
        "CB_NO02" | "GAIA_NO01" => Cause::Permission,
        "GAIA_AP01" | "GAIA_RE01" | "GAIA_RE02" | "GAIA_RE20" | "GAIA_BL01" | "GAIA_CN01" => {
            Cause::NotFound
        }
        "GAIA_CO02" | "GAIA_CO03" => Cause::Conflict,
        "GAIA_DA02" | "GAIA_RE18" => Cause::DatabaseLock,
        _ => return None,
    })
}

/// An answer without kintone's code was made before kintone: at its edge, which knows addresses
/// and domains but no apps.
fn by_status(status: StatusCode) -> Cause {
    match status.as_u16() {
        401 | 403 => Cause::IpNotAllowlisted,
        404 => Cause::AccountUnknown,
        502 | 503 => Cause::Maintenance,
        500..=599 => Cause::UpstreamError,
        _ => Cause::Unclassified,
    }
}

/// Who must act about it.
#[must_use]
pub const fn actor(cause: Cause) -> Actor {
    match cause {
        Cause::IpNotAllowlisted | Cause::Permission | Cause::AccountUnknown => Actor::Customer,
        Cause::Maintenance | Cause::UpstreamError => Actor::Kintone,
        Cause::AccountConcurrency
        | Cause::CursorCapacity
        | Cause::Authentication
        | Cause::NotFound
        | Cause::Conflict
        | Cause::DatabaseLock
        | Cause::Unclassified => Actor::Caller,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_before_statuses() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        for (code, answer, expected) in [
            (429, Some("GAIA_TO04"), Cause::AccountConcurrency),
            (429, Some("GAIA_TM12"), Cause::CursorCapacity),
            (401, Some("CB_WA01"), Cause::Authentication),
            (520, Some("CB_WA01"), Cause::Authentication),
            (403, Some("CB_NO02"), Cause::Permission),
            (403, None, Cause::IpNotAllowlisted),
            (401, None, Cause::IpNotAllowlisted),
            (404, Some("GAIA_RE01"), Cause::NotFound),
            (404, None, Cause::AccountUnknown),
            (409, Some("GAIA_CO02"), Cause::Conflict),
            (400, Some("GAIA_DA02"), Cause::DatabaseLock),
            (503, None, Cause::Maintenance),
            (502, None, Cause::Maintenance),
            (500, None, Cause::UpstreamError),
            (500, Some("CB_XX99"), Cause::UpstreamError),
            (520, Some("CB_XX99"), Cause::Unclassified),
            (400, Some("CB_VA01"), Cause::Unclassified),
            (429, None, Cause::Unclassified),
        ] {
            assert_eq!(cause(status(code), answer), expected, "{code} {answer:?}");
        }
    }

    #[test]
    fn concurrency_headers_that_are_no_numbers_are_unknown() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-concurrencylimit-limit",
            http::HeaderValue::from_static("100"),
        );
        headers.insert(
            "x-concurrencylimit-running",
            http::HeaderValue::from_static("many"),
        );
        assert_eq!(
            Concurrency::read(&headers),
            Concurrency {
                limit: Some(100),
                running: None
            }
        );
    }
}
