//! The hosts and cables, and what can be done to them.
//!
//! ```text
//!  caller ──── gateway ════ router ──── kintone    103.79.12.10 and .11, allows the two only
//!              │ 18.177.83.94    └───── elsewhere  name server, echoes, and a host that is not kintone
//!              │ 35.73.236.241
//!              │ 18.177.83.95, which the kernel takes where nobody says which
//! ```
//!
//! Every host has IPv6 as well, with a way to kintone. The router sees what leaves the gateway twice:
//! by a tap (`wire`), and by the kernel's own counters, which lose nothing.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::wire::Tap;

/// The published addresses.
pub(crate) const PUBLISHED: [Ipv4Addr; 2] = [
    Ipv4Addr::new(18, 177, 83, 94),
    Ipv4Addr::new(35, 73, 236, 241),
];

/// The gateway host's own address: a socket that is not bound leaves from it.
pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 95);

/// Where kintone is.
pub(crate) const KINTONE: [Ipv4Addr; 2] = [
    Ipv4Addr::new(103, 79, 12, 10),
    Ipv4Addr::new(103, 79, 12, 11),
];

/// Where kintone is, for those who speak IPv6.
pub(crate) const KINTONE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x12, 0, 0, 0, 0, 0x10);

/// The name server.
pub(crate) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(103, 79, 13, 53);

/// A host on the internet that is not kintone, and speaks TLS on port 443.
pub(crate) const IMPOSTOR: Ipv4Addr = Ipv4Addr::new(103, 79, 13, 66);

/// Echoes that say what they see, by `kintone-egress echo`.
pub(crate) const ECHOES: [Ipv4Addr; 2] = [
    Ipv4Addr::new(103, 79, 13, 81),
    Ipv4Addr::new(103, 79, 13, 82),
];

/// An echo that says what a scenario tells it.
pub(crate) const LIAR: Ipv4Addr = Ipv4Addr::new(103, 79, 13, 83);

/// An address at which no echo is.
pub(crate) const DEAD: Ipv4Addr = Ipv4Addr::new(103, 79, 13, 84);

/// The port of echoes.
pub(crate) const ECHO_PORT: u16 = 80;

/// What a router translates to when it is wrong: nobody has published that.
pub(crate) const STRANGE: Ipv4Addr = Ipv4Addr::new(103, 79, 99, 9);

/// The gateway on its callers' network.
pub(crate) const GATEWAY_LAN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));

/// The port of the gateway's admin listener.
pub(crate) const ADMIN_PORT: u16 = 9180;

/// The gateway's interface to the internet, and the router's to the gateway.
const UPLINK: [&str; 2] = ["wan0", "gw0"];

const HOSTS: [&str; 5] = ["caller", "gateway", "router", "kintone", "elsewhere"];

/// One cable: host, interface and addresses of either end.
const CABLES: [[(&str, &str, &[&str]); 2]; 4] = [
    [
        ("caller", "lan0", &["10.77.1.2/24", "2001:db8:1::2/64"]),
        ("gateway", "lan0", &["10.77.1.1/24", "2001:db8:1::1/64"]),
    ],
    [
        (
            "gateway",
            UPLINK[0],
            &["18.177.83.95/26", "2001:db8:2::2/64"],
        ),
        (
            "router",
            UPLINK[1],
            &["18.177.83.65/26", "2001:db8:2::1/64"],
        ),
    ],
    [
        (
            "kintone",
            "net0",
            &["103.79.12.10/24", "103.79.12.11/24", "2001:db8:12::10/64"],
        ),
        ("router", "kin0", &["103.79.12.1/24", "2001:db8:12::1/64"]),
    ],
    [
        (
            "elsewhere",
            "net0",
            &[
                "103.79.13.53/24",
                "103.79.13.66/24",
                "103.79.13.81/24",
                "103.79.13.82/24",
                "103.79.13.83/24",
                "103.79.13.84/24",
                "2001:db8:13::53/64",
            ],
        ),
        ("router", "els0", &["103.79.13.1/24", "2001:db8:13::1/64"]),
    ],
];

/// What the router counts and where faults are put; `witness` sees each packet before it is judged
/// by anything else.
const ROUTER_RULES: &str = "
table inet witness {
    counter first {}
    counter second {}
    counter strays {}
    chain prerouting {
        type filter hook prerouting priority -400;
        iifname != \"gw0\" return
        ip saddr 18.177.83.94 tcp dport 443 counter name first return
        ip saddr 35.73.236.241 tcp dport 443 counter name second return
        ip saddr { 18.177.83.94, 35.73.236.241 } ip daddr 103.79.13.81-103.79.13.84 tcp dport 80 return
        ip daddr 103.79.13.53 udp dport 53 return
        ip daddr 103.79.13.53 tcp dport 53 return
        ip daddr 103.79.13.53 ip protocol icmp return
        icmpv6 type { 130-137, 143 } return
        counter name strays
    }
}
table inet faults {
    chain forward { type filter hook forward priority 0; }
}
";

/// The laboratory's network. Its namespaces are inside of the one that this program was started in,
/// and end with it.
pub(crate) struct Site {
    pub(crate) caller: Host,
    pub(crate) gateway: Arc<Host>,
    pub(crate) kintone: Host,
    pub(crate) elsewhere: Host,
}

/// What the kernel of the router has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Packets towards kintone as promised, by published address.
    pub(crate) promised: [u64; 2],
    /// Packets that are not as promised.
    pub(crate) strays: u64,
}

