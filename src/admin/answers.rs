//! The JSON that the API answers with. `infra/schemas` describes it.

use std::cmp::Reverse;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

use super::days::AppName;
use super::readiness::AcceptanceItem;
use super::state::Readiness;
use crate::config::QuotaSettings;
use crate::telemetry::views::{milliseconds, shown, shown_or_null};
use crate::telemetry::{
    AccountLoad, AccountView, AddressView, Balance, LiveSnapshot, RecentFailure, TenantView,
    WaitingView,
};

/// A failure of the API.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// One word, such as `not_found`.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// The faults of a configuration that was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// `/readyz`.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// Whether calls should be sent here.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// What operators should know although calls can be sent here.
    pub warnings: Vec<String>,
}

/// One account of the list.
#[derive(Clone, Debug, Serialize)]
pub struct AccountItem {
    /// Its domain.
    pub account: String,
    /// Its figures.
    #[serde(flatten)]
    pub load: AccountLoad,
    /// Permits in use and calls that wait, over the permits allowed: above 1 calls wait.
    pub pressure: f64,
}

/// `/api/v1/accounts`.
#[derive(Debug, Serialize)]
pub struct Accounts {
    /// The accounts in the order asked for.
    pub accounts: Vec<AccountItem>,
    /// How many there are that were asked for, those beyond `limit` included.
    pub total: usize,
    /// The permits of all accounts.
    pub permits: Balance,
}

/// `/api/v1/accounts/DOMAIN`.
#[derive(Debug, Serialize)]
pub struct AccountDetail {
    /// What the list says.
    #[serde(flatten)]
    pub item: AccountItem,
    /// What the configuration sets for it.
    pub limits: AccountLimits,
    /// Its tenants.
    pub tenants: Vec<TenantView>,
    /// The calls that wait, by who made them.
    pub waiting: Vec<WaitingView>,
    /// The addresses that its calls leave from.
    pub addresses: Vec<AddressView>,
    /// Which published addresses it takes, as far as answers have told.
    pub acceptance: Vec<AcceptanceItem>,
    /// Today's calls by app on this host, the largest first.
    pub apps_today: Vec<AppToday>,
    /// The last failures, the newest first, at most 20.
    pub failures: Vec<FailureItem>,
}

/// The configured limits of an account; the keys of `[quota]`, times in milliseconds.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "each is the key of `[quota]` of that name")]
pub struct AccountLimits {
    pub concurrency: u32,
    pub headroom: u32,
    pub interactive_reserve: u32,
    pub rate: f64,
    pub burst: u32,
    pub queue: u32,
    #[serde(serialize_with = "milliseconds")]
    pub max_wait_ms: Option<Duration>,
    #[serde(serialize_with = "milliseconds")]
    pub settle_ms: Option<Duration>,
    pub daily_per_app: u64,
}

/// An app's calls of today.
#[derive(Debug, Serialize)]
pub struct AppToday {
    /// The app ID, `unknown` or `other`.
    pub app: AppName,
    /// Calls since 09:00 JST.
    pub requests: u64,
}

/// A call that failed.
#[derive(Debug, Serialize)]
pub struct FailureItem {
    /// When it ended, RFC 3339 in UTC.
    pub at: String,
    /// The call.
    pub id: String,
    /// The status that the caller saw.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: &'static str,
    /// What exactly happened.
    pub detail: Option<&'static str>,
    /// Why kintone failed it.
    pub cause: Option<&'static str>,
    /// kintone's code.
    pub kintone_code: Option<String>,
    /// kintone's identifier.
    pub kintone_id: Option<String>,
}

/// `/api/v1/addresses`.
#[derive(Debug, Serialize)]
pub struct Addresses {
    /// Those with a bind on this host, in the order of the configuration.
    pub addresses: Vec<AddressItem>,
}

/// One address.
#[derive(Debug, Serialize)]
pub struct AddressItem {
    /// Its state and connections.
    #[serde(flatten)]
    pub view: AddressView,
    /// Local ports in use on the bind address; `null` if unknown.
    pub local_ports_used: Option<u32>,
}

/// `/api/v1/requests`.
#[derive(Debug, Serialize)]
pub struct Requests {
    /// The calls under way, the oldest first.
    pub requests: Vec<RequestItem>,
    /// How many there are that were asked for, those not listed included.
    pub total: usize,
}

