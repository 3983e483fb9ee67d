//! Two quiet hosts of one fleet, for the figures that only a fleet has.

use std::net::SocketAddr;
use std::path::Path;

use kintone_egress::config::token::hash_token;

use crate::process::Gateway;
use crate::store::Store;
use crate::support::TOKEN;

/// Two gateways that share permits over a store of their own.
pub(crate) struct Pair {
    hosts: [Gateway; 2],
    _store: Store,
}

impl Pair {
    /// Starts them, each with a folder in `dir`.
    pub(crate) fn start(dir: &Path) -> Self {
        let store = Store::start(&[]);
        let hosts = ["gw-a", "gw-b"].map(|name| {
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            Gateway::start(&folder, &configuration(name, &store.url()))
        });
        Self {
            hosts,
            _store: store,
        }
    }

    /// Where Prometheus finds their figures.
    pub(crate) fn metrics(&self) -> [SocketAddr; 2] {
        [0, 1].map(|host| self.hosts[host].metrics)
    }
}

fn configuration(name: &str, redis: &str) -> String {
    let token = hash_token(TOKEN.as_bytes()).to_hex();
    format!(
        r#"
[[egress.address]]
published = "18.177.83.94"
bind = {{ gw-a = "127.0.1.94" }}
[[egress.address]]
published = "35.73.236.241"
bind = {{ gw-b = "127.0.1.241" }}
[[caller]]
name = "events"
token_sha256 = "{token}"
[fleet]
host = "{name}"
hosts = ["gw-a", "gw-b"]
redis = "{redis}"
[log]
access = "off"
[drain]
announce = "0s"
grace = "1s"
"#
    )
}
