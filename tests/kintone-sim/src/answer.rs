//! Answers: their heads, and the body that carries a request's place to its last byte.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::Sleep;

use crate::tenant::Reported;
use crate::visit::Visit;

/// `Content-Type` of kintone's JSON.
pub(crate) const JSON: &str = "application/json;charset=utf-8";

/// An answer before it is given its visit.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
    /// The work was done.
    pub(crate) executed: bool,
}

/// What a body is made of.
pub(crate) enum Payload {
    Bytes(Bytes),
    /// So many bytes of [`synthetic`].
    Synthetic(u64),
    /// Bytes of [`synthetic`] without end.
    Endless,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_str(content_type)
            .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
        Self {
            status,
            headers: vec![(CONTENT_TYPE, content_type)],
            payload: Payload::Bytes(body.into()),
            executed: false,
        }
    }

    /// The answer to work that was done.
    pub(crate) fn done(body: &Value) -> Self {
        Self {
            executed: true,
            ..Self::new(StatusCode::OK, JSON, body.to_string())
        }
    }

    pub(crate) fn unknown_tenant() -> Self {
        Self::html(StatusCode::NOT_FOUND, "404 Not Found")
    }

    pub(crate) fn html(status: StatusCode, text: &str) -> Self {
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"ja\"><head><meta charset=\"utf-8\"><title>{text}</title></head><body><p>{text}</p></body></html>\n"
        );
        Self::new(status, "text/html;charset=utf-8", page)
    }

    pub(crate) fn text(status: StatusCode, text: &'static str) -> Self {
        Self::new(status, "text/plain;charset=utf-8", text)
    }

    pub(crate) fn unavailable() -> Self {
        Self::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
    }

    pub(crate) fn overload() -> Self {
        Self::html(
            StatusCode::BAD_GATEWAY,
            "一時的な過負荷かメンテナンスのため、アクセスできません。",
        )
    }

    pub(crate) fn redirect_to_login() -> Self {
        Self::html(StatusCode::FOUND, "Found").with("location", "/login")
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        ));
        self
    }

    /// Says what every answer made by kintone says of the account.
    pub(crate) fn report(mut self, reported: Reported) -> Self {
        for (name, value) in [
            ("x-concurrencylimit-limit", reported.limit),
            ("x-concurrencylimit-running", reported.running),
        ] {
            self.headers
                .push((HeaderName::from_static(name), HeaderValue::from(value)));
        }
        self
    }
}

/// How a body is handed out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Largest piece, bytes; 0: no limit.
    pub(crate) bytes: usize,
    /// Wait before each piece.
    pub(crate) tick: Duration,
    pub(crate) end: BodyEnd,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// With its last byte, which `Content-Length` announced.
    #[default]
    Announced,
    /// Never: all bytes come in chunks, the last chunk does not.
    Never,
}

/// The body of an answer. Just before its last piece is handed over, its visit is over.
pub(crate) struct AnswerBody {
    payload: Payload,
    sent: u64,
    pace: Pace,
    tick: Option<Pin<Box<Sleep>>>,
    visit: Option<Visit>,
}

impl AnswerBody {
    pub(crate) fn respond(answer: Answer, pace: Pace, visit: Visit) -> Response<Self> {
        let mut response = Response::new(Self {
            payload: answer.payload,
            sent: 0,
            pace,
            tick: None,
            visit: Some(visit),
        });
        *response.status_mut() = answer.status;
        response.headers_mut().extend(answer.headers);
        response
    }

    fn left(&self) -> Option<u64> {
        match &self.payload {
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Synthetic(length) => Some(length - self.sent),
            Payload::Endless => None,
        }
    }

    fn take(&mut self) -> Bytes {
        let most = if self.pace.bytes == 0 {
            usize::MAX
        } else {
            self.pace.bytes
        };
        let piece = match &mut self.payload {
            Payload::Bytes(bytes) => bytes.split_to(bytes.len().min(most)),
            Payload::Synthetic(length) => {
                synthetic(self.sent, (*length - self.sent).min(most as u64))
            }
            Payload::Endless => synthetic(self.sent, most as u64),
        };
        self.sent += piece.len() as u64;
        piece
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left() == Some(0) {
            return match self.pace.end {
                BodyEnd::Announced => Poll::Ready(None),
                BodyEnd::Never => {
                    if let Some(visit) = &self.visit {
                        visit.stall();
                    }
                    Poll::Pending
                }
            };
        }
        if !self.pace.tick.is_zero() {
            let wait = self.pace.tick;
            let tick = self
                .tick
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            ready!(tick.as_mut().poll(cx));
            self.tick = None;
        }
        let piece = self.take();
        if self.is_end_stream()
            && let Some(visit) = self.visit.take()
        {
            visit.complete();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == Some(0) && self.pace.end == BodyEnd::Announced
    }

    fn size_hint(&self) -> SizeHint {
        match (self.left(), self.pace.end) {
            (Some(left), BodyEnd::Announced) => SizeHint::with_exact(left),
            (Some(_) | None, BodyEnd::Announced | BodyEnd::Never) => SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    /// A body without bytes, and that of an answer to HEAD, is dropped without having been asked for a piece.
    fn drop(&mut self) {
        let whole = self.is_end_stream();
        if let Some(visit) = self.visit.take() {
            if whole || (visit.is_head() && self.sent == 0) {
                visit.complete();
            } else {
                visit.abandon();
            }
        }
    }
}

/// Length of the pattern that [`synthetic`] repeats: a prime, so that no power of two of it looks alike.
const PERIOD: u64 = 65_521;

/// A piece, of at most `most` bytes, of the endless file from which `synthetic-<bytes>` takes its first bytes.
pub(crate) fn synthetic(offset: u64, most: u64) -> Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    let pattern =
        PATTERN.get_or_init(|| (0..PERIOD).map(|n| crate::draw::nth(1, n) as u8).collect());
    let from = offset % PERIOD;
    let until = PERIOD.min(from.saturating_add(most));
    pattern.slice(from as usize..until as usize)
}

/// The SHA-256, hex, of the first so many bytes of that file.
pub(crate) fn synthetic_sha256(length: u64) -> String {
    let mut hash = Sha256::new();
    let mut offset = 0;
    while offset < length {
        let piece = synthetic(offset, length - offset);
        hash.update(&piece);
        offset += piece.len() as u64;
    }
    crate::head::hex(&hash.finalize())
}
