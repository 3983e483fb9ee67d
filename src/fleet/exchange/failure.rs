//! How an exchange fails.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

/// Why a beat did not take place. None repeats a credential or what the store said.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The last connection failed a moment ago.
    #[error("the next try is in {} ms", left.as_millis())]
    Pausing {
        /// What is left of the pause.
        left: Duration,
    },
    /// No connection within `[fleet] redis_connect_timeout`.
    #[error("{server} cannot be reached: {source}")]
    Connect {
        /// Which server.
        server: String,
        /// What the kernel or TLS said.
        source: io::Error,
    },
    /// No connection within `[fleet] redis_connect_timeout`.
    #[error("no connection within {} ms ([fleet] redis_connect_timeout)", limit.as_millis())]
    ConnectTimeout {
        /// The limit.
        limit: Duration,
    },
    /// None of Sentinel's servers knows where the store is.
    #[error("no Sentinel names a master for {service:?}; the last one: {last}")]
    Sentinel {
        /// The name it was asked for.
        service: String,
        /// What the last one said.
        last: String,
    },
    /// No answer within `[fleet] redis_response_timeout`; for side rows, within `[fleet] side_every`.
    #[error("no answer within {} ms ([fleet] redis_response_timeout)", limit.as_millis())]
    ResponseTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The store refused or answered nonsense.
    #[error("{0}")]
    Store(Reason),
    /// There is no connection.
    #[error("there is no connection to the store")]
    NotConnected,
    /// Our row is longer than a row may be.
    #[error("this host's row has {bytes} bytes; {longest} are the most")]
    RowTooLong {
        /// Its length.
        bytes: usize,
        /// The most that it may have.
        longest: usize,
    },
}

/// What the store's refusal means to an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The user or the password is wrong.
    Credentials,
    /// The user lacks a right.
    Rights,
    /// It is a replica.
    ReadOnly,
    /// It is loading, busy or out of memory.
    Unready(String),
    /// It is older than Redis 6, or speaks another language.
    Unsuitable(String),
    /// The connection broke.
    Broken(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials => {
                f.write_str("the store refuses the user or the password; correct [fleet] redis")
            }
            Self::Rights => f.write_str(
                "the store's user lacks a right; it needs +set +mget +publish +subscribe on the \
                 keys and channels of [fleet] redis_prefix",
            ),
            Self::ReadOnly => f.write_str("the store is a replica; name its master, or Sentinel"),
            Self::Unready(code) => write!(f, "the store is not ready ({code})"),
            Self::Unsuitable(code) => write!(
                f,
                "the store does not understand a beat ({code}); Redis 6.2 or Valkey 7.2 is the \
                 oldest that does"
            ),
            Self::Broken(how) => write!(f, "the connection to the store broke ({how})"),
        }
    }
}

impl From<RedisError> for ExchangeError {
    fn from(error: RedisError) -> Self {
        Self::Store(Reason::of(&error))
    }
}

impl Reason {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "redis adds kinds; whatever it is, there was no beat"
    )]
    fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => return Self::Credentials,
            ErrorKind::RESP3NotSupported => return Self::Unsuitable("RESP3".to_owned()),
            _ => {}
        }
        let of_several = error.clone().into_server_errors();
        let code = match &of_several {
            Some(errors) => errors.first().map(|(_, error)| error.code()),
            None => error.code(),
        };
        match code {
            Some("NOAUTH" | "WRONGPASS") => Self::Credentials,
            Some("NOPERM") => Self::Rights,
            Some("READONLY") => Self::ReadOnly,
            Some(code) if UNREADY.contains(&code) => Self::Unready(code.to_owned()),
            Some(code) => Self::Unsuitable(code.to_owned()),
            None => Self::Broken(broken(error)),
        }
    }
}

/// Codes of a store that may be well a moment later.
const UNREADY: [&str; 9] = [
    "LOADING",
    "BUSY",
    "OOM",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
    "UNKILLABLE",
];

fn broken(error: &RedisError) -> String {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    io.map_or_else(
        || error.category().to_owned(),
        |error| error.kind().to_string(),
    )
}
