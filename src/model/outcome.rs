//! How a call ended: a refusal of ours, a failure, or what kintone said.
//!
//! A [`Denial`] is a decision of the gateway: nothing was sent to kintone. A [`Failure`] is
//! something that broke on the way. Both have a [`Code`], the `GW_` word that callers see; the one
//! table from them to statuses, bodies and headers is in `proxy/reply`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::account::AppId;
use super::address::Published;

/// Who must act to make the next call succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    /// The internal service that made the call.
    Caller,
    /// The customer whose kintone it is.
    Customer,
    /// The people who run this gateway.
    Operator,
    /// Cybozu.
    Kintone,
}

/// The gateway's own error codes, one a kind of refusal or failure (contract, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is the code that `name` spells; the contract's table explains them"
)]
pub enum Code {
    BadRequest,
    Misdirected,
    AuthenticationRequired,
    DestinationForbidden,
    CallerForbidden,
    AccountUnknown,
    RateLimited,
    QueueFull,
    WaitExceeded,
    DailyBudget,
    EgressUnavailable,
    Draining,
    Overloaded,
    AccountMaintenance,
    UpstreamDns,
    UpstreamConnect,
    UpstreamTls,
    UpstreamTimeout,
    UpstreamReset,
    Internal,
}

/// The error word of the `Proxy-Status` header (RFC 9209 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "each is the registered word that `label` spells"
)]
pub enum ProxyError {
    HttpRequestError,
    HttpRequestDenied,
    DestinationIpProhibited,
    DestinationIpUnroutable,
    DestinationUnavailable,
    ProxyInternalError,
    DnsError,
    ConnectionRefused,
    ConnectionTimeout,
    ConnectionTerminated,
    TlsCertificateError,
    TlsProtocolError,
    HttpResponseTimeout,
}

/// The figures behind a refusal of the quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaFigures {
    /// How long the call waited before it was refused.
    pub waited: Duration,
    /// After which time a repeated call may hope to be admitted; `None` if nothing is known.
    pub retry_after: Option<Duration>,
    /// Permits of the account in use on this host.
    pub running: u32,
    /// Permits of the account that this host may use now.
    pub limit: u32,
    /// Calls of the account that wait on this host.
    pub queued: u32,
}

/// The figures behind a refusal for an app's budget of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DailyFigures {
    /// The app whose budget is used up.
    pub app: AppId,
    /// Its calls of today, those under way and those that other hosts have told of included.
    pub requests: u64,
    /// How many are let through for a call of this urgency.
    pub budget: u64,
    /// When counting starts anew.
    pub reopens_at: Timestamp,
}

/// The addresses behind a refusal because of an account's allowlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusing {
    /// What the account accepts, and nobody can use now.
    pub accepted: Published,
    /// What could be used, and the account refuses.
    pub missing: Published,
}

/// A call that the gateway refuses. Nothing of it was sent to kintone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Malformed, ambiguous or unsupported; `status` is 400, 405, 414 or 431, and 404
    /// where the private authority is asked for and there is none.
    BadRequest {
        /// The HTTP status.
        status: u16,
        /// What is wrong, one of a closed set.
        detail: Detail,
    },
    /// The Host of an inspected call is not the CONNECT host (421).
    Misdirected,
    /// No or wrong credentials (407).
    AuthenticationRequired(Detail),
    /// Not a kintone account of an allowed zone, a wrong port, or a name that resolves to a
    /// forbidden address (`Detail::AddressForbidden`).
    DestinationForbidden(Detail),
    /// This caller may not do that.
    CallerForbidden(Detail),
    /// kintone says again and again that this domain does not exist.
    AccountUnknown,
    /// The rate alone puts its turn beyond its wait.
    RateLimited(QuotaFigures),
    /// Too many calls wait already.
    QueueFull(QuotaFigures),
    /// No permit within the wait allowed.
    WaitExceeded(QuotaFigures),
    /// The app's calls of today are used up; `None` where the figures are not known.
    DailyBudget(Option<DailyFigures>),
    /// No published address can be used.
    EgressUnavailable(Detail),
    /// No published address can be used that the account accepts.
    AddressRefused(Refusing),
    /// This host is shutting down.
    Draining,
    /// Out of a local resource, which `Detail` names.
    Overloaded(Detail),
    /// kintone is in maintenance for this account: seen in its answers
    /// (`Detail::MaintenanceSeen`) or announced (`Detail::MaintenancePlanned`); after which time a
    /// repeated call may find it back, where that is known.
    AccountMaintenance(Detail, Option<Duration>),
}

