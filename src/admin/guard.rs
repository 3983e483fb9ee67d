//! Who may speak to the admin listener.
//!
//! Its users are tools and people with a browser on an internal network. A page of a foreign site
//! must not be able to use that browser: requests that carry an `Origin` are refused, and those
//! whose `Host` is a name that is not ours too, since a name can be made to resolve to any address
//! (DNS rebinding). What changes something needs the token, or comes from this host.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING};
use http::{Method, Request};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::Secret;

/// Where a request's connection comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Which names a listener answers to.
#[derive(Clone, Copy, Debug)]
pub enum Names<'a> {
    /// IP literals, `localhost` and these.
    Own(&'a [String]),
    /// Any: the read-only listener, which load balancers and Prometheus reach by names of theirs.
    Any,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It carries an `Origin`.
    #[error("requests of web pages are not accepted (the request has an Origin header)")]
    Origin,
    /// `Host` is a foreign name.
    #[error(
        "this Host is not accepted: use an IP address, localhost or this host's own name, \
         [fleet] host"
    )]
    Host,
    /// It carries a body.
    #[error("requests with a body are not accepted")]
    Body,
    /// It lacks the token.
    #[error("this needs the header Authorization: Bearer with the token of [admin]")]
    Token,
    /// There is no token, and it comes from elsewhere.
    #[error("without [admin] token this is accepted from this host only")]
    NotLoopback,
}

/// Judges a request by its head.
///
/// # Errors
/// [`Refused`].
pub fn judge<B>(request: &Request<B>, names: Names<'_>) -> Result<(), Refused> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) {
        return Err(Refused::Origin);
    }
    let mut hosts = headers.get_all(HOST).iter();
    let of_header = hosts.next().map(|host| host.to_str().unwrap_or_default());
    let of_target = request.uri().authority().map(|it| it.as_str());
    let known = |host: &str| is_known(host, names);
    if hosts.next().is_some() || !of_header.is_none_or(known) || !of_target.is_none_or(known) {
        return Err(Refused::Host);
    }
    let length = headers.get(CONTENT_LENGTH);
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|it| it != "0") {
        return Err(Refused::Body);
    }
    Ok(())
}

/// Judges whether a request may change something, if its method says that it wants to.
///
/// # Errors
/// [`Refused::Token`] and [`Refused::NotLoopback`].
pub fn judge_change<B>(request: &Request<B>, token: Option<&Secret>) -> Result<(), Refused> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let Some(token) = token else {
        let peer = request.extensions().get::<Peer>();
        let is_local = peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
        return if is_local {
            Ok(())
        } else {
            Err(Refused::NotLoopback)
        };
    };
    let given = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, given)| given.trim());
    match given {
        Some(given) if same(given, token.expose()) => Ok(()),
        _ => Err(Refused::Token),
    }
}

/// Compares digests, so that the time tells neither length nor beginning.
fn same(given: &str, token: &str) -> bool {
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    given.as_slice().ct_eq(token.as_slice()).into()
}

fn is_known(host: &str, names: Names<'_>) -> bool {
    let Names::Own(own) = names else { return true };
    let name = without_port(host);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// `name`, `name:port`, `[v6]` or `[v6]:port` without brackets and port.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_own_names_and_addresses_are_hosts() {
        let own = ["gw-a".to_owned()];
        let judge = |host| judge(&request(&[("host", host)]), Names::Own(&own));
        for good in [
            "127.0.0.1:9180",
            "127.0.0.1",
            "[::1]:9180",
            "[::1]",
            "localhost:9180",
            "LOCALHOST",
            "gw-a:9180",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        for bad in [
            "evil.example",
            "gw-a.evil.example",
            "localhost.evil.example:9180",
            "",
            "[",
        ] {
            assert_eq!(judge(bad), Err(Refused::Host), "{bad}");
        }
        let two = request(&[("host", "127.0.0.1"), ("host", "evil.example")]);
        assert_eq!(super::judge(&two, Names::Own(&own)), Err(Refused::Host));
    }

    #[test]
    fn pages_and_bodies_are_refused() {
        let origin = request(&[("host", "localhost"), ("origin", "null")]);
        assert_eq!(judge(&origin, Names::Any), Err(Refused::Origin));
        let body = request(&[("content-length", "3")]);
        assert_eq!(judge(&body, Names::Any), Err(Refused::Body));
        let empty = request(&[("content-length", "0")]);
        assert_eq!(judge(&empty, Names::Any), Ok(()));
    }

    #[test]
    fn changes_need_the_token_or_come_from_this_host() {
        let post = |from: &str, authorization: Option<&str>| {
            let mut request = Request::post("/api/v1/reload").body(()).unwrap();
            request.extensions_mut().insert(Peer(from.parse().unwrap()));
            if let Some(value) = authorization {
                let value = value.parse().unwrap();
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            request
        };
        let token = Secret::new("s3cret".into());
        let local = "127.0.0.1:1";
        let mapped = "[::ffff:127.0.0.1]:1";
        let remote = "10.0.0.1:1";
        assert_eq!(judge_change(&post(local, None), None), Ok(()));
        assert_eq!(judge_change(&post(mapped, None), None), Ok(()));
        assert_eq!(
            judge_change(&post(remote, None), None),
            Err(Refused::NotLoopback)
        );
        assert_eq!(
            judge_change(&post(local, None), Some(&token)),
            Err(Refused::Token)
        );
        for wrong in ["Bearer s3cre", "Bearer s3crett", "Basic s3cret", "s3cret"] {
            let request = post(local, Some(wrong));
            assert_eq!(judge_change(&request, Some(&token)), Err(Refused::Token));
        }
        let right = post(remote, Some("bearer s3cret"));
        assert_eq!(judge_change(&right, Some(&token)), Ok(()));
    }
}
