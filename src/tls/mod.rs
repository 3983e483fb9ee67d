//! TLS: what we originate towards kintone, what a tunnel's first bytes say, and what inspected
//! callers are shown.

pub use authority::Authority;
pub use create::{CaFiles, NewCa};
pub use create_peers::{PeerAuthority, PeerFiles};
pub use hello::{Alpn, FatalAlert, HELLO_SIZE_MAX, Hello, fatal_alert, read_hello};
pub use leaf::MintError;
pub use outbound::{Outbound, TlsError, to_own_server};
pub use peer::{PeerError, PeerTls, PeerTlsError};
pub use trust::trust_pem;

pub mod authority;
pub mod create;
pub mod create_peers;
pub mod hello;
pub mod inbound;
pub mod outbound;
pub mod peer;

mod leaf;
mod trust;

#[cfg(test)]
mod tests;