/// Something that broke on the way to kintone or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// kintone's name could not be resolved. Nothing was sent.
    Dns(Detail),
    /// kintone could not be reached. Nothing was sent.
    Connect(Detail),
    /// TLS towards kintone failed. Nothing was sent.
    Tls(Detail),
    /// No answer in time; the outcome at kintone is unknown.
    Timeout(Detail),
    /// The connection broke after sending, or the answer could not be parsed; the outcome at
    /// kintone is unknown.
    Reset(Detail),
    /// Our fault.
    Internal,
}

/// How a call ended, for metrics and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// kintone answered below 400, or a tunnel ended by itself.
    Ok,
    /// kintone answered 400 or above.
    KintoneError,
    /// The caller left before its answer was complete.
    CallerGone,
    /// A tunnel that was owed nothing was closed.
    TunnelIdle,
    /// A tunnel reached its longest life.
    TunnelLife,
    /// The gateway refused or failed it.
    Refused(Code),
}

/// Why kintone failed a call, judged by its error code and status, never by message text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    missing_docs,
    reason = "each is the word that `label` spells; contract, section 6"
)]
pub enum Cause {
    IpNotAllowlisted,
    AccountConcurrency,
    CursorCapacity,
    Authentication,
    Permission,
    NotFound,
    AccountUnknown,
    Conflict,
    DatabaseLock,
    Maintenance,
    UpstreamError,
    Unclassified,
}

/// The word in the log that says what exactly happened, from a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the word that `label` spells")]
pub enum Detail {
    // Framing and form.
    Unparsable,
    HostMissing,
    HostRepeated,
    HostInvalid,
    OriginForm,
    PageUnknown,
    NoAuthority,
    Userinfo,
    Fragment,
    SchemeUnknown,
    PortMissing,
    MethodForbidden,
    ReadOnlyPage,
    HeadTooLarge,
    TargetTooLong,
    FramingAmbiguous,
    TransferEncodingUnknown,
    HeaderInvalid,
    HeaderRepeated,
    TenantsDiffer,
    NotTls,
    HelloTooLarge,
    HelloTimeout,
    HandshakeFailed,
    HandshakeTimeout,
    HeadTimeout,
    // Who.
    NoCredentials,
    CredentialsUnreadable,
    UnknownCaller,
    WrongToken,
    CallerDisabled,
    NetworkForbidden,
    AccountForbidden,
    TenantForbidden,
    ModeForbidden,
    AccountDisabled,
    AccountNotConfigured,
    H2Forbidden,
    // Where to.
    NotAKintoneDomain,
    PortForbidden,
    ClientCertificateHost,
    AddressForbidden,
    SniMissing,
    SniMismatch,
    // Local resources.
    NoAddress,
    AddressAbsent,
    AddressUnverified,
    AddressMismatch,
    AddressRefused,
    Connections,
    ConnectionsPerAddress,
    FileDescriptors,
    LocalPorts,
    EarlierCalls,
    Memory,
    // Maintenance.
    MaintenanceSeen,
    MaintenancePlanned,
    // DNS, connect, TLS.
    DnsNotFound,
    DnsServfail,
    DnsTimeout,
    DnsFailed,
    ConnectRefused,
    ConnectTimeout,
    ConnectUnreachable,
    ConnectReset,
    TlsExpired,
    TlsNotYetValid,
    TlsNameMismatch,
    TlsUntrusted,
    TlsRevoked,
    TlsCertificate,
    TlsProtocol,
    TlsTimeout,
    // After sending.
    ResponseTimeout,
    ResponseReset,
    ResponseUnparsable,
    ResponseCut,
    RequestBodyCut,
    CallerIdle,
    CallerStalled,
    CallerDistrustsCa,
    // Tunnels and drains.
    Yielded,
    DrainCut,
    AnswerTooLong,
    Panic,
}

