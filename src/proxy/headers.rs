//! Which header fields go further, in both directions.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    VIA,
};
use http::{Method, StatusCode, Uri, Version};
use http_body::Body;

use super::options::PREFIX;
use crate::model::Host;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// Fields that end at this hop whatever `Connection` says (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields about the caller's own tracing, which is nobody's business outside.
const TRACING: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// How a request's body is framed on its way to kintone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As the remaining headers say: a Content-Length, or no body.
    Declared,
    /// The caller sent chunks, or pieces of HTTP/2 without a length: so we send chunks.
    Chunked,
}

impl Framing {
    /// That of a request whose body is at its end already, or is not.
    pub(crate) fn of(headers: &HeaderMap, received: Version, body: &impl Body) -> Self {
        let is_in_pieces = received == Version::HTTP_2
            && !headers.contains_key(CONTENT_LENGTH)
            && !body.is_end_stream();
        if is_in_pieces || headers.contains_key(TRANSFER_ENCODING) {
            Self::Chunked
        } else {
            Self::Declared
        }
    }
}

/// Makes a caller's headers into kintone's: nothing of this hop, nothing of the gateway, Host from
/// the target alone (RFC 9112 section 3.2.2), our entry in Via with the version received.
pub(crate) fn to_kintone(
    headers: &mut HeaderMap,
    host: &Host,
    received: Version,
    framing: Framing,
) {
    strip_hop(headers);
    strip_own(headers);
    headers.remove(PROXY_AUTHORIZATION);
    for name in &TRACING {
        headers.remove(name);
    }
    if received == Version::HTTP_2 {
        join_cookies(headers);
    }
    let host = HeaderValue::from_str(host.as_str()).expect("a host name is a valid field value");
    headers.insert(HOST, host);
    headers.append(VIA, via(received));
    if framing == Framing::Chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes a caller's headers into those by which a call is handed to another host of ours: nothing of
/// this hop, nothing of the gateway, no credentials for it. The rest is the other host's to change.
pub(crate) fn to_peer(headers: &mut HeaderMap, host: &Host, received: Version, framing: Framing) {
    let trailers = Trailers::of(headers, received);
    strip_hop(headers);
    strip_own(headers);
    headers.remove(PROXY_AUTHORIZATION);
    if received == Version::HTTP_2 {
        join_cookies(headers);
    }
    let host = HeaderValue::from_str(host.as_str()).expect("a host name is a valid field value");
    headers.insert(HOST, host);
    if trailers == Trailers::Taken {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if framing == Framing::Chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Takes out of another host's answer what belongs to the connection between the two.
pub(crate) fn from_peer(headers: &mut HeaderMap, trailers: Trailers) {
    strip_hop(headers);
    if trailers == Trailers::Dropped {
        headers.remove(TRAILER);
    }
}

/// Puts cookies together that HTTP/2 may bring in pieces (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<_> = headers.get_all(COOKIE).iter().collect();
    if pieces.len() < 2 {
        return;
    }
    let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes()).collect();
    let mut joined = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
        .expect("values of a field, joined by a valid separator");
    joined.set_sensitive(true);
    headers.insert(COOKIE, joined);
}

/// Takes out an expectation of a 100 that nothing would wait for (RFC 9110 section 10.1.1): a client
/// must not say it without content, a server must not hear it from HTTP/1.0.
pub(crate) fn strip_expectation(headers: &mut HeaderMap) {
    let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get(EXPECT).is_some_and(asks) {
        headers.remove(EXPECT);
    }
}

/// What the caller of an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trailers {
    /// It said `TE: trailers` (RFC 9110 section 10.1.4).
    Taken,
    Dropped,
}

impl Trailers {
    /// What a caller's headers say.
    pub(crate) fn of(headers: &HeaderMap, version: Version) -> Self {
        let mut members = headers
            .get_all(TE)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','));
        let taken = members.any(|member| member.trim_ascii().eq_ignore_ascii_case(b"trailers"));
        if taken && version >= Version::HTTP_11 {
            Self::Taken
        } else {
            Self::Dropped
        }
    }
}

/// Makes kintone's headers into the caller's.
pub(crate) fn to_caller(
    headers: &mut HeaderMap,
    status: StatusCode,
    received: Version,
    trailers: Trailers,
) {
    strip_hop(headers);
    strip_own(headers);
    headers.remove(PROXY_AUTHENTICATION_INFO);
    headers.remove(PROXY_AUTHENTICATE);
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // A 407 without a challenge must not leave (RFC 9110 section 15.5.8), and the only proxy
        // that the caller can talk to is this one.
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    if trailers == Trailers::Dropped {
        headers.remove(TRAILER);
    }
    if let Some(Length::Known(length)) = content_length(headers) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    headers.append(VIA, via(received));
}

/// How the gateway asks who calls (RFC 7617 section 2).
pub(crate) const CHALLENGE: &str = "Basic realm=\"kintone-egress\"";

/// Takes out of a trailer section what may not pass (RFC 9110 section 6.5.1): fields of the hop, of
/// the gateway, of routing.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_hop(trailers);
    strip_own(trailers);
    for name in TRACING
        .iter()
        .chain(&[HOST, PROXY_AUTHORIZATION, PROXY_AUTHENTICATE, VIA])
    {
        trailers.remove(name);
    }
}

