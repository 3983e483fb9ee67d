//! The gateway's own pages on the proxy listener.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, header};

use super::answer::Answer;
use super::exchange::Exchange;
use super::help;
use super::message::Language;
use super::shared::Rules;
use crate::model::Outcome;
use crate::tls::trust_pem;

/// What callers are to trust, PEM.
pub(super) fn trust_page(rules: &Rules, exchange: Exchange) -> Response<Answer> {
    let text = rules.config.inspect.as_ref().map(trust_pem);
    shown(exchange);
    let page = Bytes::from(text.unwrap_or_default());
    own_page(page, "application/x-pem-file")
}

/// How clients are set up. It may be shown to people who were sent there, so that it may load and
/// run nothing.
pub(super) fn help_page(
    rules: &Rules,
    head: &Parts,
    language: Language,
    exchange: Exchange,
) -> Response<Answer> {
    let connects = match rules.config.inspect {
        Some(_) => help::Connects::Inspected,
        None => help::Connects::Tunnelled,
    };
    let page = help::page(&head.headers, language, connects);
    shown(exchange);
    let mut response = own_page(Bytes::from(page), "text/html;charset=utf-8");
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::VARY, "Accept-Language"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Ends the record of a page of the gateway's own.
pub(super) fn shown(mut exchange: Exchange) {
    exchange.record().status = Some(200);
    exchange.ended(Outcome::Ok, None);
}

/// One of the gateway's own pages, which no cache may keep.
pub(super) fn own_page(page: Bytes, kind: &'static str) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(page));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    response
}
