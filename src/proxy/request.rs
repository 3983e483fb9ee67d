//! What a request asks for, read once from its head. Everything that is malformed or ambiguous ends
//! here with 400, 405 or 431; whether the asker may have it is judged elsewhere.

use http::request::Parts;
use http::{HeaderMap, Method, Version, header};

use crate::model::{Denial, Detail, Mode};

/// The prefix of the gateway's own pages on the proxy listener.
pub(crate) const OWN_PREFIX: &str = "/.kintone-egress/";

/// What a request head asks for. Host names are as the caller wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// A call in absolute form (RFC 9112 section 3.2.2).
    Forward {
        scheme: Scheme,
        host: &'a str,
        port: Option<u16>,
    },
    /// A CONNECT (RFC 9112 section 3.2.3).
    Connect { host: &'a str, port: u16 },
    /// A call inside an inspected connection, to the host that its CONNECT named.
    Inside { host: &'a str },
    /// One of the gateway's own pages; the path behind [`OWN_PREFIX`].
    Own { path: &'a str },
}

/// The scheme of an absolute-form target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Target<'_> {
    /// The way in that it asks for, as far as the head tells: a CONNECT may turn out to be
    /// inspected. None for the gateway's own pages.
    pub(crate) const fn mode(self) -> Option<Mode> {
        match self {
            Self::Forward { .. } => Some(Mode::Forward),
            Self::Connect { .. } => Some(Mode::Tunnel),
            Self::Inside { .. } => Some(Mode::Inspect),
            Self::Own { .. } => None,
        }
    }
}

/// Reads the head of a request.
///
/// # Errors
/// [`Denial::BadRequest`] with what is wrong.
pub(crate) fn read(head: &Parts) -> Result<Target<'_>, Denial> {
    check_host(&head.headers, head.version)?;
    check_framing(&head.headers, head.version)?;
    if head.method == Method::TRACE {
        return Err(Denial::BadRequest {
            status: 405,
            detail: Detail::MethodForbidden,
        });
    }
    if head.method == Method::CONNECT {
        connect(head)
    } else {
        absolute(head)
    }
}

/// RFC 9112 section 3.2: exactly one Host in HTTP/1.1, and a valid one.
pub(crate) fn check_host(headers: &HeaderMap, version: Version) -> Result<(), Denial> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version >= Version::HTTP_11 => Err(Denial::bad_request(Detail::HostMissing)),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Denial::bad_request(Detail::HostRepeated)),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(Denial::bad_request(Detail::HostInvalid)),
    }
}

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2), or nothing at all. An empty value is valid: it
/// is what a target without an authority asks for.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match (host.first(), host.iter().rposition(|b| *b == b']')) {
        (Some(b'['), Some(end)) => {
            let literal = |b: &u8| b.is_ascii_alphanumeric() || b":.-_~!$&'()*+;=".contains(b);
            if !host[1..end].iter().all(literal) {
                return false;
            }
            (&[][..], &host[end + 1..])
        }
        _ => host.split_at(host.iter().position(|b| *b == b':').unwrap_or(host.len())),
    };
    let digits = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    is_reg_name(name) && port.strip_prefix(b":").map_or(port.is_empty(), digits)
}

/// A registered name (RFC 3986 section 3.2.2) without the comma, which would make a list of it.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((byte, behind)) = rest.split_first() {
        rest = match (byte, behind) {
            (b'%', [high, low, behind @ ..])
                if [high, low].iter().all(|b| b.is_ascii_hexdigit()) =>
            {
                behind
            }
            (b'%', _) => return false,
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(byte) => behind,
            _ => return false,
        };
    }
    true
}