impl Site {
    /// Lays cables and routes.
    pub(crate) fn build() -> anyhow::Result<Self> {
        for host in HOSTS {
            run("ip", &["netns", "add", host])?;
            ip(host, "link set lo up")?;
        }
        for [one, other] in CABLES {
            ip(
                one.0,
                &format!(
                    "link add {} type veth peer name {} netns {}",
                    one.1, other.1, other.0
                ),
            )?;
            for (host, interface, addresses) in [one, other] {
                for address in addresses {
                    // Duplicate address detection would take a second.
                    let nodad = if address.contains(':') { " nodad" } else { "" };
                    ip(host, &format!("addr add {address} dev {interface}{nodad}"))?;
                }
                ip(host, &format!("link set {interface} up"))?;
            }
        }
        let site = Self {
            caller: Host::enter("caller")?,
            gateway: Arc::new(Host::enter("gateway")?),
            kintone: Host::enter("kintone")?,
            elsewhere: Host::enter("elsewhere")?,
        };
        for host in ["kintone", "elsewhere"] {
            let net = if host == "kintone" { 12 } else { 13 };
            ip(host, &format!("route add default via 103.79.{net}.1"))?;
            ip(host, &format!("-6 route add default via 2001:db8:{net}::1"))?;
        }
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            run("ip", &["netns", "exec", "router", "sysctl", "-qw", setting])?;
        }
        nft(ROUTER_RULES)?;
        site.restore()?;
        Ok(site)
    }

    /// Everything as it should be: addresses there, links up, routes laid, no faults.
    pub(crate) fn restore(&self) -> anyhow::Result<()> {
        nft("flush chain inet faults forward")?;
        // Deleting what is not there is a fault.
        nft("table ip translation {}\ndelete table ip translation")?;
        ip("router", "link set gw0 up")?;
        ip("gateway", "link set wan0 up")?;
        for address in PUBLISHED {
            self.return_address(address)?;
            let route = format!("route replace {address} via {NEIGHBOUR} dev gw0");
            ip("router", &route)?;
        }
        self.lay_routes()
    }

    /// What a network manager does when the gateway's link is up again.
    pub(crate) fn lay_routes(&self) -> anyhow::Result<()> {
        let out = "2001:db8:2::2/64 dev wan0 nodad";
        ip("gateway", &format!("-6 addr replace {out}"))?;
        let route = format!("route replace default via 18.177.83.65 src {NEIGHBOUR}");
        ip("gateway", &route)?;
        ip("gateway", "-6 route replace default via 2001:db8:2::1")
    }

    /// Takes an address from the gateway host.
    pub(crate) fn remove_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        ip("gateway", &format!("addr del {address}/32 dev wan0"))
    }

    /// Gives it back.
    pub(crate) fn return_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        ip("gateway", &format!("addr replace {address}/32 dev wan0"))
    }

    /// Lets the router do something to packets that it forwards: an nftables rule.
    pub(crate) fn fault(&self, rule: &str) -> anyhow::Result<()> {
        nft(&format!("add rule inet faults forward {rule}"))
    }

    /// Lets the router translate what it forwards, as between a private address and an Elastic IP: from
    /// here on it knows connections. So far each address stays as it is.
    pub(crate) fn translate(&self) -> anyhow::Result<()> {
        nft(
            "table ip translation {\n chain postrouting { type nat hook postrouting priority srcnat; }\n}",
        )
    }

    /// Lets it translate these addresses to a wrong one. Connections that it knows stay as they are.
    pub(crate) fn translate_wrongly(&self, addresses: &[Ipv4Addr]) -> anyhow::Result<()> {
        addresses.iter().try_for_each(|address| {
            nft(&format!(
                "add rule ip translation postrouting ip saddr {address} snat to {STRANGE}"
            ))
        })
    }

    /// Ends wrong translations.
    pub(crate) fn translate_rightly(&self) -> anyhow::Result<()> {
        nft("flush chain ip translation postrouting")
    }

    /// Ends all faults.
    pub(crate) fn clear_faults(&self) -> anyhow::Result<()> {
        nft("flush chain inet faults forward")
    }

    /// What the router's kernel has counted since it was asked last.
    pub(crate) fn witness(&self) -> anyhow::Result<Witness> {
        let told = run_in("router", "nft", &["-j", "reset", "counters"])?;
        let told: Value = serde_json::from_str(&told).context("nft's JSON")?;
        let count = |name: &str| {
            let objects = told["nftables"].as_array().into_iter().flatten();
            let mut counters = objects.map(|object| &object["counter"]);
            let counter = counters.find(|counter| counter["name"] == name);
            counter
                .and_then(|counter| counter["packets"].as_u64())
                .with_context(|| format!("no counter {name}"))
        };
        Ok(Witness {
            promised: [count("first")?, count("second")?],
            strays: count("strays")?,
        })
    }

    /// Taps on both ends of the gateway's way out.
    pub(crate) fn taps(&self) -> anyhow::Result<[Tap; 2]> {
        Ok([
            Tap::of_router("router", UPLINK[1])?,
            Tap::of_gateway("gateway", UPLINK[0])?,
        ])
    }
}

/// `ip` on a host.
pub(crate) fn ip(host: &str, command: &str) -> anyhow::Result<()> {
    let mut arguments = vec!["-n", host];
    arguments.extend(command.split(' '));
    run("ip", &arguments).map(drop)
}

fn nft(script: &str) -> anyhow::Result<()> {
    let mut nft = Command::new("ip")
        .args(["netns", "exec", "router", "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("nft")?;
    let mut input = nft.stdin.take().context("a pipe")?;
    input.write_all(script.as_bytes())?;
    drop(input);
    ensure!(nft.wait()?.success(), "nft refused: {script}");
    Ok(())
}

fn run_in(host: &str, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut all = vec!["netns", "exec", host, program];
    all.extend(arguments);
    run("ip", &all)
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} is missing; tests/lab/setup.sh installs it"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
