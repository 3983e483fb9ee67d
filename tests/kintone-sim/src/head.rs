//! The head of a request, read once.

use http::{HeaderMap, Method, Request};
use sha2::{Digest, Sha256};

use crate::error::Language;
use crate::ledger::{Execution, Stamp};
use crate::server::Connection;
use crate::world::domain_of;

/// What the head of a request says.
pub(crate) struct Head {
    pub(crate) host: String,
    pub(crate) domain: String,
    pub(crate) method: Method,
    /// The method that counts.
    pub(crate) effective: Method,
    /// As sent, before the path is split off.
    pub(crate) target_length: usize,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
}

impl Head {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let headers = request.headers().clone();
        let host = text(&headers, "host").to_owned();
        let uri = request.uri();
        Self {
            domain: domain_of(&host),
            host,
            method: request.method().clone(),
            effective: effective(request.method(), &headers),
            target_length: uri
                .path_and_query()
                .map_or(0, |target| target.as_str().len()),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            headers,
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    pub(crate) fn language(&self) -> Language {
        let accepts = self.text("accept-language");
        if accepts.starts_with("ja") {
            Language::Ja
        } else if accepts.starts_with("en") {
            Language::En
        } else {
            Language::Unsaid
        }
    }

    /// The ledger's line of this request.
    pub(crate) fn execution(&self, connection: &Connection, start: Stamp) -> Execution {
        let raw = connection.wire.take_head();
        Execution {
            socket: connection.peer.socket,
            peer: connection.peer.peer,
            host: self.host.clone(),
            domain: self.domain.clone(),
            method: self.method.to_string(),
            effective_method: self.effective.to_string(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: as_spelled(&raw, &self.method).unwrap_or_else(|| as_parsed(&self.headers)),
            body_length: 0,
            body_sha256: String::new(),
            file_sha256: None,
            start,
            end: None,
            status: 0,
            auth: self.credentials_hash(),
            admitted: false,
            executed: false,
            client_left: false,
            fault: None,
        }
    }

    /// Hash of all credentials, so that two callers can be told apart and nothing secret is kept.
    fn credentials_hash(&self) -> String {
        const CREDENTIALS: [&str; 4] = [
            "x-cybozu-authorization",
            "x-cybozu-api-token",
            "authorization",
            "cookie",
        ];
        let mut hash = Sha256::new();
        let mut any = None;
        for name in CREDENTIALS {
            for value in self.headers.get_all(name) {
                hash.update(name);
                hash.update(b"\0");
                hash.update(value.as_bytes());
                hash.update(b"\n");
                any = Some(());
            }
        }
        any.map(|()| hex(&hash.finalize()[..16]))
            .unwrap_or_default()
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// `X-HTTP-Method-Override` counts on POST only, and only in capitals.
fn effective(method: &Method, headers: &HeaderMap) -> Method {
    if *method != Method::POST {
        return method.clone();
    }
    match text(headers, "x-http-method-override") {
        "GET" => Method::GET,
        "PUT" => Method::PUT,
        "DELETE" => Method::DELETE,
        _ => Method::POST,
    }
}

/// The header lines of a head as they stood on the wire; `None` when these bytes are not a head of this method.
fn as_spelled(raw: &[u8], method: &Method) -> Option<Vec<(String, String)>> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]);
    let mut lines = head.split("\r\n").skip_while(|line| line.is_empty());
    lines
        .next()
        .filter(|line| line.split(' ').next() == Some(method.as_str()))?;
    lines
        .map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        })
        .collect()
}

fn as_parsed(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect()
}
