//! What there is to say about one call when it ends: the source of its log line and its metrics.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Account, AppId, Bind, CallerName, Cause, Client, Credential, Detail, Mode, Outcome, Priority,
    Published, Purpose, RequestId, Tenant,
};

/// One call, filled in as it goes along. What never became known stays `None`.
#[derive(Debug, Clone)]
pub struct Record {
    /// The call's identifier.
    pub id: RequestId,
    /// Who called; `anonymous` for a caller without credentials who is let in, `None` while it is
    /// not known who it is.
    pub caller: Option<CallerName>,
    /// How the caller proved it.
    pub credential: Option<Credential>,
    /// For whom.
    pub tenant: Option<Tenant>,
    /// How urgently.
    pub priority: Option<Priority>,
    /// What for.
    pub purpose: Option<Purpose>,
    /// Whose kintone.
    pub account: Option<Account>,
    /// Which app, if the call is about exactly one; `None` if about none, several, or unknown.
    pub app: Option<AppId>,
    /// Which way in.
    pub mode: Option<Mode>,
    /// The method as the caller wrote it (`CONNECT` for a tunnel).
    pub method: Option<http::Method>,
    /// The path's template, such as `/k/v1/records.json`; unknown ones are `other`.
    pub path: Option<&'static str>,
    /// The status that the caller saw; 499 when it left before the head of the answer.
    pub status: Option<u16>,
    /// Why kintone failed it, or the gateway's code as a cause is in `outcome`.
    pub cause: Option<Cause>,
    /// kintone's error code, such as `GAIA_TO04`.
    pub kintone_code: Option<Box<str>>,
    /// kintone's identifier of the failure.
    pub kintone_id: Option<Box<str>>,
    /// How it ended.
    pub outcome: Outcome,
    /// What exactly happened.
    pub detail: Option<Detail>,
    /// The published address used.
    pub address: Option<Published>,
    /// The bind address used.
    pub bind: Option<Bind>,
    /// Where kintone was reached.
    pub upstream: Option<SocketAddrV4>,
    /// Bytes of bodies (in a tunnel: all bytes) from the caller.
    pub bytes_in: u64,
    /// Bytes of bodies (in a tunnel: all bytes) to the caller.
    pub bytes_out: u64,
    /// Wait for a permit and the rate.
    pub queued: Option<Duration>,
    /// Name resolution.
    pub dns: Option<Duration>,
    /// TCP connect.
    pub connect: Option<Duration>,
    /// TLS handshake towards kintone.
    pub tls: Option<Duration>,
    /// From the first byte sent to the last byte of the answer.
    pub upstream_time: Option<Duration>,
    /// How long the permit was held.
    pub permit: Option<Duration>,
    /// From the request's head to the end.
    pub total: Duration,
    /// How often it was sent again.
    pub retries: u32,
    /// `X-ConcurrencyLimit-Running`.
    pub kintone_running: Option<u32>,
    /// `X-ConcurrencyLimit-Limit`.
    pub kintone_limit: Option<u32>,
    /// Where it came from.
    pub client: Option<Client>,
    /// The caller's `User-Agent`, at most 256 bytes.
    pub user_agent: Option<Box<str>>,
    /// The trace ID of `traceparent`.
    pub trace_id: Option<Box<str>>,
    /// The host that handed it over.
    pub handed_by: Option<Arc<str>>,
}

impl Record {
    /// An empty record of a call that began just now.
    #[must_use]
    pub const fn new(id: RequestId) -> Self {
        Self {
            id,
            caller: None,
            credential: None,
            tenant: None,
            priority: None,
            purpose: None,
            account: None,
            app: None,
            mode: None,
            method: None,
            path: None,
            status: None,
            cause: None,
            kintone_code: None,
            kintone_id: None,
            outcome: Outcome::CallerGone,
            detail: None,
            address: None,
            bind: None,
            upstream: None,
            bytes_in: 0,
            bytes_out: 0,
            queued: None,
            dns: None,
            connect: None,
            tls: None,
            upstream_time: None,
            permit: None,
            total: Duration::ZERO,
            retries: 0,
            kintone_running: None,
            kintone_limit: None,
            client: None,
            user_agent: None,
            trace_id: None,
            handed_by: None,
        }
    }
}
