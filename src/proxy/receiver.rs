//! What a caller's request says about the answer that it can take.

use http::request::Parts;
use http::{HeaderMap, Version, header};

use super::answer::HowEnds;
use super::headers::Trailers;

/// What a caller's request says about the answer that it can take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receiver {
    version: Version,
    pub(crate) trailers: Trailers,
}

impl Receiver {
    /// What that head says.
    pub(crate) fn of(head: &Parts) -> Self {
        Self {
            version: head.version,
            trailers: Trailers::of(&head.headers, head.version),
        }
    }

    /// How it can tell the end of an answer with these headers: HTTP/1.0 knows no chunks.
    pub(crate) fn how_ends(self, headers: &HeaderMap) -> HowEnds {
        if self.version >= Version::HTTP_11 || headers.contains_key(header::CONTENT_LENGTH) {
            HowEnds::Framed
        } else {
            HowEnds::ByClose
        }
    }
}