impl Code {
    /// Every code, in the order of the contract's table.
    pub const ALL: [Self; 20] = [
        Self::BadRequest,
        Self::Misdirected,
        Self::AuthenticationRequired,
        Self::DestinationForbidden,
        Self::CallerForbidden,
        Self::AccountUnknown,
        Self::RateLimited,
        Self::QueueFull,
        Self::WaitExceeded,
        Self::DailyBudget,
        Self::EgressUnavailable,
        Self::Draining,
        Self::Overloaded,
        Self::AccountMaintenance,
        Self::UpstreamDns,
        Self::UpstreamConnect,
        Self::UpstreamTls,
        Self::UpstreamTimeout,
        Self::UpstreamReset,
        Self::Internal,
    ];

    /// The code as callers see it, such as `GW_WAIT_EXCEEDED`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "GW_BAD_REQUEST",
            Self::Misdirected => "GW_MISDIRECTED",
            Self::AuthenticationRequired => "GW_AUTHENTICATION_REQUIRED",
            Self::DestinationForbidden => "GW_DESTINATION_FORBIDDEN",
            Self::CallerForbidden => "GW_CALLER_FORBIDDEN",
            Self::AccountUnknown => "GW_ACCOUNT_UNKNOWN",
            Self::RateLimited => "GW_RATE_LIMITED",
            Self::QueueFull => "GW_QUEUE_FULL",
            Self::WaitExceeded => "GW_WAIT_EXCEEDED",
            Self::DailyBudget => "GW_DAILY_BUDGET",
            Self::EgressUnavailable => "GW_EGRESS_UNAVAILABLE",
            Self::Draining => "GW_DRAINING",
            Self::Overloaded => "GW_OVERLOADED",
            Self::AccountMaintenance => "GW_ACCOUNT_MAINTENANCE",
            Self::UpstreamDns => "GW_UPSTREAM_DNS",
            Self::UpstreamConnect => "GW_UPSTREAM_CONNECT",
            Self::UpstreamTls => "GW_UPSTREAM_TLS",
            Self::UpstreamTimeout => "GW_UPSTREAM_TIMEOUT",
            Self::UpstreamReset => "GW_UPSTREAM_RESET",
            Self::Internal => "GW_INTERNAL",
        }
    }

    /// The code as a metric label: lower case without `GW_`, such as `wait_exceeded`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Misdirected => "misdirected",
            Self::AuthenticationRequired => "authentication_required",
            Self::DestinationForbidden => "destination_forbidden",
            Self::CallerForbidden => "caller_forbidden",
            Self::AccountUnknown => "account_unknown",
            Self::RateLimited => "rate_limited",
            Self::QueueFull => "queue_full",
            Self::WaitExceeded => "wait_exceeded",
            Self::DailyBudget => "daily_budget",
            Self::EgressUnavailable => "egress_unavailable",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::AccountMaintenance => "account_maintenance",
            Self::UpstreamDns => "upstream_dns",
            Self::UpstreamConnect => "upstream_connect",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::Internal => "internal",
        }
    }
}

impl Denial {
    /// Its code.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::BadRequest { .. } => Code::BadRequest,
            Self::Misdirected => Code::Misdirected,
            Self::AuthenticationRequired(_) => Code::AuthenticationRequired,
            Self::DestinationForbidden(_) => Code::DestinationForbidden,
            Self::CallerForbidden(_) => Code::CallerForbidden,
            Self::AccountUnknown => Code::AccountUnknown,
            Self::RateLimited(_) => Code::RateLimited,
            Self::QueueFull(_) => Code::QueueFull,
            Self::WaitExceeded(_) => Code::WaitExceeded,
            Self::DailyBudget(_) => Code::DailyBudget,
            Self::EgressUnavailable(_) | Self::AddressRefused(_) => Code::EgressUnavailable,
            Self::Draining => Code::Draining,
            Self::Overloaded(_) => Code::Overloaded,
            Self::AccountMaintenance(..) => Code::AccountMaintenance,
        }
    }

    /// The word for the log, where there is one.
    #[must_use]
    pub const fn detail(self) -> Option<Detail> {
        match self {
            Self::BadRequest { detail, .. }
            | Self::AuthenticationRequired(detail)
            | Self::DestinationForbidden(detail)
            | Self::CallerForbidden(detail)
            | Self::EgressUnavailable(detail)
            | Self::Overloaded(detail)
            | Self::AccountMaintenance(detail, _) => Some(detail),
            Self::AddressRefused(_) => Some(Detail::AddressRefused),
            Self::Misdirected
            | Self::AccountUnknown
            | Self::RateLimited(_)
            | Self::QueueFull(_)
            | Self::WaitExceeded(_)
            | Self::DailyBudget(_)
            | Self::Draining => None,
        }
    }

    /// The quota's figures, where the quota refused.
    #[must_use]
    pub const fn figures(self) -> Option<QuotaFigures> {
        match self {
            Self::RateLimited(figures) | Self::QueueFull(figures) | Self::WaitExceeded(figures) => {
                Some(figures)
            }
            Self::BadRequest { .. }
            | Self::Misdirected
            | Self::AuthenticationRequired(_)
            | Self::DestinationForbidden(_)
            | Self::CallerForbidden(_)
            | Self::AccountUnknown
            | Self::DailyBudget(_)
            | Self::EgressUnavailable(_)
            | Self::AddressRefused(_)
            | Self::Draining
            | Self::Overloaded(_)
            | Self::AccountMaintenance(..) => None,
        }
    }

    /// A malformed request, answered 400.
    #[must_use]
    pub const fn bad_request(detail: Detail) -> Self {
        Self::BadRequest {
            status: 400,
            detail,
        }
    }
}

