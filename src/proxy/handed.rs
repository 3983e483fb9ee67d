//! What a host tells another one of a call that it hands over: who makes it, as was proved, and how it
//! came. It stands in headers that are read on the listener for other hosts and nowhere else; tenant,
//! priority, wait and purpose stand in the headers by which callers say them.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::options::{self, Options};
use crate::model::{CallerName, Client, Credential, Mode, Published, RequestId};

const ID: HeaderName = HeaderName::from_static("kintone-egress-handed-id");
const CALLER: HeaderName = HeaderName::from_static("kintone-egress-handed-caller");
const CREDENTIAL: HeaderName = HeaderName::from_static("kintone-egress-handed-credential");
const CLIENT: HeaderName = HeaderName::from_static("kintone-egress-handed-client");
const MODE: HeaderName = HeaderName::from_static("kintone-egress-handed-mode");
const VERSION: HeaderName = HeaderName::from_static("kintone-egress-handed-version");
const ADDRESS: HeaderName = HeaderName::from_static("kintone-egress-handed-address");
const ABOUT: HeaderName = HeaderName::from_static("kintone-egress-handed-about");

/// That it is about the server, as it stands in the header; there is none for what is about a path.
const SERVER: &str = "server";

/// The HTTP of callers, as it stands in the header.
const VERSIONS: [(&str, Version); 3] = [
    ("1.0", Version::HTTP_10),
    ("1.1", Version::HTTP_11),
    ("2", Version::HTTP_2),
];

/// A call as the host that hands it over tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handed {
    /// What the caller is told, so that the two hosts' logs are about one call.
    pub(crate) id: RequestId,
    pub(crate) caller: CallerName,
    pub(crate) credential: Option<Credential>,
    pub(crate) client: Client,
    pub(crate) mode: Mode,
    /// In which HTTP the caller sent it.
    pub(crate) version: Version,
    /// From where it is to leave, and from nowhere else.
    pub(crate) address: Published,
    pub(crate) about: About,
}

/// What a call is about. An absolute target always has a path, so that it does not show an OPTIONS
/// about the server (RFC 9112 section 3.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// What its target names.
    Target,
    /// The server.
    Server,
}

/// What another host says of a call cannot be read: the two are of different versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what another host says of a call cannot be read")]
pub(crate) struct Unreadable;

impl Handed {
    /// Writes it and `said` into headers that hold none of the gateway's own.
    pub(crate) fn write(&self, said: &Options, headers: &mut HeaderMap) {
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        put(ID, self.id.to_string());
        put(CALLER, self.caller.to_string());
        if let Some(credential) = self.credential {
            put(CREDENTIAL, credential.to_string());
        }
        put(CLIENT, self.client.to_string());
        put(MODE, self.mode.label().to_owned());
        let version = VERSIONS.iter().find(|(_, of)| *of == self.version);
        put(VERSION, version.map_or("1.1", |(text, _)| text).to_owned());
        put(ADDRESS, self.address.to_string());
        if self.about == About::Server {
            put(ABOUT, SERVER.to_owned());
        }
        options::write(said, headers);
    }

    /// Reads the head of a request from another host.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(crate) fn read(head: &Parts) -> Result<Self, Unreadable> {
        let headers = &head.headers;
        let version = text(headers, &VERSION)?;
        let (_, version) = VERSIONS
            .into_iter()
            .find(|(word, _)| *word == version)
            .ok_or(Unreadable)?;
        let handed = Self {
            id: RequestId::parse(text(headers, &ID)?).ok_or(Unreadable)?,
            caller: CallerName::parse(text(headers, &CALLER)?).ok_or(Unreadable)?,
            credential: match headers.contains_key(&CREDENTIAL) {
                true => Some(Credential::parse(text(headers, &CREDENTIAL)?).ok_or(Unreadable)?),
                false => None,
            },
            client: Client(parsed::<SocketAddr>(headers, &CLIENT)?),
            mode: Mode::parse(text(headers, &MODE)?).ok_or(Unreadable)?,
            version,
            address: Published(parsed(headers, &ADDRESS)?),
            about: match headers.contains_key(&ABOUT) {
                true if head.method != Method::OPTIONS => return Err(Unreadable),
                true if text(headers, &ABOUT)? != SERVER => return Err(Unreadable),
                true => About::Server,
                false => About::Target,
            },
        };
        match (handed.mode == Mode::Tunnel) == (head.method == Method::CONNECT) {
            true => Ok(handed),
            false => Err(Unreadable),
        }
    }
}