/// A call under way.
#[derive(Debug, Serialize)]
pub struct RequestItem {
    /// Its identifier.
    pub id: String,
    /// How far it has come.
    pub phase: &'static str,
    /// Time since its head, in milliseconds.
    #[serde(serialize_with = "milliseconds")]
    pub age_ms: Option<Duration>,
    /// The caller.
    #[serde(serialize_with = "shown_or_null")]
    pub caller: Option<crate::model::CallerName>,
    /// The tenant.
    #[serde(serialize_with = "shown_or_null")]
    pub tenant: Option<crate::model::Tenant>,
    /// The account.
    #[serde(serialize_with = "shown_or_null")]
    pub account: Option<crate::model::Account>,
    /// The way in.
    pub mode: Option<&'static str>,
    /// Where it came from.
    #[serde(serialize_with = "shown")]
    pub client: crate::model::Client,
}

/// The order of `/api/v1/accounts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The most pressed first.
    #[default]
    Pressure,
    /// By domain.
    Account,
    /// The most permits in use first.
    Inflight,
    /// The most calls waiting first.
    Queued,
    /// The longest wait first.
    OldestWait,
}

impl Failure {
    /// The answer.
    #[must_use]
    pub fn answer(status: StatusCode, code: &'static str, message: impl Into<String>) -> Response {
        let failure = Self {
            code,
            message: message.into(),
            faults: Vec::new(),
        };
        json(status, &failure)
    }
}

/// A JSON answer, which no cache may keep.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], Json(value)).into_response()
}

/// A text of this kind, which no cache may keep.
pub fn text(status: StatusCode, kind: &'static str, text: String) -> Response {
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

impl From<Readiness> for Ready {
    fn from(readiness: Readiness) -> Self {
        Self {
            ready: readiness.reasons.is_empty(),
            reasons: readiness.reasons,
            warnings: readiness.warnings,
        }
    }
}

impl From<&AccountView> for AccountItem {
    fn from(view: &AccountView) -> Self {
        let wanted = f64::from(view.load.inflight) + f64::from(view.load.queued);
        Self {
            account: view.account.to_string(),
            load: view.load,
            pressure: wanted / f64::from(view.load.allowed.max(1)),
        }
    }
}

impl From<&QuotaSettings> for AccountLimits {
    fn from(quota: &QuotaSettings) -> Self {
        Self {
            concurrency: quota.concurrency,
            headroom: quota.headroom,
            interactive_reserve: quota.interactive_reserve,
            rate: quota.rate,
            burst: quota.burst,
            queue: quota.queue,
            max_wait_ms: Some(quota.max_wait),
            settle_ms: Some(quota.settle),
            daily_per_app: quota.daily_per_app,
        }
    }
}

impl From<RecentFailure> for FailureItem {
    fn from(failure: RecentFailure) -> Self {
        Self {
            at: failure.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            id: failure.id.to_string(),
            status: failure.status,
            outcome: failure.outcome.label(),
            detail: failure.detail,
            cause: failure.cause.map(|cause| cause.label()),
            kintone_code: failure.kintone_code.map(String::from),
            kintone_id: failure.kintone_id.map(String::from),
        }
    }
}

impl From<LiveSnapshot> for RequestItem {
    fn from(call: LiveSnapshot) -> Self {
        Self {
            id: call.id.to_string(),
            phase: call.phase.label(),
            age_ms: Some(call.age),
            caller: call.who.caller,
            tenant: call.who.tenant,
            account: call.who.account,
            mode: call.who.mode.map(|mode| mode.label()),
            client: call.client,
        }
    }
}

impl Sort {
    /// Puts `items` into this order; equal ones are ordered by domain.
    pub fn order(self, items: &mut [AccountItem]) {
        items.sort_by(|a, b| a.account.cmp(&b.account));
        match self {
            Self::Account => {}
            Self::Pressure => items.sort_by(|a, b| b.pressure.total_cmp(&a.pressure)),
            Self::Inflight => items.sort_by_key(|item| Reverse(item.load.inflight)),
            Self::Queued => items.sort_by_key(|item| Reverse(item.load.queued)),
            Self::OldestWait => items.sort_by_key(|item| Reverse(item.load.oldest_wait)),
        }
    }
}