impl Failure {
    /// Its code.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Dns(_) => Code::UpstreamDns,
            Self::Connect(_) => Code::UpstreamConnect,
            Self::Tls(_) => Code::UpstreamTls,
            Self::Timeout(_) => Code::UpstreamTimeout,
            Self::Reset(_) => Code::UpstreamReset,
            Self::Internal => Code::Internal,
        }
    }

    /// Whether kintone may have executed the call.
    #[must_use]
    pub const fn is_outcome_unknown(self) -> bool {
        match self {
            Self::Timeout(_) | Self::Reset(_) | Self::Internal => true,
            Self::Dns(_) | Self::Connect(_) | Self::Tls(_) => false,
        }
    }

    /// The word for the log, where there is one.
    #[must_use]
    pub const fn detail(self) -> Option<Detail> {
        match self {
            Self::Dns(detail)
            | Self::Connect(detail)
            | Self::Tls(detail)
            | Self::Timeout(detail)
            | Self::Reset(detail) => Some(detail),
            Self::Internal => None,
        }
    }
}

impl Outcome {
    /// The word used in metrics and the log.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::KintoneError => "kintone_error",
            Self::CallerGone => "caller_gone",
            Self::TunnelIdle => "tunnel_idle",
            Self::TunnelLife => "tunnel_life",
            Self::Refused(code) => code.label(),
        }
    }

    /// Every outcome there is, for declaring metrics.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::Ok,
            Self::KintoneError,
            Self::CallerGone,
            Self::TunnelIdle,
            Self::TunnelLife,
        ]
        .into_iter()
        .chain(Code::ALL.into_iter().map(Self::Refused))
    }
}