/// What is left of a wait of `longest` after `spent`, as a call can ask for it.
pub(crate) fn left_of(longest: Duration, spent: Duration) -> Duration {
    let left = longest.saturating_sub(spent).as_millis();
    let left = u64::try_from(left).unwrap_or(u64::MAX);
    Duration::from_millis(left.min(options::MAX_WAIT_MS_MAX))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Unreadable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| Unreadable),
        _ => Err(Unreadable),
    }
}

fn parsed<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Result<T, Unreadable> {
    text(headers, name)?.parse().map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Priority, Purpose, Tenant};

    fn handed() -> Handed {
        Handed {
            id: RequestId::from_random(7),
            caller: CallerName::parse("events").unwrap(),
            credential: Some(Credential::Token(2)),
            client: Client("[2001:db8::1]:4000".parse().unwrap()),
            mode: Mode::Inspect,
            version: Version::HTTP_2,
            address: Published([35, 73, 236, 241].into()),
            about: About::Target,
        }
    }

    fn head(method: Method, handed: &Handed, said: &Options) -> Parts {
        let mut request = http::Request::new(());
        *request.method_mut() = method;
        handed.write(said, request.headers_mut());
        request.into_parts().0
    }

    #[test]
    fn what_is_written_is_read_back() {
        let said = Options {
            tenant: Tenant::parse("company-1").ok(),
            priority: Some(Priority::Batch),
            max_wait: Some(Duration::from_millis(1234)),
            purpose: Purpose::parse("incoming"),
        };
        let head = head(Method::GET, &handed(), &said);
        assert_eq!(Handed::read(&head), Ok(handed()));
        assert_eq!(Options::from_headers(&head.headers), Ok(said));
        let plain = Handed {
            credential: None,
            mode: Mode::Tunnel,
            ..handed()
        };
        let head = self::head(Method::CONNECT, &plain, &Options::default());
        assert_eq!(Handed::read(&head), Ok(plain));
        assert_eq!(Options::from_headers(&head.headers), Ok(Options::default()));
        let asterisk = Handed {
            about: About::Server,
            ..handed()
        };
        let head = self::head(Method::OPTIONS, &asterisk, &Options::default());
        assert_eq!(Handed::read(&head), Ok(asterisk));
    }

    #[test]
    fn nothing_is_guessed() {
        let good = head(Method::GET, &handed(), &Options::default());
        for name in [ID, CALLER, CLIENT, MODE, VERSION, ADDRESS] {
            let mut without = good.clone();
            without.headers.remove(&name);
            assert_eq!(Handed::read(&without), Err(Unreadable), "{name}");
            let mut twice = good.clone();
            twice.headers.append(&name, good.headers[&name].clone());
            assert_eq!(Handed::read(&twice), Err(Unreadable), "{name}");
        }
        let mut get = good.clone();
        get.headers.insert(ABOUT, HeaderValue::from_static(SERVER));
        assert_eq!(Handed::read(&get), Err(Unreadable));
        let mut tunnel = good;
        tunnel.method = Method::CONNECT;
        assert_eq!(Handed::read(&tunnel), Err(Unreadable));
    }

    #[test]
    fn the_wait_that_is_left_is_one_that_can_be_asked_for() {
        let second = Duration::from_secs(1);
        assert_eq!(left_of(second, second / 4), second * 3 / 4);
        assert_eq!(left_of(second, second * 2), Duration::ZERO);
        assert_eq!(left_of(second * 9999, second), second * 600);
    }
}
