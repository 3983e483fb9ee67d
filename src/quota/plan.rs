//! What the configuration says about accounts, in the form the books use.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{AccountPolicy, Circuit, Config, QuotaSettings, TenantSettings};
use crate::model::{Account, Priority, Tenant};

use super::rate::RateLimit;
use super::share::Claim;

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
    /// What this host has where less than one permit for each of them is left.
    claim: Claim,
    /// How long calls on a loan that has ended may still run.
    pub(super) overrun: Duration,
}

/// The plans of all accounts.
#[derive(Debug)]
pub(super) struct Plans {
    usual: Arc<Plan>,
    own: HashMap<Account, Arc<Plan>>,
    /// Accounts to which no call may go.
    disabled: HashSet<Account>,
    /// Which accounts may be reached.
    policy: AccountPolicy,
}

/// Longest wait of a batch call whose caller has no wait of its own.
const BATCH_WAIT: Duration = Duration::from_secs(600);

impl Plans {
    /// The plans of a configuration.
    pub(super) fn new(config: &Config) -> Self {
        let overrun = config.fleet.exchange.overrun;
        let circuit = Arc::new(config.circuit.clone());
        let place = Place::of(config);
        let own = config.accounts.iter().map(|(account, settings)| {
            let tenants = settings.tenants.clone();
            let plan = Plan::new(&settings.quota, tenants, &circuit, place, overrun);
            (account.clone(), Arc::new(plan))
        });
        let disabled = config
            .accounts
            .iter()
            .filter(|(_, settings)| !settings.enabled);
        let disabled = disabled.map(|(account, _)| account);
        Self {
            usual: Arc::new(Plan::new(
                &config.quota,
                BTreeMap::new(),
                &circuit,
                place,
                overrun,
            )),
            own: own.collect(),
            disabled: disabled.cloned().collect(),
            policy: config.upstream.accounts,
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

    /// The permits of an account that all hosts share; `None`: no call may go there.
    pub(super) fn total_of(&self, account: &Account) -> Option<u32> {
        let is_known = self.policy == AccountPolicy::Any || self.own.contains_key(account);
        (is_known && !self.disabled.contains(account)).then(|| self.of(account).total())
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
        let overrun = config.fleet.exchange.overrun;
        let place = Place::of(config);
        Self::new(config.quota_of(account), tenants, &circuit, place, overrun)
    }

    fn new(
        quota: &QuotaSettings,
        tenants: BTreeMap<Tenant, TenantSettings>,
        circuit: &Arc<Circuit>,
        place: Place,
        overrun: Duration,
    ) -> Self {
        Self {
            circuit: Arc::clone(circuit),
            rate: RateLimit::new(quota.rate, quota.burst, place.hosts),
            quota: Arc::new(quota.clone()),
            tenants,
            hosts: place.hosts,
            claim: place.claim,
            overrun,
        }
    }

    /// The permits that all hosts share, as far as the configuration alone decides it.
    pub(super) fn total(&self) -> u32 {
        let quota = &self.quota;
        quota.concurrency.saturating_sub(quota.headroom).max(1)
    }

    /// This host's fixed part of the permits that are ours: an equal one, rounded down. Where that is
    /// nothing, what there is goes by the hosts' claims, so that together they use no more.
    pub(super) fn part_of(&self, permits: u32) -> u32 {
        match permits / self.hosts {
            0 => self.claim.least(permits),
            part => part,
        }
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

/// Where a host stands among those that share the accounts.
#[derive(Debug, Clone, Copy)]
struct Place {
    hosts: u32,
    claim: Claim,
}

impl Place {
    fn of(config: &Config) -> Self {
        let fleet = &config.fleet;
        let rank = fleet.hosts.iter().position(|host| *host == fleet.host);
        Self {
            hosts: u32::try_from(fleet.hosts.len()).unwrap_or(u32::MAX).max(1),
            claim: match (rank, fleet.hosts.len()) {
                (Some(0), _) => Claim::First,
                (Some(1), 2) => Claim::Second,
                (_, _) => Claim::Never,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::file::{Environment, parse};

    use super::*;

    /// The fixed part of each of so many hosts in each number of permits up to `permits`.
    fn parts(hosts: usize, permits: u32) -> Vec<Vec<u32>> {
        let names: Vec<_> = (0..hosts).map(|host| format!("gw-{host}")).collect();
        let plans = names.iter().map(|name| {
            let text = format!(
                "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n\
                 [fleet]\nhosts = {names:?}\n"
            );
            let environment = Environment {
                host_name: name.clone(),
                ..Environment::default()
            };
            let loaded = parse(&text, Path::new("test.toml"), &environment).expect("valid");
            Plan::of(&loaded.config, &Account::from_normal("acme.cybozu.com"))
        });
        let plans: Vec<_> = plans.collect();
        let of = |permits| plans.iter().map(|plan| plan.part_of(permits)).collect();
        (1..=permits).map(of).collect()
    }

    #[test]
    fn fixed_parts_are_floors_and_a_rest_too_small_for_all_is_the_first_hosts() {
        assert_eq!(parts(1, 3), [[1], [2], [3]]);
        assert_eq!(parts(2, 5), [[1, 0], [1, 1], [1, 1], [2, 2], [2, 2]]);
        assert_eq!(parts(3, 4), [[1, 0, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]]);
        for hosts in 1..=5 {
            for (index, parts) in parts(hosts, 100).into_iter().enumerate() {
                let sum = parts.iter().sum::<u32>() as usize;
                assert!((1..=index + 1).contains(&sum), "{parts:?} of {}", index + 1);
            }
        }
    }
}
