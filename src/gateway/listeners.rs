//! The listeners of a gateway: bound when it is built, and serving once it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::failure::BuildError;
use crate::config::Config;

/// What `[listen]` and `[fleet.peer]` name, bound.
pub(super) struct Listeners {
    pub(super) proxy: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) metrics: Option<TcpListener>,
    pub(super) public: Option<TcpListener>,
    /// For the other hosts of the fleet.
    pub(super) peer: Option<TcpListener>,
}

impl Listeners {
    /// Binds all of them.
    ///
    /// # Errors
    /// [`BuildError::Listen`], with the key of the first that cannot be bound.
    pub(super) fn bind(config: &Config) -> Result<Self, BuildError> {
        let listen = &config.listen;
        let some = |key, address: Option<SocketAddr>| {
            let bound = address.map(|address| bind(key, address));
            bound.transpose()
        };
        let proxy = listen.proxy.iter();
        Ok(Self {
            proxy: proxy
                .map(|address| bind("proxy", *address))
                .collect::<Result<_, _>>()?,
            admin: bind("admin", listen.admin)?,
            metrics: some("metrics", listen.metrics)?,
            public: some("public", listen.public)?,
            peer: peer_address(config)
                .map(|address| bind_as("[fleet.peer]", "listen", address))
                .transpose()?,
        })
    }

    /// Where callers reach the proxy.
    pub(super) fn proxy_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.proxy.iter().map(TcpListener::local_addr).collect()
    }

    /// Where customers reach the public listener, if there is one.
    pub(super) fn public_address(&self) -> io::Result<Option<SocketAddr>> {
        let public = self.public.as_ref();
        public.map(TcpListener::local_addr).transpose()
    }
}

/// Where this host takes calls from the others.
fn peer_address(config: &Config) -> Option<SocketAddr> {
    let peer = config.fleet.peer.as_ref()?;
    peer.listen.get(&config.fleet.host).copied()
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BuildError> {
    bind_as("[listen]", key, address)
}

fn bind_as(
    table: &'static str,
    key: &'static str,
    address: SocketAddr,
) -> Result<TcpListener, BuildError> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| BuildError::Listen {
            table,
            key,
            address,
            source,
        })
}
