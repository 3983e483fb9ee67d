//! What somebody wants to have explained, made into the request that a caller would send.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Version};

use crate::config::Config;
use crate::model::{Denial, Detail, Mode};
use crate::proxy::{OptionsError, Reason};

const TENANT: HeaderName = HeaderName::from_static("kintone-egress-tenant");

/// The name by which callers without credentials are known.
pub(super) const ANONYMOUS: &str = "anonymous";

/// A call that somebody asks about.
#[derive(Debug, Clone)]
pub struct Question {
    /// The proxy user name, with the options that may stand in it; `anonymous`: no credentials.
    pub user: String,
    /// The value of `Kintone-Egress-Tenant`, if the header is sent.
    pub tenant: Option<String>,
    /// The way in; `None`: as `[inspect]` says for `CONNECT`, else forward.
    pub mode: Option<Mode>,
    /// Where the call comes from; `None`: an address that the caller may come from.
    pub from: Option<IpAddr>,
    /// The method as it is sent.
    pub method: String,
    /// The URL, or what stands behind `CONNECT`.
    pub url: String,
}

/// The request behind a question.
pub(super) struct Asking {
    pub(super) head: Parts,
    /// A fragment of its target, which a URI does not keep.
    pub(super) fault: Option<Detail>,
}

impl Question {
    /// The head that the caller would send.
    ///
    /// # Errors
    /// What a head that cannot be parsed is answered.
    pub(super) fn asking(&self, head_size: usize) -> Result<Asking, Reason> {
        let malformed = |status, detail| Reason::Denied(Denial::BadRequest { status, detail });
        let unparsable = || malformed(400, Detail::Unparsable);
        let is_connect = self.method == "CONNECT";
        let by_connect = is_connect || self.mode.is_some_and(|mode| mode != Mode::Forward);
        let method = if by_connect {
            Method::CONNECT
        } else {
            Method::from_bytes(self.method.as_bytes()).map_err(|_| unparsable())?
        };
        let target = if by_connect && !is_connect {
            connect_target(&self.url)
        } else {
            self.url.clone()
        };
        if method.as_str().len() + target.len() >= head_size {
            return Err(malformed(414, Detail::TargetTooLong));
        }
        let has_fragment = method.as_str().contains('#') || target.contains('#');
        let mut request = Request::builder()
            .version(Version::HTTP_11)
            .method(method)
            .uri(target)
            .header(HOST, HeaderValue::from_static("gateway"))
            .body(())
            .map_err(|_| unparsable())?;
        if let Some(tenant) = &self.tenant {
            // Blanks around a value are no part of it (RFC 9110 section 5.5).
            let value = HeaderValue::from_str(tenant.trim_matches([' ', '\t']));
            let place = "Kintone-Egress-Tenant";
            let value = value.map_err(|_| Reason::Options(OptionsError::Malformed(place)))?;
            request.headers_mut().insert(TENANT, value);
        }
        Ok(Asking {
            head: request.into_parts().0,
            fault: has_fragment.then_some(Detail::Fragment),
        })
    }

    /// The head of the call inside the connection that was asked about; `None` if the question is
    /// about the CONNECT alone.
    ///
    /// # Errors
    /// As of [`Self::asking`].
    pub(super) fn inside(&self) -> Result<Option<Asking>, Reason> {
        if self.method == "CONNECT" {
            return Ok(None);
        }
        let unparsable = || Reason::Denied(Denial::bad_request(Detail::Unparsable));
        let method = Method::from_bytes(self.method.as_bytes()).map_err(|_| unparsable())?;
        let target = connect_target(&self.url);
        let request = Request::builder()
            .version(Version::HTTP_11)
            .method(method)
            .uri(&self.url)
            .header(HOST, target)
            .body(())
            .map_err(|_| unparsable())?;
        let has_fragment = self.url.contains('#');
        Ok(Some(Asking {
            head: request.into_parts().0,
            fault: has_fragment.then_some(Detail::Fragment),
        }))
    }

    /// Where the call comes from: the address given, else one that the caller may come from.
    pub(super) fn client(&self, config: &Config) -> IpAddr {
        let name = self.user.split(['+', ';']).next().unwrap_or_default();
        let callers = &config.callers;
        let networks = if self.user == ANONYMOUS {
            callers.anonymous.as_ref().map(|rule| &rule.networks)
        } else {
            let named = callers.named.iter();
            let mut named = named.filter(|caller| caller.name.as_str() == name);
            named.next().map(|caller| &caller.networks)
        };
        let allowed = networks.and_then(|networks| networks.first()?.hosts().next());
        let anywhere = IpAddr::V4(Ipv4Addr::LOCALHOST);
        self.from.or(allowed).unwrap_or(anywhere)
    }
}

/// What a client puts behind `CONNECT` when it wants `url`.
fn connect_target(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let behind_brackets = authority.rsplit(']').next().unwrap_or_default();
    match (behind_brackets.contains(':'), scheme) {
        (false, "https") => format!("{authority}:443"),
        (false, "http") => format!("{authority}:80"),
        (true, _) | (false, _) => authority.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_asked_for_as_clients_do() {
        for (url, target) in [
            (
                "https://acme.cybozu.com/k/v1/app.json?id=1",
                "acme.cybozu.com:443",
            ),
            ("https://acme.cybozu.com:8443", "acme.cybozu.com:8443"),
            ("http://acme.cybozu.com/", "acme.cybozu.com:80"),
            ("https://[::1]/", "[::1]:443"),
            ("https://u:p@acme.cybozu.com/", "u:p@acme.cybozu.com"),
            ("acme.cybozu.com:443", "acme.cybozu.com:443"),
        ] {
            assert_eq!(connect_target(url), target, "{url}");
        }
    }
}