/// RFC 9112 sections 6.1 and 6.3: only `chunked`, never in HTTP/1.0, never beside Content-Length.
pub(crate) fn check_framing(headers: &HeaderMap, version: Version) -> Result<(), Denial> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    if version < Version::HTTP_11
        || codings.next().is_some()
        || headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err(Denial::bad_request(Detail::FramingAmbiguous));
    }
    if coding
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(b"chunked")
    {
        Ok(())
    } else {
        Err(Denial::bad_request(Detail::TransferEncodingUnknown))
    }
}

fn connect(head: &Parts) -> Result<Target<'_>, Denial> {
    // Content of a CONNECT means nothing (RFC 9110 section 9.3.6), but who reads its length and who
    // does not would see the tunnel begin at different bytes.
    let length = head.headers.get(header::CONTENT_LENGTH);
    if head.headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|of| of != "0") {
        return Err(Denial::bad_request(Detail::FramingAmbiguous));
    }
    let authority = head
        .uri
        .authority()
        .ok_or(Denial::bad_request(Detail::PortMissing))?;
    if head.uri.scheme().is_some() || head.uri.path_and_query().is_some() {
        return Err(Denial::bad_request(Detail::Unparsable));
    }
    let (host, port) = split(authority.as_str())?;
    let port = port.ok_or(Denial::bad_request(Detail::PortMissing))?;
    Ok(Target::Connect { host, port })
}

fn absolute(head: &Parts) -> Result<Target<'_>, Denial> {
    let uri = &head.uri;
    let Some(authority) = uri.authority() else {
        return match uri.path().strip_prefix(OWN_PREFIX) {
            Some(path) if head.method == Method::GET || head.method == Method::HEAD => {
                Ok(Target::Own { path })
            }
            Some(_) => Err(Denial::BadRequest {
                status: 405,
                detail: Detail::ReadOnlyPage,
            }),
            None => Err(Denial::bad_request(Detail::OriginForm)),
        };
    };
    let scheme = match uri.scheme_str() {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        Some(_) => return Err(Denial::bad_request(Detail::SchemeUnknown)),
        None => return Err(Denial::bad_request(Detail::OriginForm)),
    };
    let (host, port) = split(authority.as_str())?;
    Ok(Target::Forward { scheme, host, port })
}

/// Splits an authority. A colon without a port number is malformed, not a default.
pub(crate) fn split(authority: &str) -> Result<(&str, Option<u16>), Denial> {
    if authority.contains('@') {
        return Err(Denial::bad_request(Detail::Userinfo));
    }
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[bracket..].rfind(':') {
        None => (authority, None),
        Some(at) => {
            let (host, port) = (&authority[..bracket + at], &authority[bracket + at + 1..]);
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            match port.parse() {
                Ok(port) if digits => (host, Some(port)),
                Ok(_) | Err(_) => return Err(Denial::bad_request(Detail::PortMissing)),
            }
        }
    };
    if host.is_empty() {
        // RFC 9110 section 4.2.2.
        return Err(Denial::bad_request(Detail::HostInvalid));
    }
    Ok((host, port))
}

