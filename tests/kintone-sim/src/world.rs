//! What all connections of a simulator share.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fault::Faults;
use crate::ledger::{Book, Keep};
use crate::tenant::{Tenant, TenantSettings};
use crate::tls::Certificates;

/// The zones under which accounts live.
const ZONES: [&str; 3] = [".cybozu.com", ".kintone.com", ".cybozu.cn"];

pub(crate) struct World {
    pub(crate) book: Book,
    pub(crate) faults: Faults,
    pub(crate) certificates: Certificates,
    pub(crate) stop: CancellationToken,
    pub(crate) started: Instant,
    tenants: RwLock<HashMap<String, Arc<Tenant>>>,
}

impl World {
    pub(crate) fn new(certificates: Certificates, keep: Keep) -> Self {
        Self {
            book: Book::new(keep),
            faults: Faults::default(),
            certificates,
            stop: CancellationToken::new(),
            started: Instant::now(),
            tenants: RwLock::default(),
        }
    }

    pub(crate) fn put(&self, domain: &str, settings: TenantSettings) {
        let domain = domain_of(domain);
        let tenant = Tenant::new(domain.clone(), settings, self.book.keep);
        self.tenants
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(domain, Arc::new(tenant));
    }

    /// The account of a domain, created when there is none.
    pub(crate) fn tenant_or_new(&self, domain: &str) -> Arc<Tenant> {
        let domain = domain_of(domain);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        let tenant = tenants.entry(domain).or_insert_with_key(|domain| {
            let settings = TenantSettings::default();
            Arc::new(Tenant::new(domain.clone(), settings, self.book.keep))
        });
        Arc::clone(tenant)
    }

    /// The account of a domain or host name.
    pub(crate) fn tenant(&self, host: &str) -> Option<Arc<Tenant>> {
        self.tenants
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&domain_of(host))
            .cloned()
    }
}

/// The domain of a host name: lower case, without port and without the `.s` of client certificates.
pub(crate) fn domain_of(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.split_once(':').map_or(host.as_str(), |(name, _)| name);
    for zone in ZONES {
        if let Some(label) = host.strip_suffix(zone) {
            return format!("{}{zone}", label.strip_suffix(".s").unwrap_or(label));
        }
    }
    host.to_owned()
}
