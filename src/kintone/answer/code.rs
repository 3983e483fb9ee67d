//! kintone's error codes.

use http::HeaderMap;

/// kintone's error code beside the JSON body.
pub const ERROR_CODE: &str = "x-cybozu-error";

/// The code of a call refused because too many were running: nothing was executed.
pub const TOO_MANY_RUNNING: &str = "GAIA_TO04";

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
