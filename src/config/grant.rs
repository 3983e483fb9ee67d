//! Who may call, where to, and how much: the callers and the quotas of accounts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{CallerName, Mode, Priority, Published, Tenant};

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers {
    /// The named ones, in the order of the file.
    pub named: Vec<Caller>,
    /// Those without credentials, if they are let in.
    pub anonymous: Option<Anonymous>,
}

/// Callers without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymous {
    /// Where they must call from; empty: anywhere (all listeners are loopback).
    pub networks: Vec<IpNet>,
}

/// One `[[caller]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name, which is also its user name.
    pub name: CallerName,
    /// SHA-256 of each token it may use.
    pub tokens: Vec<TokenHash>,
    /// The URI or DNS SAN, or CN, of its client certificate.
    pub certificate: Option<String>,
    /// Where it must call from; empty: anywhere.
    pub networks: Vec<IpNet>,
    /// Which accounts it may reach.
    pub accounts: Vec<NamePattern>,
    /// Which tenants it may name.
    pub tenants: TenantRule,
    /// Which ways in it may take.
    pub modes: Vec<Mode>,
    /// How urgent its calls are.
    pub priority: Priority,
    /// Longest wait for a permit and the rate; `None`: the account's, for batch 10 minutes.
    pub max_wait: Option<Duration>,
    /// Whether it may call at all.
    pub enabled: bool,
}

impl Caller {
    /// Whether its address alone proves who it is: it has neither a token nor a certificate.
    #[must_use]
    pub fn is_known_by_network(&self) -> bool {
        self.tokens.is_empty() && self.certificate.is_none() && !self.networks.is_empty()
    }
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which tenants a caller may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantRule {
    /// Any.
    Any,
    /// These. Entries may be a name, or a prefix followed by `*`.
    Only(Vec<TenantPattern>),
}

/// A tenant or a prefix of tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantPattern {
    /// This one.
    Exact(Tenant),
    /// Every one that begins so.
    Prefix(String),
}

/// An exact name, or every name below a suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// `*`: any name.
    Any,
    /// This name, lower case.
    Exact(String),
    /// `*.suffix`: any name that ends in `.suffix`; holds `.suffix`, lower case.
    Below(String),
}

/// `[quota]`, or the same merged with an account's table.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaSettings {
    /// kintone's limit for the account, in calls at once.
    pub concurrency: u32,
    /// Places left to the customer's own users and other tools.
    pub headroom: u32,
    /// Permits that batch calls never take.
    pub interactive_reserve: u32,
    /// Calls a second, sustained; 0 is none.
    pub rate: f64,
    /// Calls at once before the rate counts.
    pub burst: u32,
    /// Calls that may wait.
    pub queue: u32,
    /// Longest wait.
    pub max_wait: Duration,
    /// How long a call whose end at kintone we could not see keeps its permit.
    pub settle: Duration,
    /// Calls of one app from 09:00 JST to 09:00 JST.
    pub daily_per_app: u64,
    /// What happens above it.
    pub daily_policy: DailyPolicy,
    /// A tunnel that is owed nothing is closed after this.
    pub tunnel_idle: Duration,
    /// The same while calls of its account wait; zero is never.
    pub tunnel_yield: Duration,
    /// Longest life of a tunnel.
    pub tunnel_life: Duration,
    /// Permits of a tunnel whose ClientHello offers h2; 0 refuses it.
    pub tunnel_h2_weight: u32,
}

/// What happens above the daily budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DailyPolicy {
    /// It is told.
    Warn,
    /// Calls are refused.
    Enforce,
}

/// One `[account."DOMAIN"]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountSettings {
    /// Whether it may be reached at all.
    pub enabled: bool,
    /// Its limits, merged with `[quota]`.
    pub quota: QuotaSettings,
    /// The published addresses that it is known to accept: its calls leave from these and from no
    /// other. Empty: nothing is known, every address is tried.
    pub accepts: Vec<Published>,
    /// Whether the gateway itself may ask it for a page; `None`: as `[acceptance]` says.
    pub probe: Option<bool>,
    /// Mail addresses of the customer's administrators.
    pub contacts: Vec<String>,
    /// Tenants with a table of their own.
    pub tenants: BTreeMap<Tenant, TenantSettings>,
}

/// One `[account."DOMAIN".tenant."NAME"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantSettings {
    /// Share of the account when tenants compete.
    pub weight: u32,
    /// Its ceiling, in calls at once.
    pub concurrency: Option<u32>,
    /// Mail addresses.
    pub contacts: Vec<String>,
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(suffix) => write!(f, "*{suffix}"),
        }
    }
}

impl fmt::Display for TenantPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(tenant) => write!(f, "{tenant}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl NamePattern {
    /// Whether `name` (lower case) is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == name,
            Self::Below(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
        }
    }
}

impl TenantRule {
    /// Whether `tenant` may be named.
    #[must_use]
    pub fn allows(&self, tenant: &Tenant) -> bool {
        match self {
            Self::Any => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| match pattern {
                TenantPattern::Exact(exact) => exact == tenant,
                TenantPattern::Prefix(prefix) => tenant.as_str().starts_with(prefix.as_str()),
            }),
        }
    }
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            concurrency: 100,
            headroom: 20,
            interactive_reserve: 8,
            rate: 0.0,
            burst: 100,
            queue: 1000,
            max_wait: Duration::from_secs(10),
            settle: Duration::from_secs(120),
            daily_per_app: 10_000,
            daily_policy: DailyPolicy::Warn,
            tunnel_idle: Duration::from_secs(60),
            tunnel_yield: Duration::from_secs(15),
            tunnel_life: Duration::from_secs(3600),
            tunnel_h2_weight: 1,
        }
    }
}
