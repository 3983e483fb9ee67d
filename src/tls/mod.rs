//! TLS: what we originate towards kintone, and what a tunnel's first bytes say.

pub use hello::{Alpn, FatalAlert, HELLO_SIZE_MAX, Hello, fatal_alert, read_hello};
pub use outbound::{Outbound, TlsError, to_own_server};

pub mod hello;
pub mod outbound;
