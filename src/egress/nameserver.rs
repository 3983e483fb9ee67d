//! Asks the name servers that this host is configured with, for IPv4 addresses only.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use smallvec::SmallVec;

use crate::model::{Detail, Host};

/// A positive answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) addresses: SmallVec<[Ipv4Addr; 4]>,
    pub(super) ttl: Duration,
}

/// This host cannot resolve any name.
#[derive(Debug, thiserror::Error)]
#[error("/etc/resolv.conf: {0}")]
pub struct ResolverError(#[from] NetError);

/// The name servers of `/etc/resolv.conf`, read again when that file or `/etc/hosts` changes.
pub(super) struct Nameservers {
    /// Longest wait for one answer of one server.
    attempt_timeout: Duration,
    built: Mutex<Option<(Stamp, TokioResolver)>>,
}

/// When the files that a resolver was built from had been changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    Files([Option<SystemTime>; 2]),
    #[cfg(test)]
    Fixed,
}

/// The files that decide, on every Unix.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Addresses of one name that are kept.
const ADDRESSES_MAX: usize = 16;

/// So many attempts of a query fit into its time, so that a lost datagram costs a quarter of it only.
const ATTEMPTS_IN_TIME: u32 = 4;

impl Nameservers {
    /// Those of this host, each query within that time.
    pub(super) fn within(time: Duration) -> Self {
        Self {
            attempt_timeout: time / ATTEMPTS_IN_TIME,
            built: Mutex::new(None),
        }
    }

    /// Those of a test.
    #[cfg(test)]
    pub(super) fn fixed(resolver: TokioResolver) -> Self {
        Self {
            attempt_timeout: Duration::from_secs(1),
            built: Mutex::new(Some((Stamp::Fixed, resolver))),
        }
    }

    /// Reads the files once, to tell faults early.
    pub(super) fn check(&self) -> Result<(), ResolverError> {
        self.resolver().map(drop)
    }

    /// Asks for the A records of `host`, and for nothing else: no search list, no AAAA.
    pub(super) async fn ask(&self, host: &Host) -> Result<Answer, Detail> {
        let resolver = self.resolver().map_err(|_| Detail::DnsFailed)?;
        let mut name = Name::from_ascii(host.as_str()).map_err(|_| Detail::DnsFailed)?;
        name.set_fqdn(true);
        let lookup = resolver
            .ipv4_lookup(name)
            .await
            .map_err(|error| judge(&error))?;
        let ttl = lookup.answers().iter().map(|record| record.ttl).min();
        let addresses = lookup.answers().iter().filter_map(|record| {
            if let RData::A(address) = &record.data {
                Some(address.0)
            } else {
                None
            }
        });
        let addresses: SmallVec<_> = addresses.take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err(Detail::DnsNotFound);
        }
        Ok(Answer {
            addresses,
            ttl: Duration::from_secs(u64::from(ttl.unwrap_or(0))),
        })
    }

    fn resolver(&self) -> Result<TokioResolver, ResolverError> {
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(test)]
        if let Some((Stamp::Fixed, resolver)) = &*built {
            return Ok(resolver.clone());
        }
        let stamp = Stamp::Files(FILES.map(changed));
        if let Some((of, resolver)) = &*built
            && *of == stamp
        {
            return Ok(resolver.clone());
        }
        match (self.build(), &*built) {
            (Ok(resolver), _) => {
                *built = Some((stamp, resolver.clone()));
                Ok(resolver)
            }
            // Caught half written, perhaps; the next query looks again.
            (Err(error), Some((_, before))) => {
                tracing::warn!(%error, "name servers: the configuration of before still serves");
                Ok(before.clone())
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4Only;
        // Ours knows stale answers.
        options.cache_size = 0;
        options.timeout = options.timeout.min(self.attempt_timeout);
        builder.build()
    }
}

fn changed(file: &str) -> Option<SystemTime> {
    Path::new(file).metadata().and_then(|m| m.modified()).ok()
}

fn judge(error: &NetError) -> Detail {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "hickory adds variants; whatever it is, there is no answer"
    )]
    match error {
        NetError::Timeout => Detail::DnsTimeout,
        NetError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Detail::DnsTimeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => judge_code(none.response_code),
        NetError::Dns(DnsError::ResponseCode(code)) => judge_code(*code),
        _ => Detail::DnsFailed,
    }
}

fn judge_code(code: ResponseCode) -> Detail {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other code means that the server will not answer"
    )]
    match code {
        // No error and no record: the name exists, but has no IPv4 address.
        ResponseCode::NXDomain | ResponseCode::NoError => Detail::DnsNotFound,
        ResponseCode::ServFail => Detail::DnsServfail,
        _ => Detail::DnsFailed,
    }
}
