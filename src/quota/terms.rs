//! What the quota holds a call to, as far as the configuration alone decides it.

use std::time::Duration;

use crate::config::Config;
use crate::model::Tenant;

use super::ask::Ask;
use super::plan::Plan;
use super::pressure::Pressure;

/// The limits of a call. Figures are of this host, while nobody else's calls at kintone are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// kintone's limit for the account, in calls at once.
    pub concurrency: u32,
    /// Places left to the customer's own users and other tools.
    pub headroom: u32,
    /// Hosts that share the account.
    pub hosts: u32,
    /// Permits of this host.
    pub permits: u32,
    /// Those of them that a batch call never takes.
    pub reserve: u32,
    /// Calls a second, sustained, on this host; `None`: no rate.
    pub rate: Option<f64>,
    /// Calls at once before the rate counts.
    pub burst: u32,
    /// Calls that may wait.
    pub queue: u32,
    /// The longest wait of this call for its permit and the rate.
    pub wait: Duration,
    /// The share of its tenant when tenants compete.
    pub weight: u32,
    /// The most permits that its tenant can have.
    pub ceiling: Option<u32>,
}

impl Terms {
    /// The limits of what `ask` asks for.
    #[must_use]
    pub fn of(config: &Config, ask: &Ask<'_>) -> Self {
        let plan = Plan::of(config, ask.account);
        let pressure = Pressure::default();
        let limit = pressure.effective_limit(plan.quota.concurrency);
        let permits = plan.part_of(pressure.allowed(limit, plan.quota.headroom));
        let tenant = ask.tenant.map_or(ask.caller.as_str(), Tenant::as_str);
        let tenant = plan.tenants.get(tenant);
        Self {
            concurrency: plan.quota.concurrency,
            headroom: plan.quota.headroom,
            hosts: plan.hosts,
            permits,
            reserve: plan.reserve(permits),
            rate: plan.rate.map(|rate| rate.per_s()),
            burst: plan.rate.map_or(plan.quota.burst, |rate| rate.burst()),
            queue: plan.quota.queue,
            wait: plan.wait(ask.priority, ask.caller_wait, ask.call_wait),
            weight: tenant.map_or(1, |tenant| tenant.weight),
            ceiling: tenant.and_then(|tenant| tenant.concurrency),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::file::{Environment, parse};
    use crate::model::{Account, CallerName, Mode, Priority};

    use super::*;

    fn terms(tables: &str, ask: &Ask<'_>) -> Terms {
        let text = format!(
            "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n{tables}"
        );
        let environment = Environment {
            host_name: "gw-a".to_owned(),
            ..Environment::default()
        };
        let loaded = parse(&text, Path::new("test.toml"), &environment).expect("valid");
        Terms::of(&loaded.config, ask)
    }

    #[test]
    fn they_are_what_the_books_begin_with() {
        let caller = CallerName::parse("events").expect("a name");
        let account = Account::from_normal("acme.cybozu.com");
        let tenant = Tenant::parse("company-1").ok();
        let mut ask = Ask {
            account: &account,
            mode: Mode::Forward,
            tenant: tenant.as_ref(),
            caller: &caller,
            priority: Priority::Interactive,
            caller_wait: Some(Duration::from_secs(4)),
            call_wait: Some(Duration::from_secs(2)),
            weight: 1,
        };
        let usual = terms("", &ask);
        assert_eq!((usual.permits, usual.reserve, usual.hosts), (80, 8, 1));
        assert_eq!((usual.rate, usual.wait), (None, Duration::from_secs(2)));
        assert_eq!((usual.weight, usual.ceiling), (1, None));
        ask.priority = Priority::Batch;
        (ask.caller_wait, ask.call_wait) = (None, None);
        let own = terms(
            "[fleet]\nhosts = [\"gw-a\", \"gw-b\"]\n[quota]\nrate = 10\n\
             [account.\"acme.cybozu.com\"]\nconcurrency = 50\n\
             [account.\"acme.cybozu.com\".tenant.company-1]\nweight = 3\nconcurrency = 9\n",
            &ask,
        );
        assert_eq!((own.concurrency, own.permits, own.hosts), (50, 15, 2));
        assert_eq!((own.rate, own.burst), (Some(5.0), 50));
        assert_eq!(own.wait, Duration::from_secs(600));
        assert_eq!((own.weight, own.ceiling), (3, Some(9)));
    }
}
