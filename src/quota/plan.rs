//! What the configuration says about accounts, in the form the books use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{Circuit, Config, QuotaSettings, TenantSettings};
use crate::model::{Account, Priority, Tenant};

use super::rate::RateLimit;

/// The limits of one account, shared by all accounts that have no table of their own.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its settings.
    pub(super) quota: Arc<QuotaSettings>,
    /// Its tenants that have settings.
    pub(super) tenants: BTreeMap<Tenant, TenantSettings>,
    /// When its calls stop before kintone.
    pub(super) circuit: Arc<Circuit>,
    /// This host's part of the rate.
    pub(super) rate: Option<RateLimit>,
    /// Hosts that share it, at least one.
    pub(super) hosts: u32,
}

/// The plans of all accounts.
#[derive(Debug)]
pub(super) struct Plans {
    usual: Arc<Plan>,
    own: HashMap<Account, Arc<Plan>>,
}

/// Longest wait of a batch call whose caller has no wait of its own.
const BATCH_WAIT: Duration = Duration::from_secs(600);

impl Plans {
    /// The plans of a configuration.
    pub(super) fn new(config: &Config) -> Self {
        let hosts = hosts(config);
        let circuit = Arc::new(config.circuit.clone());
        let own = config.accounts.iter().map(|(account, settings)| {
            let tenants = settings.tenants.clone();
            let plan = Plan::new(&settings.quota, tenants, &circuit, hosts);
            (account.clone(), Arc::new(plan))
        });
        Self {
            usual: Arc::new(Plan::new(&config.quota, BTreeMap::new(), &circuit, hosts)),
            own: own.collect(),
        }
    }

    /// `settle` of the accounts that have no table of their own.
    pub(super) fn usual_settle(&self) -> Duration {
        self.usual.quota.settle
    }

    /// How long it is until the next announced maintenance begins; `today` tells the time, which is
    /// asked only where there is one.
    pub(super) fn next_window(&self, today: impl FnOnce() -> Timestamp) -> Option<Duration> {
        let windows = &self.usual.circuit.windows;
        if windows.is_empty() {
            return None;
        }
        let today = today();
        let begins = windows.iter().map(|window| window.from);
        let next = begins.filter(|from| *from > today).min()?;
        Some(next.duration_since(today).unsigned_abs())
    }

    /// The longest `settle` of any account.
    pub(super) fn longest_settle(&self) -> Duration {
        let own = self.own.values().map(|plan| plan.quota.settle);
        own.fold(self.usual_settle(), Duration::max)
    }

    /// The plan of an account.
    pub(super) fn of(&self, account: &Account) -> &Arc<Plan> {
        self.own.get(account).unwrap_or(&self.usual)
    }
}

impl Plan {
    /// The plan of one account of a configuration.
    pub(super) fn of(config: &Config, account: &Account) -> Self {
        let settings = config.accounts.get(account);
        let tenants = settings.map(|settings| settings.tenants.clone());
        let tenants = tenants.unwrap_or_default();
        let circuit = Arc::new(config.circuit.clone());
        Self::new(config.quota_of(account), tenants, &circuit, hosts(config))
    }

    fn new(
        quota: &QuotaSettings,
        tenants: BTreeMap<Tenant, TenantSettings>,
        circuit: &Arc<Circuit>,
        hosts: u32,
    ) -> Self {
        Self {
            circuit: Arc::clone(circuit),
            rate: RateLimit::new(quota.rate, quota.burst, hosts),
            quota: Arc::new(quota.clone()),
            tenants,
            hosts,
        }
    }

    /// This host's part of the permits that are ours.
    pub(super) fn part_of(&self, permits: u32) -> u32 {
        (permits / self.hosts).max(1)
    }

    /// Those of this host's permits that batch calls never take.
    pub(super) fn reserve(&self, allowed: u32) -> u32 {
        self.quota.interactive_reserve.min(allowed / 2)
    }

    /// The longest wait of a call: the shortest of its own and its caller's, else the account's.
    pub(super) fn wait(
        &self,
        priority: Priority,
        caller_wait: Option<Duration>,
        call_wait: Option<Duration>,
    ) -> Duration {
        let usual = match priority {
            Priority::Interactive => self.quota.max_wait,
            Priority::Batch => BATCH_WAIT,
        };
        let longest = caller_wait.unwrap_or(usual);
        call_wait.map_or(longest, |wait| wait.min(longest))
    }
}

fn hosts(config: &Config) -> u32 {
    u32::try_from(config.fleet.hosts.len())
        .unwrap_or(u32::MAX)
        .max(1)
}