/// Whether it is beyond doubt where kintone's answer ends. hyper is content with less: it lets a
/// Transfer-Encoding win over a Content-Length (RFC 9112 section 6.3), takes codings that nobody
/// asked for, and does not look where no body may follow.
pub(crate) fn is_well_framed(headers: &HeaderMap, version: Version) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => content_length(headers) != Some(Length::Invalid),
        (Some(coding), None) => {
            version >= Version::HTTP_11
                && coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && !headers.contains_key(CONTENT_LENGTH)
        }
        (Some(_), Some(_)) => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known(u64),
    Invalid,
}

/// The one value of all Content-Lengths (RFC 9110 section 8.6).
fn content_length(headers: &HeaderMap) -> Option<Length> {
    let members = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(|member| parse_length(member.trim_ascii()));
    members.reduce(|one, other| if one == other { one } else { Length::Invalid })
}

fn parse_length(digits: &[u8]) -> Length {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Length::Invalid;
    }
    let parsed = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.map_or(Length::Invalid, Length::Known)
}

/// The request target towards kintone: path and query exactly as they came, an empty path as `/`
/// (RFC 9112 section 3.2.1).
pub(crate) fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    }
}

/// The request target of an OPTIONS about the server (RFC 9112 section 3.2.4).
pub(crate) fn asterisk_form() -> Uri {
    Uri::from_static("*")
}

/// How far an OPTIONS may still go (RFC 9110 section 7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    /// To kintone.
    On,
    /// Not beyond here.
    Last,
}

/// Counts the hops of an OPTIONS down. What is no number counts for nothing.
pub(crate) fn count_hop(method: &Method, headers: &mut HeaderMap) -> Hops {
    if method != Method::OPTIONS {
        return Hops::On;
    }
    let left = headers
        .get(MAX_FORWARDS)
        .map(|value| parse_length(value.as_bytes()));
    match left {
        Some(Length::Known(0)) => Hops::Last,
        Some(Length::Known(left)) => {
            headers.insert(MAX_FORWARDS, (left - 1).into());
            Hops::On
        }
        Some(Length::Invalid) | None => Hops::On,
    }
}

fn strip_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn strip_own(headers: &mut HeaderMap) {
    let own: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(PREFIX))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

fn via(received: Version) -> HeaderValue {
    if received == Version::HTTP_10 {
        HeaderValue::from_static("1.0 kintone-egress")
    } else if received == Version::HTTP_2 {
        HeaderValue::from_static("2 kintone-egress")
    } else {
        HeaderValue::from_static("1.1 kintone-egress")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn what_connection_names_ends_here() {
        let mut headers = map(&[
            ("connection", "close, X-Private"),
            ("connection", "x-more"),
            ("x-private", "1"),
            ("x-more", "1"),
            ("x-kept", "1"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eDp5"),
            ("kintone-egress-tenant", "t"),
            ("kintone-egress-anything", "t"),
            ("traceparent", "00-0-0-00"),
            ("baggage", "a=b"),
            ("host", "evil.example"),
            ("via", "1.1 other"),
        ]);
        to_kintone(
            &mut headers,
            &Host::from_normal("acme.cybozu.com"),
            Version::HTTP_10,
            Framing::Declared,
        );
        let mut left: Vec<_> = headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.to_str().unwrap()))
            .collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("host", "acme.cybozu.com"),
                ("via", "1.0 kintone-egress"),
                ("via", "1.1 other"),
                ("x-kept", "1"),
            ]
        );
    }

    #[test]
    fn repeated_lines_keep_their_order() {
        let mut headers = map(&[
            ("x-cybozu-api-token", "b"),
            ("x-cybozu-api-token", "a"),
            ("transfer-encoding", "chunked"),
        ]);
        to_kintone(
            &mut headers,
            &Host::from_normal("acme.cybozu.com"),
            Version::HTTP_11,
            Framing::Chunked,
        );
        let tokens: Vec<_> = headers.get_all("x-cybozu-api-token").iter().collect();
        assert_eq!(tokens, ["b", "a"]);
        assert_eq!(headers[TRANSFER_ENCODING], "chunked");
    }

    #[test]
    fn upstream_cannot_speak_for_the_gateway() {
        let mut headers = map(&[
            ("kintone-egress-request-id", "forged"),
            ("proxy-authenticate", "Basic"),
            ("x-concurrencylimit-running", "1"),
        ]);
        let ok = StatusCode::OK;
        to_caller(&mut headers, ok, Version::HTTP_11, Trailers::Dropped);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers[VIA], "1.1 kintone-egress");
    }

    #[test]
    fn the_target_keeps_its_bytes() {
        let target = |uri: &str| origin_form(&uri.parse().unwrap()).to_string();
        assert_eq!(
            target("https://a.cybozu.com/k/v1/r.json?query=a%20%3D%22b%22&&x"),
            "/k/v1/r.json?query=a%20%3D%22b%22&&x"
        );
        assert_eq!(target("https://a.cybozu.com"), "/");
        assert_eq!(target("https://a.cybozu.com?x=1"), "/?x=1");
        assert_eq!(asterisk_form().to_string(), "*");
    }

    #[test]
    fn lengths_that_disagree_are_no_length() {
        for (values, expected) in [
            (vec!["2", "2"], Some(Length::Known(2))),
            (vec!["2, 2"], Some(Length::Known(2))),
            (vec!["2", "3"], Some(Length::Invalid)),
            (vec!["2,"], Some(Length::Invalid)),
            (vec!["+2"], Some(Length::Invalid)),
            (vec![], None),
        ] {
            let pairs: Vec<_> = values.iter().map(|v| ("content-length", *v)).collect();
            assert_eq!(content_length(&map(&pairs)), expected, "{values:?}");
        }
    }
}
