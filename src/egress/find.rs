//! Where a host name may be dialled.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use tokio::time::{Instant, timeout_at};

use super::resolve::{Destinations, Resolved, Resolver};
use super::source::Addresses;
use super::verdict::{Timings, Verdict};
use super::vet;
use crate::model::{Denial, Detail, Failure, Host};

/// Resolves names and vets what they lead to.
pub(super) struct Finder {
    pub(super) resolver: Resolver,
    pub(super) allow_networks: Vec<Ipv4Net>,
    /// Those of this host, where kintone never is.
    pub(super) addresses: Arc<Addresses>,
}

impl Finder {
    /// The addresses of `host` that may be dialled; at least one.
    ///
    /// # Errors
    /// It cannot be resolved, or no address of it may be dialled.
    pub(super) async fn find(
        &self,
        host: &Host,
        deadline: Instant,
        timings: &mut Timings,
    ) -> Result<Destinations, Verdict> {
        let started = Instant::now();
        let resolved = timeout_at(deadline, self.resolver.resolve(host))
            .await
            .unwrap_or(Err(Detail::DnsTimeout));
        let mut destinations = match resolved {
            Ok(Resolved::Static(destinations)) => destinations,
            Ok(Resolved::Looked(destinations)) => {
                timings.dns = Some(started.elapsed());
                destinations
            }
            Err(detail) => {
                timings.dns = Some(started.elapsed());
                return Err(Verdict::Failed(Failure::Dns(detail)));
            }
        };
        destinations.retain(|to| self.may_dial(*to.ip()));
        if destinations.is_empty() {
            let denial = Denial::DestinationForbidden(Detail::AddressForbidden);
            return Err(Verdict::Denied(denial));
        }
        Ok(destinations)
    }

    /// kintone is never at an address of this host, whatever a name server says.
    fn may_dial(&self, to: Ipv4Addr) -> bool {
        let networks = &self.allow_networks;
        vet::is_allowed(to, networks) && (!self.addresses.has(to) || vet::is_within(to, networks))
    }
}
