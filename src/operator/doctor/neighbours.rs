//! The other hosts, as this host would hand calls to them: their listeners and certificates, and this
//! host's own.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use jiff::{SignedDuration, Timestamp};

use super::report::Report;
use crate::config::{Config, Peer};
use crate::handover::{Peers, Reuse, Unreached};

/// How long before the end of a certificate it is told.
const EXPIRY_WARNING: SignedDuration = SignedDuration::from_hours(14 * 24);

pub(super) async fn examine(config: &Config, now: Timestamp, report: &mut Report) {
    let Some(peer) = &config.fleet.peer else {
        return;
    };
    certificate(peer, now, report);
    let peers: Arc<Peers<Empty<Bytes>>> = match Peers::new(config) {
        Ok(Some(peers)) => peers,
        Ok(None) => return,
        Err(error) => return report.finding("other hosts", error),
    };
    for (host, address) in &peer.listen {
        if *host == config.fleet.host {
            continue;
        }
        let what = format!("other host {host} ({address})");
        let reached = peers.checkout(host, Reuse::Never, Empty::new()).await;
        match reached {
            Ok(_) => report.well(what, "takes calls from this host"),
            Err(error) => {
                let remedy = remedy(&error);
                report.finding(what, format_args!("{error}; {remedy}"));
            }
        }
    }
}

fn certificate(peer: &Peer, now: Timestamp, report: &mut Report) {
    const REMEDY: &str = "make new ones by `kintone-egress ca peers`, then reload every host";
    let what = "certificate of [fleet.peer]";
    let until = peer.expires();
    if until <= now {
        report.finding(what, format_args!("ended {until}; {REMEDY}"));
    } else if now.duration_until(until) < EXPIRY_WARNING {
        report.finding(what, format_args!("ends {until}; {REMEDY}"));
    } else {
        report.well(what, format_args!("until {until}"));
    }
}

/// What is to be looked at.
const fn remedy(error: &Unreached) -> &'static str {
    match error {
        Unreached::Connect(_) | Unreached::Timeout => {
            "does a gateway run there under the same file, and do the firewalls let this host in?"
        }
        Unreached::Tls(_) => "is its certificate of [fleet.peer] ca, in its time and of its name?",
        Unreached::Broken(_) => {
            "it does not take this host's certificate, or is at its limit: its log says which"
        }
        Unreached::NotReady(_) => "it drains, or has no usable address: ask its /readyz",
        Unreached::Unknown | Unreached::Paused | Unreached::Full => "repeat this",
    }
}
