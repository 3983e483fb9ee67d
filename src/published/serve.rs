//! The public listener: what was rendered, to everybody, with conditional requests (RFC 9110
//! section 13) and nothing that runs.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{
    ACCEPT_LANGUAGE, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW,
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::documents::{ATOM, CSV, Document, JSON, PAGE_EN, PAGE_JA, Site, TEXT};
use super::language::Language;
use super::publisher::Publisher;

/// Caches may answer for five minutes, and for a day where this host does not: notice is given in
/// days.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300, stale-if-error=86400");

/// What there is not may be there soon.
const CACHE_NOTHING: HeaderValue = HeaderValue::from_static("public, max-age=60");

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

const ABSENT: &str = include_str!("pages/absent.html");

/// Answers with what `publisher` shows.
pub fn router(publisher: Arc<Publisher>) -> Router {
    Router::new().fallback(serve).with_state(publisher)
}

async fn serve(State(publisher): State<Arc<Publisher>>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    answer(&publisher.shown().site, &head).map(Body::from)
}

/// The answer to a request; hyper leaves the body of one to HEAD out.
pub(super) fn answer(site: &Site, head: &request::Parts) -> Response<bytes::Bytes> {
    if head.method == Method::OPTIONS {
        return preflight(site);
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut answer = plain(site, StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        answer.headers_mut().insert(ALLOW, METHODS);
        return answer;
    }
    let Some(document) = find(site, head) else {
        let mut answer = plain(site, StatusCode::NOT_FOUND, ABSENT);
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, html);
        return answer;
    };
    let mut answer = Response::new(bytes::Bytes::new());
    let headers = answer.headers_mut();
    describe(headers, site, document);
    if head.uri.path() == "/" {
        headers.insert(VARY, HeaderValue::from_static("Accept-Language"));
    }
    if is_known(&head.headers, document) {
        headers.remove(CONTENT_TYPE);
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        *answer.body_mut() = document.bytes.clone();
    }
    answer
}

fn find<'a>(site: &'a Site, head: &request::Parts) -> Option<&'a Document> {
    let path = head.uri.path().strip_prefix('/')?;
    if !path.is_empty() {
        return site.document(path);
    }
    let accept = head.headers.get(ACCEPT_LANGUAGE);
    let accept = accept.and_then(|value| value.to_str().ok());
    site.document(match Language::of(head.uri.query(), accept) {
        Language::Ja => PAGE_JA,
        Language::En => PAGE_EN,
    })
}

/// Whether the client has this content already.
fn is_known(headers: &HeaderMap, document: &Document) -> bool {
    let mut tags = headers.get_all(IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        let own = document.etag.to_str().unwrap_or_default();
        return tags
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == "*" || tag == own);
    }
    let since = headers.get(IF_MODIFIED_SINCE);
    let since = since.and_then(|value| value.to_str().ok());
    let since = since.and_then(|text| DateTimeParser::new().parse_timestamp(text).ok());
    since.is_some_and(|since: Timestamp| document.modified <= since)
}

fn describe(headers: &mut HeaderMap, site: &Site, document: &Document) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.kind));
    headers.insert(ETAG, document.etag.clone());
    headers.insert(LAST_MODIFIED, document.last_modified.clone());
    headers.insert(CACHE_CONTROL, CACHE);
    match document.name {
        PAGE_JA => headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("ja")),
        PAGE_EN => headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static("en")),
        CSV => headers.insert(
            CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"egress-ips.csv\""),
        ),
        _ => None,
    };
    if matches!(document.name, JSON | TEXT | CSV | ATOM) {
        share(headers);
    }
    protect(headers, site);
}

/// Scripts of any site may read the feeds.
fn share(headers: &mut HeaderMap) {
    let any = HeaderValue::from_static("*");
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("ETag, Last-Modified"),
    );
}

fn protect(headers: &mut HeaderMap, site: &Site) {
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(CONTENT_SECURITY_POLICY, site.policy.clone());
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A browser asks whether a script may make a conditional request.
fn preflight(site: &Site) -> Response<bytes::Bytes> {
    let mut answer = plain(site, StatusCode::NO_CONTENT, "");
    let headers = answer.headers_mut();
    headers.remove(CONTENT_TYPE);
    headers.insert(ALLOW, METHODS);
    share(headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("If-None-Match, If-Modified-Since"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    answer
}

fn plain(site: &Site, status: StatusCode, text: &'static str) -> Response<bytes::Bytes> {
    let mut answer = Response::new(bytes::Bytes::from_static(text.as_bytes()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, CACHE_NOTHING);
    protect(headers, site);
    answer
}