macro_rules! labels {
    ($type:ident { $($variant:ident = $label:literal),* $(,)? }) => {
        impl $type {
            /// Every one there is, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word used in headers, metrics and logs.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

labels!(Actor { Caller = "caller", Customer = "customer", Operator = "operator", Kintone = "kintone" });

labels!(ProxyError {
    HttpRequestError = "http_request_error",
    HttpRequestDenied = "http_request_denied",
    DestinationIpProhibited = "destination_ip_prohibited",
    DestinationIpUnroutable = "destination_ip_unroutable",
    DestinationUnavailable = "destination_unavailable",
    ProxyInternalError = "proxy_internal_error",
    DnsError = "dns_error",
    ConnectionRefused = "connection_refused",
    ConnectionTimeout = "connection_timeout",
    ConnectionTerminated = "connection_terminated",
    TlsCertificateError = "tls_certificate_error",
    TlsProtocolError = "tls_protocol_error",
    HttpResponseTimeout = "http_response_timeout",
});

labels!(Cause {
    IpNotAllowlisted = "ip-not-allowlisted",
    AccountConcurrency = "account-concurrency",
    CursorCapacity = "cursor-capacity",
    Authentication = "authentication",
    Permission = "permission",
    NotFound = "not-found",
    AccountUnknown = "account-unknown",
    Conflict = "conflict",
    DatabaseLock = "database-lock",
    Maintenance = "maintenance",
    UpstreamError = "upstream-error",
    Unclassified = "unclassified",
});

labels!(Detail {
    Unparsable = "unparsable",
    HostMissing = "host_missing",
    HostRepeated = "host_repeated",
    HostInvalid = "host_invalid",
    OriginForm = "origin_form",
    PageUnknown = "page_unknown",
    NoAuthority = "no_authority",
    Userinfo = "userinfo",
    Fragment = "fragment",
    SchemeUnknown = "scheme_unknown",
    PortMissing = "port_missing",
    MethodForbidden = "method_forbidden",
    ReadOnlyPage = "read_only_page",
    HeadTooLarge = "head_too_large",
    TargetTooLong = "target_too_long",
    FramingAmbiguous = "framing_ambiguous",
    TransferEncodingUnknown = "transfer_encoding_unknown",
    HeaderInvalid = "header_invalid",
    HeaderRepeated = "header_repeated",
    TenantsDiffer = "tenants_differ",
    NotTls = "not_tls",
    HelloTooLarge = "hello_too_large",
    HelloTimeout = "hello_timeout",
    HandshakeFailed = "handshake_failed",
    HandshakeTimeout = "handshake_timeout",
    HeadTimeout = "head_timeout",
    NoCredentials = "no_credentials",
    CredentialsUnreadable = "credentials_unreadable",
    UnknownCaller = "unknown_caller",
    WrongToken = "wrong_token",
    CallerDisabled = "caller_disabled",
    NetworkForbidden = "network_forbidden",
    AccountForbidden = "account_forbidden",
    TenantForbidden = "tenant_forbidden",
    ModeForbidden = "mode_forbidden",
    AccountDisabled = "account_disabled",
    AccountNotConfigured = "account_not_configured",
    H2Forbidden = "h2_forbidden",
    NotAKintoneDomain = "not_a_kintone_domain",
    PortForbidden = "port_forbidden",
    ClientCertificateHost = "client_certificate_host",
    AddressForbidden = "address_forbidden",
    SniMissing = "sni_missing",
    SniMismatch = "sni_mismatch",
    NoAddress = "no_address",
    AddressAbsent = "address_absent",
    AddressUnverified = "address_unverified",
    AddressMismatch = "address_mismatch",
    AddressRefused = "address_refused",
    Connections = "connections",
    ConnectionsPerAddress = "connections_per_network_address",
    FileDescriptors = "file_descriptors",
    LocalPorts = "local_ports",
    EarlierCalls = "earlier_calls",
    Memory = "memory",
    MaintenanceSeen = "maintenance_seen",
    MaintenancePlanned = "maintenance_planned",
    DnsNotFound = "dns_not_found",
    DnsServfail = "dns_servfail",
    DnsTimeout = "dns_timeout",
    DnsFailed = "dns_failed",
    ConnectRefused = "connect_refused",
    ConnectTimeout = "connect_timeout",
    ConnectUnreachable = "connect_unreachable",
    ConnectReset = "connect_reset",
    TlsExpired = "tls_expired",
    TlsNotYetValid = "tls_not_yet_valid",
    TlsNameMismatch = "tls_name_mismatch",
    TlsUntrusted = "tls_untrusted",
    TlsRevoked = "tls_revoked",
    TlsCertificate = "tls_certificate",
    TlsProtocol = "tls_protocol",
    TlsTimeout = "tls_timeout",
    ResponseTimeout = "response_timeout",
    ResponseReset = "response_reset",
    ResponseUnparsable = "response_unparsable",
    ResponseCut = "response_cut",
    RequestBodyCut = "request_body_cut",
    CallerIdle = "caller_idle",
    CallerStalled = "caller_stalled",
    CallerDistrustsCa = "caller_distrusts_ca",
    Yielded = "yielded",
    DrainCut = "drain_cut",
    AnswerTooLong = "answer_too_long",
    Panic = "panic",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_codes_in_lower_case_without_the_prefix() {
        for code in Code::ALL {
            let stem = code
                .name()
                .strip_prefix("GW_")
                .expect("every code has the prefix");
            assert_eq!(code.label(), stem.to_ascii_lowercase());
        }
    }

    #[test]
    fn labels_are_distinct() {
        let mut seen: Vec<_> = Detail::ALL.iter().map(|detail| detail.label()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Detail::ALL.len());
    }
}
