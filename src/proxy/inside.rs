//! What the calls inside an inspected connection have in common: what its CONNECT said and proved.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};

use super::call::Call;
use super::identity::{Identity, Proof};
use super::judge::{Judged, Place};
use super::options::Options;
use super::shared::Rules;
use crate::model::Host;

/// An inspected connection, as the calls inside are judged by it. It stands as `Arc<Inside>` in the
/// extensions of each.
pub(crate) struct Inside {
    /// What CONNECT named, which every call inside must be for.
    host: Host,
    /// What CONNECT said about all calls inside.
    options: Options,
    /// The credentials of CONNECT, or none.
    credentials: HeaderMap,
    proved: ArcSwap<Proved>,
}

/// What the credentials proved, and by which rules.
struct Proved {
    rules: Arc<Rules>,
    identity: Identity,
}

impl Inside {
    /// The inside of a CONNECT that was let in, with these headers.
    pub(crate) fn new(call: &Call, headers: &HeaderMap) -> Arc<Self> {
        let credentials = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        let credentials = credentials.map(|value| (header::PROXY_AUTHORIZATION, value.clone()));
        Arc::new(Self {
            host: call.destination.host.clone(),
            options: call.options.clone(),
            credentials: credentials.collect(),
            proved: ArcSwap::from_pointee(Proved {
                rules: Arc::clone(&call.rules),
                identity: call.identity.clone(),
            }),
        })
    }

    /// Where a call inside stands.
    pub(crate) const fn place(&self) -> Place<'_> {
        Place::Inside {
            host: &self.host,
            options: &self.options,
        }
    }

    /// Who makes a call inside, if that was proved by these rules already.
    pub(crate) fn proved(&self, rules: &Arc<Rules>) -> Option<Identity> {
        let proved = self.proved.load();
        Arc::ptr_eq(&proved.rules, rules).then(|| proved.identity.clone())
    }

    /// What is to prove it again, after a reload.
    pub(crate) const fn proof(&self) -> Proof<'_> {
        Proof::Headers(&self.credentials)
    }

    /// It was proved by these rules.
    pub(crate) fn prove(&self, rules: &Arc<Rules>, judged: &Judged) {
        self.proved.store(Arc::new(Proved {
            rules: Arc::clone(rules),
            identity: judged.identity.clone(),
        }));
    }
}
