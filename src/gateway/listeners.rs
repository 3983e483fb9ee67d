//! The listeners of a gateway: bound when it is built, and serving once it runs.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::failure::BuildError;
use crate::config::Listen;

/// What `[listen]` names, bound.
pub(super) struct Listeners {
    pub(super) proxy: Vec<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) metrics: Option<TcpListener>,
    pub(super) public: Option<TcpListener>,
}

impl Listeners {
    /// Binds all of them.
    ///
    /// # Errors
    /// [`BuildError::Listen`], with the key of the first that cannot be bound.
    pub(super) fn bind(listen: &Listen) -> Result<Self, BuildError> {
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

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BuildError> {
    TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|source| BuildError::Listen {
            key,
            address,
            source,
        })
}
