//! Whose address is this: published, bind, or a caller's; and the host that has it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::account::string_like;

/// An IPv4 address that customers put on their allowlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Published(pub Ipv4Addr);

/// The address on this host whose packets leave as a published address: the same one, or the
/// private address behind an Elastic IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind(pub Ipv4Addr);

/// The address and port of a caller's connection to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub SocketAddr);

/// A host of the fleet, by its name in `[fleet] hosts`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

string_like!(HostName);

impl HostName {
    /// Wraps a name that the configuration has checked.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name, such as `gw-a`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
