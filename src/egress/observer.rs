//! Somebody may hear of each connection to kintone, and from where it really leaves.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use tokio::net::TcpStream;

use crate::model::Host;

/// Hears of a connection that stands: its host name, and the local address that the kernel gives for
/// its socket.
pub type Hear = Box<dyn Fn(&Host, Ipv4Addr) + Send + Sync>;

/// Who hears, if anybody.
#[derive(Default)]
pub(super) struct Observer(OnceLock<Hear>);

impl Observer {
    pub(super) fn set(&self, hear: Hear) {
        let _ = self.0.set(hear);
    }

    pub(super) fn tell(&self, host: &Host, stream: &TcpStream) {
        if let Some(hear) = self.0.get() {
            let local = match stream.local_addr() {
                Ok(SocketAddr::V4(local)) => *local.ip(),
                // No address of ours, which is what the record then says.
                Ok(SocketAddr::V6(_)) | Err(_) => Ipv4Addr::UNSPECIFIED,
            };
            hear(host, local);
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer")
            .field(&self.0.get().is_some())
            .finish()
    }
}
