//! The Redis or Valkey that hosts share: where it is, how it is used.

use std::path::PathBuf;
use std::str::from_utf8;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::secret::Secret;

/// Where a store is and how it is spoken to.
#[derive(Debug, Clone)]
pub struct StoreUrl {
    /// Its servers, or Sentinel's, in the order in which they are asked.
    pub servers: Vec<StoreServer>,
    /// The name under which Sentinel knows the store; `None`: the server is the store.
    pub sentinel: Option<String>,
    /// How the servers are spoken to.
    pub wire: StoreWire,
    /// The user of its ACL; `None` is its default user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The number of its database.
    pub database: u32,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreServer {
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreWire {
    /// As it is.
    Plain,
    /// TLS, always verified.
    Tls,
}

/// How hosts share by a store: the keys of `[fleet]` that have defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Extra trust anchors for TLS to the store, PEM.
    pub ca_file: Option<PathBuf>,
    /// What the names of all keys and channels begin with.
    pub prefix: String,
    /// Longest wait for a connection, TLS and greeting included.
    pub connect_timeout: Duration,
    /// Longest wait for an answer.
    pub response_timeout: Duration,
    /// How often hosts tell each other how they stand while permits are lent or wanted; else it is
    /// five times as long.
    pub beat: Duration,
    /// How long a loan of permits lasts without being renewed.
    pub loan: Duration,
    /// How long calls on a loan that has ended may still run before they are cut.
    pub overrun: Duration,
    /// A host that was seen later than this ago cannot be evicted.
    pub evict_after: Duration,
    /// The most that a host tells the others beside permits, in bytes.
    pub side_rows: usize,
    /// How often it does.
    pub side_every: Duration,
}

/// Schemes, how they speak, and whether their servers are Sentinel's.
const SCHEMES: [(&str, StoreWire, Kind); 4] = [
    ("redis", StoreWire::Plain, Kind::Store),
    ("rediss", StoreWire::Tls, Kind::Store),
    ("redis+sentinel", StoreWire::Plain, Kind::Sentinel),
    ("rediss+sentinel", StoreWire::Tls, Kind::Sentinel),
];

/// What a URL may look like.
pub(super) const FORMS: &str = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, or \
    redis+sentinel:// and rediss+sentinel:// as redis+sentinel://HOST[:PORT],HOST[:PORT]/NAME[/DATABASE]";

const STORE_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Store,
    Sentinel,
}

impl StoreUrl {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, without repeating any of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
        let known = SCHEMES.iter().find(|(name, ..)| *name == scheme);
        let (_, wire, kind) = *known.ok_or("is not the URL of a store")?;
        if rest.contains(['?', '#']) {
            return Err("has a query or a fragment, which mean nothing here");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, servers) = match authority.rsplit_once('@') {
            Some((credentials, servers)) => (Some(credentials), servers),
            None => (None, authority),
        };
        let (user, password) = credentials.map_or(Ok((None, None)), credentials_of)?;
        let (sentinel, database) = match kind {
            Kind::Store => (None, path),
            Kind::Sentinel => {
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                (Some(decoded(name)?), database)
            }
        };
        if sentinel.as_ref().is_some_and(String::is_empty) {
            return Err("lacks the name under which Sentinel knows the store");
        }
        let port = match kind {
            Kind::Store => STORE_PORT,
            Kind::Sentinel => SENTINEL_PORT,
        };
        let servers: Vec<_> = servers
            .split(',')
            .map(|server| StoreServer::parse(server, port))
            .collect::<Result<_, _>>()?;
        if kind == Kind::Store && servers.len() > 1 {
            return Err("names several servers; only Sentinel's may be several");
        }
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| "has no number for a database")?,
        };
        Ok(Self {
            servers,
            sentinel,
            wire,
            user,
            password,
            database,
        })
    }
}

impl StoreUrl {
    /// Whether it leads to the same store by the same credentials.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let password = |url: &Self| {
            url.password
                .as_ref()
                .map(|secret| secret.expose().to_owned())
        };
        (&self.servers, &self.sentinel, self.wire) == (&other.servers, &other.sentinel, other.wire)
            && (&self.user, self.database) == (&other.user, other.database)
            && password(self) == password(other)
    }
}

impl StoreServer {
    fn parse(text: &str, usual_port: u16) -> Result<Self, &'static str> {
        let bad_port = "has a port that is none";
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or("has an unclosed bracket")?,
            None => match text.split_once(':') {
                Some((host, port)) => (host, &text[text.len() - port.len() - 1..]),
                None => (text, ""),
            },
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("lacks a host");
        }
        let port = match port {
            "" => usual_port,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or(bad_port)?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn credentials_of(text: &str) -> Result<(Option<String>, Option<Secret>), &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    let password = Some(decoded(password)?).filter(|password| !password.is_empty());
    if user.is_some() && password.is_none() {
        return Err("has a user without a password");
    }
    Ok((user, password.map(Secret::new)))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    from_utf8(&bytes)
        .map(str::to_owned)
        .map_err(|_| "is not UTF-8 once it is decoded")
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            ca_file: None,
            prefix: "kintone-egress".to_owned(),
            connect_timeout: Duration::from_millis(500),
            response_timeout: Duration::from_millis(500),
            beat: Duration::from_millis(200),
            loan: Duration::from_secs(16),
            overrun: Duration::from_secs(60),
            evict_after: Duration::from_secs(300),
            side_rows: 1 << 20,
            side_every: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16) -> StoreServer {
        StoreServer {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn every_form_is_read() {
        let url = StoreUrl::parse("redis://127.0.0.1").expect("a URL");
        assert_eq!(url.servers, [server("127.0.0.1", 6379)]);
        assert_eq!((url.wire, url.database), (StoreWire::Plain, 0));
        assert!(url.user.is_none() && url.password.is_none() && url.sentinel.is_none());
        let url = StoreUrl::parse("rediss://gw:p%40ss:w@[2001:db8::1]:6380/3").expect("a URL");
        assert_eq!(url.servers, [server("2001:db8::1", 6380)]);
        assert_eq!((url.wire, url.database), (StoreWire::Tls, 3));
        assert_eq!(url.user.as_deref(), Some("gw"));
        assert_eq!(url.password.expect("one").expose(), "p@ss:w");
        let url = StoreUrl::parse("redis+sentinel://:pw@a,b:1/egress/2").expect("a URL");
        assert_eq!(url.servers, [server("a", 26379), server("b", 1)]);
        assert_eq!(url.sentinel.as_deref(), Some("egress"));
        assert_eq!((url.user, url.database), (None, 2));
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_of_it_repeated() {
        for (text, fault) in [
            ("127.0.0.1:6379", "URL"),
            ("http://s3cret", "store"),
            ("redis://s3cret@", "password"),
            ("redis://:s3cret@", "host"),
            ("redis://a:s3cret", "port"),
            ("redis://[::1", "bracket"),
            ("redis://a,b", "several"),
            ("redis://a/s3cret", "database"),
            ("rediss://a/#insecure", "fragment"),
            ("redis+sentinel://a", "name"),
        ] {
            let said = StoreUrl::parse(text).expect_err(text);
            assert!(
                said.contains(fault) && !said.contains("s3cret"),
                "{text}: {said}"
            );
        }
    }
}
