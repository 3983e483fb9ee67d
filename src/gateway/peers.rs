//! What hands calls to other hosts of the fleet, and takes those that they hand over.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tower::{ServiceBuilder, service_fn};
use tower_http::catch_panic::CatchPanicLayer;

use super::hooks::{answer_panic, hooks};
use super::state::Running;
use crate::config::{Config, Limits};
use crate::handover::Peers;
use crate::proxy::Handing;
use crate::server::{PeerName, Server, Socket};
use crate::tls::{PeerTls, PeerTlsError};

/// Both directions, where `[fleet.peer]` is set.
pub(super) struct Neighbours {
    pub(super) peers: Option<Arc<Peers<Handing>>>,
    /// What other hosts are answered with.
    tls: Arc<ArcSwapOption<PeerTls>>,
}

impl Neighbours {
    /// What `config` says of the other hosts.
    pub(super) fn new(config: &Config) -> Result<Self, PeerTlsError> {
        Ok(Self {
            peers: Peers::new(config)?,
            tls: Arc::new(ArcSwapOption::from(tls_of(config)?.map(Arc::new))),
        })
    }

    /// TLS as `config` says; it is to be tried before anything changes.
    pub(super) fn prepare(&self, config: &Config) -> Result<Option<PeerTls>, PeerTlsError> {
        match &self.peers {
            Some(_) => tls_of(config),
            None => Ok(None),
        }
    }

    /// Connections made from here on are as `config` says.
    pub(super) fn reload(&self, config: &Config, tls: Option<PeerTls>) {
        if let (Some(peers), Some(peer), Some(tls)) = (&self.peers, &config.fleet.peer, tls) {
            peers.reload(peer, tls.clone());
            self.tls.store(Some(Arc::new(tls)));
        }
    }
}

/// Takes what other hosts hand over, on the listener for them.
pub(super) fn serve(running: &Arc<Running>, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let proxy = running.proxy.clone();
    let service = ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(answer_panic))
        .service(service_fn(move |request| {
            proxy.clone().handle_handed(request)
        }));
    let hooks = hooks(&running.proxy, &running.telemetry);
    let limits = Arc::clone(&running.peer_limits);
    let server = Server::new(limits, running.drain.clone(), hooks);
    let tls = Arc::clone(&running.neighbours.tls);
    let shake_hands = move |socket: Socket| {
        let tls = tls.load_full();
        async move {
            let client = socket.connection().client();
            match tls?.accept(socket).await {
                Ok((host, stream)) => Some((PeerName(host), stream)),
                Err(error) => {
                    tracing::warn!(%client, %error, "refused a connection to the listener for other hosts");
                    None
                }
            }
        }
    };
    tokio::spawn(async move { server.serve_peers(listener, shake_hands, service).await });
    Ok(())
}

/// What connections of other hosts are held to: a host's are all from one address.
pub(super) fn limits(config: &Config) -> Limits {
    let connections = config
        .fleet
        .peer
        .as_ref()
        .map_or(0, |peer| peer.connections);
    Limits {
        connections,
        connections_per_network_address: connections,
        ..config.limits.clone()
    }
}

fn tls_of(config: &Config) -> Result<Option<PeerTls>, PeerTlsError> {
    let peer = config.fleet.peer.as_ref();
    peer.map(|peer| PeerTls::new(peer, &config.fleet.host))
        .transpose()
}