/// Whether the target's port leads to kintone: `http:` none, 80 or 443; `https:` and CONNECT 443.
///
/// # Errors
/// [`Denial::DestinationForbidden`] for any other port.
pub(crate) fn check_port(target: Target<'_>) -> Result<(), Denial> {
    let allowed = match target {
        Target::Forward {
            scheme: Scheme::Http,
            port,
            ..
        } => matches!(port, None | Some(80 | 443)),
        Target::Forward {
            scheme: Scheme::Https,
            port,
            ..
        } => matches!(port, None | Some(443)),
        Target::Connect { port, .. } => port == 443,
        Target::Inside { .. } | Target::Own { .. } => true,
    };
    if allowed {
        Ok(())
    } else {
        Err(Denial::DestinationForbidden(Detail::PortForbidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, uri: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn detail(parts: &Parts) -> Detail {
        read(parts).unwrap_err().detail().unwrap()
    }

    const HOST: (&str, &str) = ("host", "acme.cybozu.com");

    #[test]
    fn the_target_is_taken_from_the_request_line_alone() {
        let parts = head(
            "GET",
            "https://acme.cybozu.com/k/v1/app.json?id=1",
            Version::HTTP_11,
            &[("host", "evil.example")],
        );
        let expected = Target::Forward {
            scheme: Scheme::Https,
            host: "acme.cybozu.com",
            port: None,
        };
        assert_eq!(read(&parts).unwrap(), expected);
        let parts = head("CONNECT", "acme.cybozu.com:443", Version::HTTP_11, &[HOST]);
        assert_eq!(
            read(&parts).unwrap(),
            Target::Connect {
                host: "acme.cybozu.com",
                port: 443
            }
        );
    }

    #[test]
    fn python_sends_connect_without_a_host() {
        let parts = head("CONNECT", "acme.cybozu.com:443", Version::HTTP_10, &[]);
        assert!(read(&parts).is_ok());
        let parts = head("CONNECT", "acme.cybozu.com:443", Version::HTTP_11, &[]);
        assert_eq!(detail(&parts), Detail::HostMissing);
    }

    #[test]
    fn a_host_is_a_name_or_a_literal_and_perhaps_a_port() {
        for good in [
            "",
            "a",
            "a.b:443",
            "a:",
            "%41",
            "[::1]",
            "[::1]:443",
            ":443",
        ] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "a b", "a/b", "u@a", "a:b", "a:1:2", "[::1", "[a]b", "a]", "%4", "a,b", "[/]",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn malformed_heads_are_named() {
        for (method, uri, headers, expected) in [
            ("GET", "/k/v1/app.json", vec![HOST], Detail::OriginForm),
            ("OPTIONS", "*", vec![HOST], Detail::OriginForm),
            (
                "GET",
                "ftp://acme.cybozu.com/",
                vec![HOST],
                Detail::SchemeUnknown,
            ),
            (
                "GET",
                "https://u:p@acme.cybozu.com/",
                vec![HOST],
                Detail::Userinfo,
            ),
            (
                "GET",
                "https://acme.cybozu.com:/",
                vec![HOST],
                Detail::PortMissing,
            ),
            (
                "CONNECT",
                "acme.cybozu.com",
                vec![HOST],
                Detail::PortMissing,
            ),
            (
                "TRACE",
                "https://acme.cybozu.com/",
                vec![HOST],
                Detail::MethodForbidden,
            ),
            (
                "GET",
                "https://acme.cybozu.com/",
                vec![HOST, HOST],
                Detail::HostRepeated,
            ),
            (
                "GET",
                "https://acme.cybozu.com/",
                vec![("host", "a b")],
                Detail::HostInvalid,
            ),
            (
                "POST",
                "https://acme.cybozu.com/",
                vec![HOST, ("transfer-encoding", "gzip")],
                Detail::TransferEncodingUnknown,
            ),
            (
                "POST",
                "https://acme.cybozu.com/",
                vec![
                    HOST,
                    ("transfer-encoding", "chunked"),
                    ("content-length", "1"),
                ],
                Detail::FramingAmbiguous,
            ),
        ] {
            let parts = head(method, uri, Version::HTTP_11, &headers);
            assert_eq!(detail(&parts), expected, "{method} {uri}");
        }
    }

    #[test]
    fn only_kintones_ports_are_reached() {
        let port = |scheme, port| Target::Forward {
            scheme,
            host: "acme.cybozu.com",
            port,
        };
        assert!(check_port(port(Scheme::Http, Some(80))).is_ok());
        assert!(check_port(port(Scheme::Http, Some(443))).is_ok());
        assert!(check_port(port(Scheme::Https, Some(80))).is_err());
        assert!(check_port(port(Scheme::Http, Some(8080))).is_err());
        assert!(
            check_port(Target::Connect {
                host: "acme.cybozu.com",
                port: 22
            })
            .is_err()
        );
    }
}
