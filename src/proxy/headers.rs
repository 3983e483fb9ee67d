//! Which header fields go further, in both directions.

use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{Uri, Version};

use super::options::PREFIX;
use crate::model::Host;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

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
    /// The caller sent chunks, so we do.
    Chunked,
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
    let host = HeaderValue::from_str(host.as_str()).expect("a host name is a valid field value");
    headers.insert(HOST, host);
    headers.append(VIA, via(received));
    if framing == Framing::Chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Makes kintone's headers into the caller's.
pub(crate) fn to_caller(headers: &mut HeaderMap, received: Version) {
    strip_hop(headers);
    strip_own(headers);
    headers.remove(PROXY_AUTHENTICATE);
    headers.append(VIA, via(received));
}

/// The request target towards kintone: path and query exactly as they came, an empty path as `/`
/// (RFC 9110 section 4.2.3).
pub(crate) fn origin_form(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
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
        HeaderValue::from_static("2.0 kintone-egress")
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
        to_caller(&mut headers, Version::HTTP_11);
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
    }
}
