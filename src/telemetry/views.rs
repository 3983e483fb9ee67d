//! What there is to show of this host at one moment: the figures behind the gauges, the API and
//! the status page. Whoever wires the gateway fills them from the quota and the egress.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::fleet::FleetView;
use crate::model::{Account, Bind, CallerName, CountedApp, Priority, Published, Tenant};

/// An account that is in use on this host.
#[derive(Clone, Debug, Serialize)]
pub struct AccountView {
    /// Its domain.
    #[serde(serialize_with = "shown")]
    pub account: Account,
    /// Its figures.
    #[serde(flatten)]
    pub load: AccountLoad,
    /// Its tenants.
    pub tenants: Vec<TenantView>,
    /// The calls that wait, by who made them.
    pub waiting: Vec<WaitingView>,
}

/// The figures of an account. Numbers of calls or permits, of this host.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct AccountLoad {
    /// kintone's limit of calls at once, as used here.
    pub limit: u32,
    /// Permits that this host may use at this moment.
    pub allowed: u32,
    /// Calls at kintone that are not ours, as estimated.
    pub outside_load: u32,
    /// Permits in use, settling ones included.
    pub inflight: u32,
    /// Permits of calls whose end at kintone was not seen.
    pub settling: u32,
    /// Calls that wait.
    pub queued: u32,
    /// How long the longest waiting call has waited.
    #[serde(rename = "oldest_wait_ms", serialize_with = "milliseconds")]
    pub oldest_wait: Option<Duration>,
    /// `max_wait` of the account's quota; the API shows it among the limits.
    #[serde(skip)]
    pub max_wait: Duration,
    /// `X-ConcurrencyLimit-Running` as last said.
    pub kintone_running: Option<u32>,
    /// `X-ConcurrencyLimit-Limit` as last said.
    pub kintone_limit: Option<u32>,
    /// Whether kintone serves it.
    pub circuit: Circuit,
    /// When calls go again, where they do not and that is known.
    #[serde(rename = "circuit_retry_ms", serialize_with = "milliseconds")]
    pub circuit_retry: Option<Duration>,
    /// Since when it is closed because kintone does not know it.
    pub unknown_since: Option<Timestamp>,
}

/// Whether kintone serves an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Circuit {
    /// Calls go.
    #[default]
    Closed,
    /// kintone answered as in maintenance, not often enough yet: calls go one at a time.
    Suspect,
    /// kintone is in maintenance: calls are refused.
    Open,
    /// Maintenance was announced: calls are refused.
    Planned,
    /// One call at a time goes to see whether kintone serves again.
    Probing,
    /// kintone serves again: calls come back step by step.
    Rising,
    /// kintone does not know the domain: calls are refused until it is confirmed.
    Unknown,
}

/// Calls of an app since 09:00 Japan time.
#[derive(Clone, Debug)]
pub struct AppTodayView {
    /// The account.
    pub account: Account,
    /// The app.
    pub app: CountedApp,
    /// Calls.
    pub requests: u64,
    /// Calls that each app of the account may make a day, all hosts together.
    pub daily_per_app: u64,
}

/// A tenant of an account.
#[derive(Clone, Debug, Serialize)]
pub struct TenantView {
    /// Its name.
    #[serde(serialize_with = "shown")]
    pub tenant: Tenant,
    /// Permits in use.
    pub inflight: u32,
    /// Calls that wait.
    pub queued: u32,
    /// Calls admitted so far.
    pub requests_total: u64,
    /// Permits times how long they were held, in seconds, so far.
    pub permit_seconds_total: f64,
}

/// Calls that wait, by who made them.
#[derive(Clone, Debug, Serialize)]
pub struct WaitingView {
    /// The caller.
    #[serde(serialize_with = "shown")]
    pub caller: CallerName,
    /// The tenant it named.
    #[serde(serialize_with = "shown_or_null")]
    pub tenant: Option<Tenant>,
    /// How urgent they are.
    #[serde(serialize_with = "shown_priority")]
    pub priority: Priority,
    /// How many they are.
    pub queued: u32,
}

/// A published address that this host binds.
#[derive(Clone, Debug, Serialize)]
pub struct AddressView {
    /// What customers see.
    #[serde(serialize_with = "shown")]
    pub published: Published,
    /// What this host binds.
    #[serde(serialize_with = "shown")]
    pub bind: Bind,
    /// Its state in the configuration: `planned`, `active`, `retiring`.
    pub state: &'static str,
    /// Whether it is on this host and usable.
    pub presence: Presence,
    /// How long it has been so.
    #[serde(rename = "since_ms", serialize_with = "milliseconds")]
    pub since: Option<Duration>,
    /// What echoes say of it; `None` without `[verify]`.
    pub verification: Option<VerificationView>,
    /// Connections to kintone open from it.
    pub connections: u64,
    /// Those of them that wait in the pool.
    pub pooled: u64,
}

