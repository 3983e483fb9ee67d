//! What kintone's answer says: how many calls it has running, and why it failed this one.

use http::StatusCode;

use crate::model::{Actor, Cause};

pub use code::{ERROR_CODE, TOO_MANY_RUNNING, code_of, is_code};
pub use coded::Coding;
pub use concurrency::Concurrency;
pub use cursor::CursorReader;
pub use edge::{Edge, edge};
pub use error::{BodyEnd, ErrorReader, OAuthError, Said};

mod code;
mod coded;
mod concurrency;
mod cursor;
mod edge;
mod error;

/// Why an answer of 400 or above failed, by its status, the code in its headers, and what its body
/// says. Message texts follow the user's language and are never looked at.
#[must_use]
pub fn cause(status: StatusCode, code: Option<&str>, said: Said<'_>) -> Cause {
    match (code, said) {
        (Some(code), _) | (None, Said::Error { code, .. }) => {
            by_code(code).unwrap_or_else(|| unknown(status))
        }
        (None, Said::OAuth(OAuthError::Credentials)) => Cause::Authentication,
        (None, Said::OAuth(OAuthError::Request) | Said::Unreadable) => unknown(status),
        (None, Said::NoError) => by_status(status),
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
        // The last one: somebody else moved the record on to another status.
        "GAIA_CO02" | "GAIA_CO03" | "GAIA_IL03" => Cause::Conflict,
        "GAIA_DA02" | "GAIA_RE18" => Cause::DatabaseLock,
        _ => return None,
    })
}

/// The cause of an answer that is kintone's, or may be, but says nothing that is known.
fn unknown(status: StatusCode) -> Cause {
    if status.is_server_error() && status.as_u16() != LEGACY_ERROR {
        Cause::UpstreamError
    } else {
        Cause::Unclassified
    }
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
    fn codes_decide_before_statuses_and_headers_before_bodies() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        let json = |code| Said::Error { code, id: None };
        for (code, header, said, expected) in [
            (401, Some("CB_WA01"), Said::NoError, Cause::Authentication),
            (401, None, json("CB_WA01"), Cause::Authentication),
            (403, Some("GAIA_NO01"), json("CB_WA01"), Cause::Permission),
            (401, None, Said::NoError, Cause::IpNotAllowlisted),
            (403, None, Said::Unreadable, Cause::Unclassified),
            (404, None, Said::Unreadable, Cause::Unclassified),
            (503, None, Said::Unreadable, Cause::UpstreamError),
            (500, None, json("CB_XX99"), Cause::UpstreamError),
            (520, None, json("CB_XX99"), Cause::Unclassified),
            (520, None, Said::NoError, Cause::UpstreamError),
        ] {
            assert_eq!(
                cause(status(code), header, said),
                expected,
                "{code} {said:?}"
            );
        }
    }
}
