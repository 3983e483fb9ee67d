//! Two quiet hosts of one fleet, whose addresses are verified and that hand calls to each other, for the
//! figures that only these have.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use kintone_egress::config::token::hash_token;
use kintone_egress::tls::PeerAuthority;
use tokio::time::{Instant, sleep};

use crate::echo::{Echo, RIGHT, verify};
use crate::process::{Gateway, free_ports};
use crate::store::Store;
use crate::support::TOKEN;
use crate::support::caller::Caller;

/// An account that accepts only the second host's address, and that nothing answers for.
const HANDED: &str = "handed.cybozu.com";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Two gateways that share permits over a store of their own.
pub(crate) struct Pair {
    hosts: [Gateway; 2],
    _store: Store,
    _echo: Echo,
}

impl Pair {
    /// Starts them, each with a folder in `dir`.
    pub(crate) async fn start(dir: &Path) -> Self {
        let store = Store::start(&[]);
        let echo = Echo::telling(RIGHT).await;
        let authority = PeerAuthority::create(Timestamp::now(), 30 * DAY).unwrap();
        let listen = free_ports();
        let hosts = ["gw-a", "gw-b"].map(|name| {
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            let shown = authority.sign(name, Timestamp::now(), 20 * DAY).unwrap();
            let put = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
            put("hosts-ca.pem", &authority.certificate);
            put("host.pem", &shown.certificate);
            put("host.key", shown.key.expose());
            let private = Permissions::from_mode(0o600);
            std::fs::set_permissions(folder.join("host.key"), private).unwrap();
            let more = configuration(name, &store.url(), listen) + &verify(&[&echo]);
            Gateway::start(&folder, &more)
        });
        Self {
            hosts,
            _store: store,
            _echo: echo,
        }
    }

    /// The first host hands a call to the second one, which refuses it.
    pub(crate) async fn hand_over(&self, ca_pem: &str) {
        let caller = Caller::new(self.hosts[0].proxy, ca_pem, "events", TOKEN);
        let url = format!("https://{HANDED}/k/v1/records.json?app=1");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let answer = caller.get(&url).await;
            // Until its address is verified the second host is not ready.
            if answer.code() == "GW_UPSTREAM_CONNECT" {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Where Prometheus finds their figures.
    pub(crate) fn metrics(&self) -> [SocketAddr; 2] {
        [0, 1].map(|host| self.hosts[host].metrics)
    }
}

fn configuration(name: &str, redis: &str, [first, second]: [SocketAddr; 2]) -> String {
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
[upstream]
allow_networks = ["127.0.0.0/8"]
[upstream.resolve]
"{HANDED}" = "127.0.0.1:9"
[account."{HANDED}"]
accepts = ["35.73.236.241"]
[fleet.peer]
listen = {{ gw-a = "{first}", gw-b = "{second}" }}
cert = "host.pem"
key = "host.key"
ca = "hosts-ca.pem"
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
