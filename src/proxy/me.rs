//! `/.kintone-egress/me`: what the gateway knows of the caller who asks. Nothing in it is another
//! caller's; where the request names a tenant, nothing is another tenant's either.
//! `infra/schemas/me.schema.json` describes it.

use std::cmp::Reverse;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::hint;
use super::identity::Identity;
use super::known::Refusal;
use super::message::{self, Language};
use super::options::Options;
use super::shared::{Rules, Shared};
use crate::config::{Caller, NamePattern, TenantRule};
use crate::model::{Account, Client};
use crate::quota::Terms;
use crate::telemetry::UnderWay;

/// Accounts that one page lists.
const ACCOUNTS_MAX: usize = 100;

/// A name that no account has: what is said of it holds for every account without a table.
const ANY_ACCOUNT: &str = "*";

#[derive(Serialize)]
struct Me {
    name: String,
    credential: Option<String>,
    tenant: Option<String>,
    tenant_allowed: bool,
    priority: &'static str,
    purpose: Option<String>,
    client: String,
    rights: Rights,
    limits: Limits,
    in_flight: u32,
    waiting: u32,
    accounts: Vec<InUse>,
    refusals: Vec<Refused>,
}

#[derive(Serialize)]
struct Rights {
    accounts: Vec<String>,
    tenants: Vec<String>,
    modes: Vec<&'static str>,
    networks: Vec<String>,
    priority: &'static str,
    max_wait_ms: Option<u64>,
}

/// What calls like this one are held to.
#[derive(Serialize)]
struct Limits {
    concurrency: u32,
    permits: u32,
    interactive_reserve: u32,
    tenant_weight: u32,
    tenant_concurrency: Option<u32>,
    rate: Option<f64>,
    burst: u32,
    queue: u32,
    max_wait_ms: u64,
}

/// An account with calls of this caller under way.
#[derive(Serialize)]
struct InUse {
    account: String,
    in_flight: u32,
    waiting: u32,
    limits: Limits,
}

#[derive(Serialize)]
struct Refused {
    id: String,
    at: String,
    code: &'static str,
    status: u16,
    message: String,
    actor: &'static str,
    mode: Option<&'static str>,
    account: Option<String>,
    tenant: Option<String>,
}

/// The page of the caller `identity`, as JSON; sentences in `language`.
pub(crate) fn page(
    shared: &Shared,
    rules: &Rules,
    identity: &Identity,
    options: &Options,
    client: Client,
    language: Language,
) -> Bytes {
    let rule = identity.caller.rule();
    let tenant = options.tenant.as_ref();
    let under_way = shared.telemetry.live().of_caller(&rule.name, tenant);
    let limits = |account: &Account| {
        let ask = identity.ask(options, account, 1);
        Limits::from(&Terms::of(&rules.config, &ask))
    };
    let sum = |of: fn(&UnderWay) -> u32| under_way.values().map(of).sum();
    let (in_flight, waiting) = (sum(|calls| calls.in_flight), sum(|calls| calls.waiting));
    let mut accounts: Vec<_> = under_way.into_iter().collect();
    accounts.sort_by_key(|(_, calls)| Reverse(calls.in_flight + calls.waiting));
    accounts.truncate(ACCOUNTS_MAX);
    let refusals = identity.caller.refusals(tenant);
    let me = Me {
        name: rule.name.to_string(),
        credential: identity.credential.map(|credential| credential.to_string()),
        tenant: tenant.map(ToString::to_string),
        tenant_allowed: tenant.is_none_or(|tenant| rule.tenants.allows(tenant)),
        priority: identity.priority(options).label(),
        purpose: options.purpose.as_ref().map(ToString::to_string),
        client: client.0.ip().to_canonical().to_string(),
        rights: Rights::from(rule),
        limits: limits(&Account::from_normal(ANY_ACCOUNT)),
        in_flight,
        waiting,
        accounts: accounts
            .into_iter()
            .map(|(account, calls)| InUse {
                limits: limits(&account),
                account: account.to_string(),
                in_flight: calls.in_flight,
                waiting: calls.waiting,
            })
            .collect(),
        refusals: refusals
            .into_iter()
            .map(|refusal| Refused::of(&refusal, language))
            .collect(),
    };
    let page = serde_json::to_vec(&me).expect("strings and numbers always serialize");
    Bytes::from(page)
}

impl From<&Caller> for Rights {
    fn from(rule: &Caller) -> Self {
        Self {
            accounts: rule.accounts.iter().map(NamePattern::to_string).collect(),
            tenants: match &rule.tenants {
                TenantRule::Any => vec!["*".to_owned()],
                TenantRule::Only(patterns) => patterns.iter().map(ToString::to_string).collect(),
            },
            modes: rule.modes.iter().map(|mode| mode.label()).collect(),
            networks: rule.networks.iter().map(ToString::to_string).collect(),
            priority: rule.priority.label(),
            max_wait_ms: rule.max_wait.map(whole_ms),
        }
    }
}

impl From<&Terms> for Limits {
    fn from(terms: &Terms) -> Self {
        Self {
            concurrency: terms.concurrency,
            permits: terms.permits,
            interactive_reserve: terms.reserve,
            tenant_weight: terms.weight,
            tenant_concurrency: terms.ceiling,
            rate: terms.rate,
            burst: terms.burst,
            queue: terms.queue,
            max_wait_ms: whole_ms(terms.wait),
        }
    }
}

impl Refused {
    fn of(refusal: &Refusal, language: Language) -> Self {
        let Refusal {
            id,
            at,
            reason,
            mode,
            account,
            tenant,
        } = refusal;
        let code = reason.code();
        let actor = hint::actor(code, reason.detail());
        Self {
            id: id.to_string(),
            at: at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            code: code.name(),
            status: reason.status().as_u16(),
            message: message::of(*reason, account.as_ref(), actor, language),
            actor: actor.label(),
            mode: mode.map(|mode| mode.label()),
            account: account.as_ref().map(ToString::to_string),
            tenant: tenant.as_ref().map(ToString::to_string),
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
