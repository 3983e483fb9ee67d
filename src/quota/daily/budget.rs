//! How many calls a day an app has, and when somebody is told. Pure.

use crate::config::{Config, DailyPolicy};
use crate::model::{Account, Priority};

/// Warnings are given at these parts of the budget, in percent, each once a day.
const WARNINGS: [u64; 4] = [80, 90, 95, 100];

/// From this part of the budget on, in percent, batch calls are refused where it is enforced: the
/// rest is for those that somebody waits for.
const BATCH_PART: u64 = 95;

/// An app's calls of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// `daily_per_app`, where hosts tell each other of their calls; else this host's part of it.
    pub part: u64,
    /// What becomes of calls beyond.
    pub policy: DailyPolicy,
}

impl Budget {
    /// The budget of each app of an account. Hosts without a store have their fixed parts of it.
    #[must_use]
    pub fn of(config: &Config, account: &Account) -> Self {
        let quota = config.quota_of(account);
        let hosts = match &config.fleet.redis {
            Some(_) => 1,
            None => config.fleet.hosts.len().max(1) as u64,
        };
        Self {
            part: (quota.daily_per_app / hosts).max(1),
            policy: quota.daily_policy,
        }
    }

    /// Calls of this urgency that are let through; `None`: all.
    #[must_use]
    pub fn limit(self, priority: Priority) -> Option<u64> {
        match (self.policy, priority) {
            (DailyPolicy::Warn, _) => None,
            (DailyPolicy::Enforce, Priority::Interactive) => Some(self.part),
            (DailyPolicy::Enforce, Priority::Batch) => Some(percent_of(self.part, BATCH_PART)),
        }
    }
}

/// The highest warning that is due at so many calls, in percent; 0: none.
pub(super) fn due(requests: u64, budget: u64) -> u64 {
    let reached =
        |percent: &&u64| u128::from(requests) * 100 >= u128::from(budget) * u128::from(**percent);
    WARNINGS.iter().rev().find(reached).copied().unwrap_or(0)
}

/// The warnings above `given` up to `due`.
pub(super) fn between(given: u64, due: u64) -> impl Iterator<Item = u64> {
    WARNINGS
        .into_iter()
        .filter(move |percent| *percent > given && *percent <= due)
}

fn percent_of(whole: u64, percent: u64) -> u64 {
    let part = u128::from(whole) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_due_when_its_part_is_reached() {
        for (requests, expected) in [
            (0, 0),
            (7999, 0),
            (8000, 80),
            (8999, 80),
            (9000, 90),
            (9500, 95),
            (9999, 95),
            (10_000, 100),
            (u64::MAX, 100),
        ] {
            assert_eq!(due(requests, 10_000), expected, "{requests}");
        }
        assert_eq!(due(u64::MAX - 1, u64::MAX), 95);
        assert_eq!(between(80, 100).collect::<Vec<_>>(), [90, 95, 100]);
        assert_eq!(between(100, 100).count(), 0);
    }

    #[test]
    fn batch_calls_yield_first_and_only_where_the_budget_is_enforced() {
        let budget = |policy| Budget { part: 101, policy };
        let enforced = budget(DailyPolicy::Enforce);
        assert_eq!(enforced.limit(Priority::Interactive), Some(101));
        assert_eq!(enforced.limit(Priority::Batch), Some(95));
        for priority in Priority::ALL {
            assert_eq!(budget(DailyPolicy::Warn).limit(priority), None);
        }
    }
}
