//! kintone's error in the body of an answer.

use std::ops::ControlFlow;

use super::code::is_code;
use super::coded::{CodedReader, Coding, Read};
use crate::kintone::json::{Seek, Step, Value};

/// Longest identifier of a failure that is logged, in bytes. kintone's have 20.
const ID_MAX: usize = 64;

/// Reads the body of a failed answer, to learn kintone's error from it.
pub struct ErrorReader(CodedReader<Finder>);

/// What the body of a failed answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// An error of kintone's.
    Error {
        /// Such as `GAIA_RE01`.
        code: &'a str,
        /// kintone's identifier of this failure.
        id: Option<&'a str>,
    },
    /// An error of OAuth's token endpoint (RFC 6749 section 5.2).
    OAuth(OAuthError),
    /// No error of kintone's: it was made before kintone.
    NoError,
    /// Not known: it cannot be decompressed, or goes on too long.
    Unreadable,
}

/// What OAuth refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuthError {
    /// The client, its secret, or what it was granted.
    Credentials,
    /// Something else about the request.
    Request,
}

/// Whether the answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// What was read is all of it.
    Whole,
    /// There is more.
    More,
}

#[derive(Debug, Default)]
struct Finder {
    code: Option<Box<str>>,
    id: Option<Box<str>>,
    oauth: Option<OAuthError>,
}

impl ErrorReader {
    /// For an answer that is compressed so.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        Self(CodedReader::new(coding, Finder::default()))
    }

    /// Reads the next piece, of any size.
    pub fn feed(&mut self, piece: &[u8]) {
        self.0.feed(piece);
    }

    /// Whether nothing more is to be learned.
    #[must_use]
    pub fn knows(&self) -> bool {
        matches!(self.0.read(), Read::Enough | Read::Unreadable)
    }

    /// What the body says, as far as it was read.
    #[must_use]
    pub fn said(&self, end: BodyEnd) -> Said<'_> {
        let found = self.0.seek();
        if let Some(code) = found.and_then(|found| found.code.as_deref()) {
            let id = found.and_then(|found| found.id.as_deref());
            return Said::Error { code, id };
        }
        if let Some(error) = found.and_then(|found| found.oauth) {
            return Said::OAuth(error);
        }
        match (self.0.read(), end) {
            (Read::Enough, _) | (Read::Nothing | Read::Open, BodyEnd::Whole) => Said::NoError,
            (Read::Nothing | Read::Open, BodyEnd::More) | (Read::Unreadable, _) => Said::Unreadable,
        }
    }
}

impl Finder {
    fn is_whole(&self) -> ControlFlow<()> {
        if self.code.is_some() && self.id.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Seek for Finder {
    fn value(&mut self, path: &[Step], value: Value<'_>) -> ControlFlow<()> {
        let Value::Text(text) = value else {
            return ControlFlow::Continue(());
        };
        let Ok(text) = std::str::from_utf8(text) else {
            return ControlFlow::Continue(());
        };
        match path {
            // A bulk request that failed has the results of all its requests, one an error.
            [Step::Code] | [Step::Results, Step::Element, Step::Code] if is_code(text) => {
                self.code.get_or_insert_with(|| text.into());
            }
            [Step::Id] | [Step::Results, Step::Element, Step::Id] if text.len() <= ID_MAX => {
                self.id.get_or_insert_with(|| text.into());
            }
            [Step::Error] => self.oauth = oauth(text),
            _ => {}
        }
        self.is_whole()
    }

    fn closed(&mut self, path: &[Step]) -> ControlFlow<()> {
        if path == [Step::Results, Step::Element] {
            if self.code.is_some() {
                return ControlFlow::Break(());
            }
            // The identifier of something that did not fail.
            self.id = None;
        }
        ControlFlow::Continue(())
    }
}

fn oauth(word: &str) -> Option<OAuthError> {
    match word {
        "invalid_client" | "invalid_grant" | "unauthorized_client" | "access_denied" => {
            Some(OAuthError::Credentials)
        }
        "invalid_request" | "invalid_scope" | "unsupported_grant_type" => Some(OAuthError::Request),
        _ => None,
    }
}
