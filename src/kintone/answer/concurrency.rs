//! kintone's figures of the calls that an account has running.

use http::HeaderMap;

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

#[cfg(test)]
mod tests {
    use super::*;

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
