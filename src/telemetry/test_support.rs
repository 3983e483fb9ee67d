//! A configuration, a record and readers of the exposition, for the tests of telemetry and of
//! what stands on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{
    AccessLog, AccountPolicy, AccountSettings, Admin, Caller, Callers, Circuit, Config, Drain,
    Exchange, Fleet, Limits, Listen, Log, QuotaSettings, TenantRule, Upstream,
};
use crate::model::{Account, CallerName, Credential, Mode, Outcome, Priority, RequestId};
use crate::telemetry::{AccessLogHandle, Record, Telemetry, Views};

/// A configuration with one caller, `call-events`, and these accounts.
pub(crate) fn config(accounts: &[&str], account_series: usize) -> Config {
    let settings = AccountSettings {
        enabled: true,
        quota: QuotaSettings::default(),
        accepts: Vec::new(),
        probe: None,
        contacts: Vec::new(),
        tenants: BTreeMap::new(),
    };
    Config {
        listen: Listen {
            proxy: Vec::new(),
            admin: ([127, 0, 0, 1], 0).into(),
            metrics: None,
            public: None,
            proxy_tls: Vec::new(),
            tls: None,
        },
        addresses: Vec::new(),
        notice: Default::default(),
        public: Default::default(),
        evidence: Default::default(),
        acceptance: Default::default(),
        upstream: Upstream {
            zones: vec!["cybozu.com".into()],
            accounts: AccountPolicy::Any,
            ca_file: None,
            allow_networks: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(600),
            pool_idle: Duration::from_secs(4),
            pool_life: Duration::from_secs(300),
            pool_per_host: 100,
            pool_total: 2000,
            replay: 64 << 10,
            resolve: Vec::new(),
        },
        callers: Callers {
            named: vec![caller("call-events")],
            anonymous: None,
        },
        quota: QuotaSettings::default(),
        accounts: accounts
            .iter()
            .map(|domain| (Account::from_normal(domain), settings.clone()))
            .collect(),
        circuit: Circuit::default(),
        inspect: None,
        limits: Limits {
            account_series,
            ..Limits::default()
        },
        fleet: Fleet {
            host: "gw-a".into(),
            hosts: vec!["gw-a".into()],
            redis: None,
            exchange: Exchange::default(),
            peer: None,
        },
        verify: None,
        notify: None,
        admin: Admin { token: None },
        state_dir: "state".into(),
        log: Log {
            level: "info".into(),
            access: AccessLog::Off,
        },
        drain: Drain {
            announce: Duration::from_secs(5),
            grace: Duration::from_secs(30),
        },
        hash: "0123abcd".into(),
    }
}

fn caller(name: &str) -> Caller {
    Caller {
        name: CallerName::parse(name).unwrap(),
        tokens: Vec::new(),
        certificate: None,
        networks: Vec::new(),
        accounts: Vec::new(),
        tenants: TenantRule::Any,
        modes: Mode::ALL.to_vec(),
        priority: Priority::Interactive,
        max_wait: None,
        enabled: true,
    }
}

pub(crate) fn quiet(config: &Config) -> Arc<Telemetry> {
    Telemetry::new(config, AccessLogHandle::off(), "1.2.3")
}

pub(crate) fn record(account: &str) -> Record {
    Record {
        caller: CallerName::parse("call-events"),
        credential: Some(Credential::Token(1)),
        priority: Some(Priority::Interactive),
        account: Some(Account::from_normal(account)),
        mode: Some(Mode::Forward),
        status: Some(200),
        outcome: Outcome::Ok,
        kintone_limit: Some(100),
        kintone_running: Some(3),
        queued: Some(Duration::from_millis(3)),
        upstream_time: Some(Duration::from_millis(40)),
        total: Duration::from_millis(50),
        ..Record::new(RequestId::from_random(1))
    }
}

pub(crate) fn exposed(telemetry: &Telemetry) -> String {
    telemetry.expose(&Views::default())
}

/// The value of a series as it stands in the text, such as `3`; `None` if it is not there.
pub(crate) fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
    let series = format!("kintone_egress_{series} ");
    text.lines().find_map(|line| line.strip_prefix(&series))
}

/// The sum over all series of a metric.
pub(crate) fn sum(text: &str, metric: &str) -> u64 {
    let metric = format!("kintone_egress_{metric}{{");
    text.lines()
        .filter(|line| line.starts_with(&metric))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(_, value)| value.parse::<u64>().unwrap())
        .sum()
}
