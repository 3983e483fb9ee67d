//! What a request inside an inspected connection asks for. It must be for the host that CONNECT
//! named, whatever its form: origin form (RFC 9112 section 3.2.1), absolute form (section 3.2.2), or
//! the pseudo-headers of HTTP/2 (RFC 9113 section 8.3.1).

use http::request::Parts;
use http::{HeaderValue, Method, Version, header};

use super::request::{Target, check_framing, check_host, split};
use crate::model::{Denial, Detail, Host};

/// The port that CONNECT named, which is HTTPS's own.
const PORT: u16 = 443;

/// Reads the head of a request in a connection to `host`.
///
/// # Errors
/// [`Denial::BadRequest`] with what is wrong, [`Denial::Misdirected`] if it is for somebody else.
pub(crate) fn read<'a>(head: &Parts, host: &'a Host) -> Result<Target<'a>, Denial> {
    if head.version < Version::HTTP_2 || head.headers.contains_key(header::HOST) {
        check_host(&head.headers, head.version)?;
    } else if head.uri.authority().is_none() {
        return Err(Denial::bad_request(Detail::HostMissing));
    }
    check_framing(&head.headers, head.version)?;
    if head.method == Method::TRACE || head.method == Method::CONNECT {
        return Err(Denial::BadRequest {
            status: 405,
            detail: Detail::MethodForbidden,
        });
    }
    check_target(head, host)?;
    match head.headers.get(header::HOST) {
        Some(named) if !is_host(named, host) => Err(Denial::Misdirected),
        Some(_) | None => Ok(Target::Inside {
            host: host.as_str(),
        }),
    }
}

fn check_target(head: &Parts, host: &Host) -> Result<(), Denial> {
    let uri = &head.uri;
    let is_about_server = head.method == Method::OPTIONS && uri.path() == "*";
    match (uri.scheme_str(), uri.authority()) {
        (None, Some(_)) => Err(Denial::bad_request(Detail::Unparsable)),
        (_, None) if uri.path().starts_with('/') || is_about_server => Ok(()),
        (_, None) => Err(Denial::bad_request(Detail::Unparsable)),
        (Some("https" | "http"), Some(authority)) => match split(authority.as_str())? {
            (name, None | Some(PORT)) if name.eq_ignore_ascii_case(host.as_str()) => {
                if uri.path().starts_with('/') || is_about_server {
                    Ok(())
                } else {
                    Err(Denial::bad_request(Detail::Unparsable))
                }
            }
            _ => Err(Denial::Misdirected),
        },
        (Some(_), Some(_)) => Err(Denial::bad_request(Detail::SchemeUnknown)),
    }
}

/// Whether a Host names `host`, with its port or without.
fn is_host(named: &HeaderValue, host: &Host) -> bool {
    let named = named.as_bytes();
    let (name, port) = named.split_at(named.len().min(host.as_str().len()));
    name.eq_ignore_ascii_case(host.as_str().as_bytes()) && matches!(port, b"" | b":" | b":443")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(
        method: &str,
        uri: &str,
        version: Version,
        host: Option<&str>,
    ) -> Result<(), Denial> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .version(version);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let head = request.body(()).unwrap().into_parts().0;
        read(&head, &Host::from_normal("acme.cybozu.com")).map(|_| ())
    }

    #[test]
    fn every_form_for_the_connected_host_is_taken() {
        for (method, uri, version, host) in [
            (
                "GET",
                "/k/v1/app.json?id=1",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
            ),
            ("GET", "/", Version::HTTP_11, Some("ACME.cybozu.com:443")),
            ("GET", "/", Version::HTTP_10, None),
            ("OPTIONS", "*", Version::HTTP_11, Some("acme.cybozu.com")),
            (
                "GET",
                "https://acme.CYBOZU.com/",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
            ),
            (
                "GET",
                "https://acme.cybozu.com:443/x",
                Version::HTTP_2,
                None,
            ),
            (
                "GET",
                "/.kintone-egress/me",
                Version::HTTP_2,
                Some("acme.cybozu.com"),
            ),
        ] {
            assert_eq!(
                read_of(method, uri, version, host),
                Ok(()),
                "{method} {uri}"
            );
        }
    }

    #[test]
    fn what_is_for_another_host_is_misdirected() {
        for (uri, version, host) in [
            ("/", Version::HTTP_11, Some("other.cybozu.com")),
            ("/", Version::HTTP_11, Some("")),
            ("/", Version::HTTP_11, Some("acme.cybozu.com.")),
            ("/", Version::HTTP_11, Some("acme.cybozu.com:80")),
            ("/", Version::HTTP_11, Some("acme.cybozu.comx")),
            ("/", Version::HTTP_11, Some("acme.cybozu.co")),
            (
                "https://other.cybozu.com/",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
            ),
            (
                "https://acme.cybozu.com/",
                Version::HTTP_11,
                Some("other.cybozu.com"),
            ),
            ("https://acme.cybozu.com:8443/", Version::HTTP_2, None),
            (
                "https://acme.cybozu.com/",
                Version::HTTP_2,
                Some("other.cybozu.com"),
            ),
        ] {
            let read = read_of("GET", uri, version, host);
            assert_eq!(read, Err(Denial::Misdirected), "{uri} {host:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_named() {
        let bad = |detail| Err(Denial::bad_request(detail));
        for (method, uri, version, host, expected) in [
            ("GET", "/", Version::HTTP_11, None, bad(Detail::HostMissing)),
            ("GET", "/", Version::HTTP_2, None, bad(Detail::HostMissing)),
            (
                "GET",
                "/",
                Version::HTTP_11,
                Some("a b"),
                bad(Detail::HostInvalid),
            ),
            (
                "GET",
                "*",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
                bad(Detail::Unparsable),
            ),
            (
                "GET",
                "acme.cybozu.com",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
                bad(Detail::Unparsable),
            ),
            (
                "GET",
                "ftp://acme.cybozu.com/",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
                bad(Detail::SchemeUnknown),
            ),
            (
                "GET",
                "https://u@acme.cybozu.com/",
                Version::HTTP_11,
                Some("acme.cybozu.com"),
                bad(Detail::Userinfo),
            ),
        ] {
            assert_eq!(
                read_of(method, uri, version, host),
                expected,
                "{method} {uri}"
            );
        }
        for method in ["TRACE", "CONNECT"] {
            let read = read_of(method, "/", Version::HTTP_11, Some("acme.cybozu.com"));
            let refused = read.unwrap_err();
            assert_eq!(refused.detail(), Some(Detail::MethodForbidden));
        }
    }
}
