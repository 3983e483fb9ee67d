//! A caller with its rights and with what was seen of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::identity::sits_in;
use super::reply::Reason;
use crate::config::{Caller, Config, NamePattern, TenantRule};
use crate::model::{
    Account, CallerName, Client, Denial, Detail, Mode, Priority, Purpose, RequestId, Tenant,
};

/// How many purposes of a caller are told apart.
const PURPOSES_MAX: usize = 16;

/// How many refusals of a caller are remembered.
const REFUSALS_MAX: usize = 50;

/// A caller with what was seen of it.
#[derive(Debug)]
pub(crate) struct KnownCaller {
    rule: Caller,
    seen: Arc<Seen>,
}

/// What was seen of a caller. It outlives a reload.
#[derive(Debug, Default)]
struct Seen {
    purposes: Mutex<BTreeSet<Purpose>>,
    /// The newest last.
    refusals: Mutex<VecDeque<Refusal>>,
}

/// A call that the gateway refused or failed, as its caller may be told of it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) id: RequestId,
    pub(crate) at: Timestamp,
    pub(crate) reason: Reason,
    pub(crate) mode: Option<Mode>,
    pub(crate) account: Option<Account>,
    pub(crate) tenant: Option<Tenant>,
}

impl KnownCaller {
    /// A caller by its rule, with what was seen of it under the rule `before`.
    pub(crate) fn new(rule: Caller, before: Option<&Self>) -> Arc<Self> {
        let seen = before.map_or_else(Arc::default, |before| Arc::clone(&before.seen));
        Arc::new(Self { rule, seen })
    }

    /// The caller without a name.
    pub(crate) fn anonymous(before: Option<&Self>) -> Arc<Self> {
        let rule = Caller {
            name: CallerName::parse("anonymous").expect("is a valid name"),
            tokens: Vec::new(),
            certificate: None,
            networks: Vec::new(),
            accounts: vec![NamePattern::Any],
            tenants: TenantRule::Any,
            modes: Mode::ALL.to_vec(),
            priority: Priority::Interactive,
            max_wait: None,
            enabled: true,
        };
        Self::new(rule, before)
    }

    /// What the configuration says of it.
    pub(crate) const fn rule(&self) -> &Caller {
        &self.rule
    }

    /// The purpose to count a call under: one of the first 16 that this caller named, else `other`.
    pub(crate) fn purpose(&self, named: Purpose) -> Purpose {
        let mut known = locked(&self.seen.purposes);
        if known.contains(&named) || (known.len() < PURPOSES_MAX && known.insert(named.clone())) {
            named
        } else {
            Purpose::parse("other").expect("is a valid purpose")
        }
    }

    /// Remembers a refusal; the oldest is forgotten when there are too many.
    pub(crate) fn was_refused(&self, refusal: Refusal) {
        let mut refusals = locked(&self.seen.refusals);
        if refusals.len() >= REFUSALS_MAX {
            refusals.pop_front();
        }
        refusals.push_back(refusal);
    }

    /// The last refusals, the newest first, at most 50; only those of `tenant`, if one is given.
    pub(crate) fn refusals(&self, tenant: Option<&Tenant>) -> Vec<Refusal> {
        let refusals = locked(&self.seen.refusals);
        let wanted = |refusal: &&Refusal| tenant.is_none() || refusal.tenant.as_ref() == tenant;
        refusals.iter().rev().filter(wanted).cloned().collect()
    }

    /// Whether this caller may speak to the gateway at all, from there.
    ///
    /// # Errors
    /// [`Denial::CallerForbidden`]: it is disabled, or calls from a forbidden network.
    pub(crate) fn may_speak(&self, client: Client) -> Result<(), Denial> {
        if !self.rule.enabled {
            return Err(Denial::CallerForbidden(Detail::CallerDisabled));
        }
        if !self.rule.networks.is_empty() && !sits_in(client, &self.rule.networks) {
            return Err(Denial::CallerForbidden(Detail::NetworkForbidden));
        }
        Ok(())
    }

    /// Whether this caller may do that.
    ///
    /// # Errors
    /// [`Denial::CallerForbidden`] with which right is missing.
    pub(crate) fn may(
        &self,
        config: &Config,
        client: Client,
        account: &Account,
        tenant: Option<&Tenant>,
        mode: Mode,
    ) -> Result<(), Denial> {
        self.may_speak(client)?;
        let rule = &self.rule;
        let settings = config.accounts.get(account);
        let detail = if !rule
            .accounts
            .iter()
            .any(|pattern| pattern.matches(account.as_str()))
        {
            Detail::AccountForbidden
        } else if tenant.is_some_and(|tenant| !rule.tenants.allows(tenant)) {
            Detail::TenantForbidden
        } else if !rule.modes.contains(&mode) {
            Detail::ModeForbidden
        } else if settings.is_some_and(|settings| !settings.enabled) {
            Detail::AccountDisabled
        } else {
            return Ok(());
        };
        Err(Denial::CallerForbidden(detail))
    }
}

/// Every change under these locks is one step of a standard collection: a poisoned one is whole.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_are_bounded() {
        let caller = KnownCaller::anonymous(None);
        for letter in 'a'..='z' {
            caller.purpose(Purpose::parse(&letter.to_string()).unwrap());
        }
        let purpose = |named| caller.purpose(Purpose::parse(named).unwrap());
        assert_eq!(purpose("a").as_str(), "a");
        assert_eq!(purpose("z").as_str(), "other");
    }

    #[test]
    fn the_last_refusals_stay_over_a_reload_and_a_tenant_sees_its_own() {
        let caller = KnownCaller::anonymous(None);
        for number in 0..120_u128 {
            caller.was_refused(Refusal {
                id: RequestId::from_random(number),
                at: Timestamp::UNIX_EPOCH,
                reason: Reason::Denied(Denial::Draining),
                mode: None,
                account: None,
                tenant: (number % 2 == 0).then(|| Tenant::parse("even").unwrap()),
            });
        }
        let reloaded = KnownCaller::anonymous(Some(&caller));
        let all = reloaded.refusals(None);
        assert_eq!(all.len(), REFUSALS_MAX);
        assert_eq!(all[0].id, RequestId::from_random(119), "the newest first");
        assert_eq!(all[49].id, RequestId::from_random(70));
        let even = reloaded.refusals(Tenant::parse("even").ok().as_ref());
        assert_eq!(even.len(), 25);
        assert_eq!(even[0].id, RequestId::from_random(118));
        let other = Tenant::parse("other").ok();
        assert!(reloaded.refusals(other.as_ref()).is_empty());
    }
}
