//! Everything that is published, rendered: the one source of the listener and of the files for a CDN.

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use sha2::{Digest as _, Sha256};

use super::language::Language;
use super::list::List;
use super::{feeds, page};
use crate::config::Public;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name; the Japanese page is `index.html`.
    pub name: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// What is in it.
    pub bytes: Bytes,
    /// Tells it from every other content (RFC 9110 section 8.8.3).
    pub etag: HeaderValue,
    /// When it changed last, to the second.
    pub modified: Timestamp,
    /// The same as a header (RFC 9110 section 8.8.2).
    pub last_modified: HeaderValue,
}

/// All files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Each of them.
    pub documents: Vec<Document>,
    /// `Content-Security-Policy`: nothing but the page's own style.
    pub policy: HeaderValue,
}

/// The page in Japanese.
pub const PAGE_JA: &str = "index.html";
/// The page in English.
pub const PAGE_EN: &str = "index.en.html";
/// The list in JSON.
pub const JSON: &str = "egress-ips.json";
/// One CIDR a line.
pub const TEXT: &str = "egress-ips.txt";
/// What cybozu.com imports.
pub const CSV: &str = "egress-ips.csv";
/// The changes.
pub const ATOM: &str = "egress-ips.atom";

impl Site {
    /// Renders `list`. `now` is when this rendering became the one that is shown: texts may be new
    /// although the list is old.
    #[must_use]
    pub fn render(list: &List, public: &Public, now: Timestamp) -> Self {
        let html = |language| page::render(list, public, language).into_bytes();
        let feed = |name, kind, bytes| Document::new(name, kind, bytes, list.changed);
        let page = |name, bytes| {
            let modified = list.changed.max(now);
            Document::new(name, "text/html; charset=utf-8", bytes, modified)
        };
        Self {
            documents: vec![
                page(PAGE_JA, html(Language::Ja)),
                page(PAGE_EN, html(Language::En)),
                feed(JSON, "application/json", feeds::json(list, public).into()),
                feed(TEXT, "text/plain; charset=utf-8", feeds::text(list).into()),
                feed(CSV, "text/csv; charset=Shift_JIS", feeds::csv(list, public)),
                feed(
                    ATOM,
                    "application/atom+xml; charset=utf-8",
                    feeds::atom(list, public).into(),
                ),
            ],
            policy: page::policy(),
        }
    }

    /// The file of that name.
    #[must_use]
    pub fn document(&self, name: &str) -> Option<&Document> {
        self.documents.iter().find(|document| document.name == name)
    }
}

impl Document {
    fn new(name: &'static str, kind: &'static str, bytes: Vec<u8>, modified: Timestamp) -> Self {
        let digest = Sha256::digest(&bytes);
        let tag: String = digest[..12]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let modified = Timestamp::from_second(modified.as_second()).unwrap_or(modified);
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&modified);
        let header = |text: String| {
            HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
        };
        Self {
            name,
            kind,
            bytes: bytes.into(),
            etag: header(format!("\"{tag}\"")),
            modified,
            last_modified: header(date.unwrap_or_default()),
        }
    }
}