/// How the internet sees an address.
#[derive(Clone, Debug, Serialize)]
pub struct VerificationView {
    /// In one word.
    pub seen: SeenWord,
    /// As which address, if as another one.
    pub seen_as: Option<Ipv4Addr>,
    /// When it was last seen as published, RFC 3339 in UTC.
    #[serde(serialize_with = "shown_or_null")]
    pub proven_at: Option<Timestamp>,
    /// How long no echo has given a usable answer.
    #[serde(rename = "silent_ms", serialize_with = "milliseconds")]
    pub silent: Option<Duration>,
    /// What each echo said last, in the order of the configuration.
    pub echoes: Vec<EchoView>,
}

/// What an echo said last.
#[derive(Clone, Debug, Serialize)]
pub struct EchoView {
    /// Its scheme, host and port.
    pub echo: String,
    /// The address that it saw.
    pub saw: Option<Ipv4Addr>,
    /// Why it said nothing that can be used.
    pub trouble: Option<String>,
}

/// How the internet sees an address, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeenWord {
    /// Nobody has said, or too long ago.
    Unknown,
    /// As published.
    Published,
    /// As another one.
    Other,
}

/// Whether a bind address can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It is on this host.
    Up,
    /// It is not.
    Absent,
}

/// The permits of all accounts since the start, read at one instant:
/// acquired - released - held is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Handed out.
    pub acquired: u64,
    /// Given back.
    pub released: u64,
    /// Out.
    pub held: u64,
}

/// What there is to count of the published list, each count with its label.
#[derive(Clone, Debug, Default)]
pub struct PublishedView {
    /// Addresses by state.
    pub states: Vec<(&'static str, usize)>,
    /// Alarms by kind.
    pub alarms: Vec<(&'static str, usize)>,
    /// Accounts by address, and whether they take it.
    pub acceptance: Vec<(Published, &'static str, usize)>,
}

/// What there is to count of mails to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailView {
    /// To be sent.
    pub queued: usize,
    /// Held until an operator decides.
    pub held: usize,
    /// Undeliverable ones that are kept.
    pub dead: usize,
    /// For how long the oldest of those to be sent should have been.
    pub overdue: Duration,
    /// Taken by the server.
    pub sent: u64,
    /// Given up.
    pub given_up: u64,
    /// Not taken into the spool.
    pub lost: u64,
    /// Ended calls that were not judged.
    pub signs_lost: u64,
    /// What goes to the operators' webhook.
    pub webhook: WebhookView,
}

/// What there is to count of messages to the operators' webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WebhookView {
    /// To be sent.
    pub queued: usize,
    /// Undeliverable ones that are kept.
    pub dead: usize,
    /// For how long the oldest of those to be sent should have been.
    pub overdue: Duration,
    /// Answered with success.
    pub sent: u64,
    /// Given up.
    pub given_up: u64,
    /// Not taken into the spool.
    pub lost: u64,
}

/// Everything that the gauges are computed from.
#[derive(Clone, Debug, Default)]
pub struct Views {
    /// The accounts in use.
    pub accounts: Vec<AccountView>,
    /// The addresses with a bind on this host.
    pub addresses: Vec<AddressView>,
    /// Local ports in use on bind addresses, where that is known.
    pub local_ports: Vec<(Published, u32)>,
    /// Local ports that the kernel hands out per address, where that is known.
    pub local_ports_limit: Option<u32>,
    /// Today's calls by app.
    pub apps_today: Vec<AppTodayView>,
    /// The published list.
    pub published: PublishedView,
    /// Whether this host is out of rotation or shutting down.
    pub draining: bool,
    /// The permits.
    pub balance: Balance,
    /// How this host stands in its fleet.
    pub fleet: Option<FleetView>,
    /// Mails to people.
    pub mail: MailView,
}

/// Serializes what has a text form as that text.
///
/// # Errors
/// The serializer's.
pub fn shown<S: Serializer>(value: &impl Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// The same, or `null`.
///
/// # Errors
/// The serializer's.
pub fn shown_or_null<S: Serializer>(
    value: &Option<impl Display>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

/// Serializes a time in whole milliseconds, or `null`.
///
/// # Errors
/// The serializer's.
pub fn milliseconds<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX)),
        None => to.serialize_none(),
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn shown_priority<S: Serializer>(value: &Priority, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(value.label())
}
