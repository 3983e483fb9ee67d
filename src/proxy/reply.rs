//! The one table from what the gateway refuses or fails to what its caller sees: status, code,
//! headers, body. No other place knows a status code of ours.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    RETRY_AFTER,
};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use jiff::Timestamp;
use serde::Serialize;

use super::allowlist::AllowlistHint;
use super::headers::CHALLENGE;
use super::hint::{self, Hint};
use super::message::{self, Language};
use super::moment::{in_japan, instant_in, whole_seconds};
use super::options::OptionsError;
use crate::kintone::day::Day;
use crate::model::{
    Account, Actor, Cause, Code, Denial, Detail, Failure, ProxyError, Published, QuotaFigures,
    RequestId, Tenant,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("kintone-egress-request-id");
const ADDRESS: HeaderName = HeaderName::from_static("kintone-egress-address");
const QUEUED_MS: HeaderName = HeaderName::from_static("kintone-egress-queued-ms");
const CAUSE: HeaderName = HeaderName::from_static("kintone-egress-cause");
const ACTOR: HeaderName = HeaderName::from_static("kintone-egress-actor");
const HINT: HeaderName = HeaderName::from_static("kintone-egress-hint");
const HINT_JA: HeaderName = HeaderName::from_static("kintone-egress-hint-ja");
const RETRY_AT: HeaderName = HeaderName::from_static("kintone-egress-retry-at");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Longer than this, a client that honours `Retry-After` would sleep holding its thread: the truth
/// is then told by `retry_at` alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// When a refusal that has no figures of its own may be repeated.
const RETRY_LOCAL: Duration = Duration::from_secs(1);

/// How soon an address may be back: it is looked for every second.
const RETRY_ADDRESS: Duration = Duration::from_secs(5);

/// Why a call ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Denied(Denial),
    Failed(Failure),
    /// What the caller said about the call is malformed; names the place.
    Options(OptionsError),
}

/// What is known of the call that ends here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Story<'a> {
    pub(crate) id: RequestId,
    pub(crate) account: Option<&'a Account>,
    pub(crate) tenant: Option<&'a Tenant>,
    pub(crate) address: Option<Published>,
    pub(crate) queued: Option<Duration>,
    pub(crate) language: Language,
    /// What becomes of the caller's connection.
    pub(crate) after: After,
}

/// What becomes of the caller's connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Keep,
    /// A refused CONNECT (RFC 9931) or a malformed request: nothing behind it is read.
    Close,
}

impl Reason {
    /// The reason behind a code and a detail, where its figures are not known.
    pub(crate) fn of(code: Code, detail: Option<Detail>) -> Self {
        let word = detail.unwrap_or(Detail::Unparsable);
        let figures = QuotaFigures::default();
        match code {
            Code::BadRequest => Self::Denied(Denial::bad_request(word)),
            Code::Misdirected => Self::Denied(Denial::Misdirected),
            Code::AuthenticationRequired => Self::Denied(Denial::AuthenticationRequired(word)),
            Code::DestinationForbidden => Self::Denied(Denial::DestinationForbidden(word)),
            Code::CallerForbidden => Self::Denied(Denial::CallerForbidden(word)),
            Code::AccountUnknown => Self::Denied(Denial::AccountUnknown),
            Code::RateLimited => Self::Denied(Denial::RateLimited(figures)),
            Code::QueueFull => Self::Denied(Denial::QueueFull(figures)),
            Code::WaitExceeded => Self::Denied(Denial::WaitExceeded(figures)),
            Code::DailyBudget => Self::Denied(Denial::DailyBudget(None)),
            Code::EgressUnavailable => Self::Denied(Denial::EgressUnavailable(word)),
            Code::Draining => Self::Denied(Denial::Draining),
            Code::Overloaded => Self::Denied(Denial::Overloaded(word)),
            Code::AccountMaintenance => Self::Denied(Denial::AccountMaintenance(word, None)),
            Code::UpstreamDns => Self::Failed(Failure::Dns(word)),
            Code::UpstreamConnect => Self::Failed(Failure::Connect(word)),
            Code::UpstreamTls => Self::Failed(Failure::Tls(word)),
            Code::UpstreamTimeout => Self::Failed(Failure::Timeout(word)),
            Code::UpstreamReset => Self::Failed(Failure::Reset(word)),
            Code::Internal => Self::Failed(Failure::Internal),
        }
    }

    /// Its `GW_` code.
    pub(crate) const fn code(self) -> Code {
        match self {
            Self::Denied(denial) => denial.code(),
            Self::Failed(failure) => failure.code(),
            Self::Options(_) => Code::BadRequest,
        }
    }

    /// Its word for the log.
    pub(crate) const fn detail(self) -> Option<Detail> {
        match self {
            Self::Denied(denial) => denial.detail(),
            Self::Failed(failure) => failure.detail(),
            Self::Options(OptionsError::Malformed(_)) => Some(Detail::HeaderInvalid),
            Self::Options(OptionsError::Repeated(_)) => Some(Detail::HeaderRepeated),
            Self::Options(OptionsError::TenantsDiffer) => Some(Detail::TenantsDiffer),
        }
    }

    /// When the budget of the day that it ran into opens again.
    fn reopens_at(self) -> Option<Timestamp> {
        match self {
            Self::Denied(Denial::DailyBudget(Some(figures))) => Some(figures.reopens_at),
            Self::Denied(Denial::DailyBudget(None)) => Some(Day::of(Timestamp::now()).ends()),
            Self::Denied(_) | Self::Failed(_) | Self::Options(_) => None,
        }
    }

    const fn figures(self) -> Option<QuotaFigures> {
        match self {
            Self::Denied(denial) => denial.figures(),
            Self::Failed(_) | Self::Options(_) => None,
        }
    }

    /// The HTTP status.
    pub(crate) const fn status(self) -> StatusCode {
        if let Self::Denied(Denial::BadRequest { status, .. }) = self {
            return match status {
                404 => StatusCode::NOT_FOUND,
                405 => StatusCode::METHOD_NOT_ALLOWED,
                414 => StatusCode::URI_TOO_LONG,
                431 => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
        }
        match self.code() {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Code::AuthenticationRequired => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            Code::DestinationForbidden | Code::CallerForbidden | Code::AccountUnknown => {
                StatusCode::FORBIDDEN
            }
            Code::RateLimited | Code::QueueFull | Code::WaitExceeded | Code::DailyBudget => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Code::EgressUnavailable
            | Code::Draining
            | Code::Overloaded
            | Code::AccountMaintenance => StatusCode::SERVICE_UNAVAILABLE,
            Code::UpstreamDns | Code::UpstreamConnect | Code::UpstreamTls | Code::UpstreamReset => {
                StatusCode::BAD_GATEWAY
            }
            Code::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The word of `Proxy-Status`.
    const fn proxy_error(self) -> ProxyError {
        match self.detail() {
            Some(Detail::AddressForbidden) => return ProxyError::DestinationIpProhibited,
            Some(Detail::ConnectTimeout) => return ProxyError::ConnectionTimeout,
            Some(Detail::ConnectUnreachable) => return ProxyError::DestinationIpUnroutable,
            Some(Detail::TlsProtocol | Detail::TlsTimeout) => return ProxyError::TlsProtocolError,
            Some(_) | None => {}
        }
        match self.code() {
            Code::BadRequest | Code::Misdirected => ProxyError::HttpRequestError,
            Code::AuthenticationRequired
            | Code::DestinationForbidden
            | Code::CallerForbidden
            | Code::AccountUnknown
            | Code::RateLimited
            | Code::QueueFull
            | Code::WaitExceeded
            | Code::DailyBudget => ProxyError::HttpRequestDenied,
            Code::EgressUnavailable | Code::Draining | Code::Overloaded | Code::Internal => {
                ProxyError::ProxyInternalError
            }
            Code::AccountMaintenance => ProxyError::DestinationUnavailable,
            Code::UpstreamDns => ProxyError::DnsError,
            Code::UpstreamConnect => ProxyError::ConnectionRefused,
            Code::UpstreamTls => ProxyError::TlsCertificateError,
            Code::UpstreamTimeout => ProxyError::HttpResponseTimeout,
            Code::UpstreamReset => ProxyError::ConnectionTerminated,
        }
    }

    /// When a repeated call may succeed, where anything can be said about it.
    const fn retry_after(self) -> Option<Duration> {
        match self.code() {
            Code::RateLimited | Code::QueueFull | Code::WaitExceeded => match self.figures() {
                Some(QuotaFigures {
                    retry_after: Some(after),
                    ..
                }) => Some(after),
                Some(_) | None => Some(RETRY_LOCAL),
            },
            Code::EgressUnavailable => Some(RETRY_ADDRESS),
            Code::Draining | Code::Overloaded => Some(RETRY_LOCAL),
            Code::AccountMaintenance => match self {
                Self::Denied(Denial::AccountMaintenance(_, after)) => after,
                Self::Denied(_) | Self::Failed(_) | Self::Options(_) => None,
            },
            Code::BadRequest
            | Code::Misdirected
            | Code::AuthenticationRequired
            | Code::DestinationForbidden
            | Code::CallerForbidden
            | Code::AccountUnknown
            | Code::DailyBudget
            | Code::UpstreamDns
            | Code::UpstreamConnect
            | Code::UpstreamTls
            | Code::UpstreamTimeout
            | Code::UpstreamReset
            | Code::Internal => None,
        }
    }
}

/// kintone's own shape, with further members, so that its SDKs raise it as an API error.
#[derive(Serialize)]
struct Body<'a> {
    code: &'static str,
    id: &'a str,
    message: &'a str,
    actor: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u32>,
}

/// The whole answer to a call that ends here.
pub(crate) fn refuse(reason: Reason, story: Story<'_>) -> Response<Bytes> {
    let code = reason.code();
    let actor = hint::actor(code, reason.detail());
    let retry_after = reason.retry_after();
    let retry_at = match reason.reopens_at() {
        Some(at) => Some(in_japan(at)),
        None => retry_after.map(instant_in),
    };
    let figures = reason.figures();
    let message = message::of(reason, story.account, actor, story.language);
    let body = Body {
        code: code.name(),
        id: story.id.as_str(),
        message: &message,
        actor: actor.label(),
        account: story.account.map(Account::as_str),
        tenant: story.tenant.map(Tenant::as_str),
        waited_ms: figures.map(|figures| whole_ms(figures.waited)),
        retry_at: retry_at.as_deref(),
        running: figures.map(|figures| figures.running),
        limit: figures.map(|figures| figures.limit),
        queued: figures.map(|figures| figures.queued),
    };
    let body = serde_json::to_vec(&body).expect("strings and numbers always serialize");
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = reason.status();
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(code.name().as_bytes()));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=utf-8"),
    );
    describe(headers, story.id, story.address, story.queued);
    let Hint { en, ja } = hint::of(code, reason.detail());
    let (en, ja) = (HeaderValue::from_static(en), hint::line_ja(ja));
    explain(headers, actor, ascii(&cause_word(code)), en, ja);
    let status = format!("kintone-egress; error={}", reason.proxy_error());
    headers.insert(PROXY_STATUS, ascii(&status));
    if let Some(after) = retry_after.filter(|after| *after <= RETRY_AFTER_MAX) {
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
    }
    if let Some(at) = &retry_at {
        headers.insert(RETRY_AT, ascii(at));
    }
    if code == Code::AuthenticationRequired {
        headers.insert(PROXY_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    if reason.status() == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(allowed(reason)));
    }
    if story.after == After::Close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The methods that would be taken instead (RFC 9110 section 15.5.6).
const fn allowed(reason: Reason) -> &'static str {
    match reason.detail() {
        Some(Detail::ReadOnlyPage) => "GET, HEAD",
        Some(_) | None => FORWARDED_METHODS,
    }
}

/// Methods that are passed on; others that nobody knows are, too.
pub(crate) const FORWARDED_METHODS: &str = "CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT";

/// The headers that every answer of ours carries: which call it was, from which address it left,
/// how long it waited.
pub(crate) fn describe(
    headers: &mut HeaderMap,
    id: RequestId,
    address: Option<Published>,
    queued: Option<Duration>,
) {
    headers.insert(REQUEST_ID, ascii(id.as_str()));
    if let Some(Published(address)) = address {
        let mut text = String::with_capacity(15);
        let _ = write!(text, "{address}");
        headers.insert(ADDRESS, ascii(&text));
    }
    if let Some(queued) = queued {
        headers.insert(QUEUED_MS, HeaderValue::from(whole_ms(queued)));
    }
}

/// The headers that a failure reported by kintone carries besides. `allowlist` is what to say about
/// the customer's allowlist.
pub(crate) fn explain_cause(headers: &mut HeaderMap, cause: Cause, allowlist: &AllowlistHint) {
    let actor = crate::kintone::answer::actor(cause);
    let (en, ja) = match hint::for_cause(cause) {
        Some(Hint { en, ja }) => (HeaderValue::from_static(en), hint::line_ja(ja)),
        None => (allowlist.en.clone(), allowlist.ja.clone()),
    };
    let cause = HeaderValue::from_static(cause.label());
    explain(headers, actor, cause, en, ja);
}

fn explain(
    headers: &mut HeaderMap,
    actor: Actor,
    cause: HeaderValue,
    hint_en: HeaderValue,
    hint_ja: HeaderValue,
) {
    headers.insert(CAUSE, cause);
    headers.insert(ACTOR, HeaderValue::from_static(actor.label()));
    headers.insert(HINT, hint_en);
    headers.insert(HINT_JA, hint_ja);
}

/// The code without `GW_`, lower case, hyphens.
fn cause_word(code: Code) -> String {
    code.label().replace('_', "-")
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: RequestId = RequestId::ZERO;

    fn story(language: Language) -> Story<'static> {
        Story {
            id: ID,
            account: None,
            tenant: None,
            address: None,
            queued: None,
            language,
            after: After::Close,
        }
    }

    fn waited(retry_after: Duration) -> Reason {
        Reason::Denied(Denial::WaitExceeded(QuotaFigures {
            waited: Duration::from_secs(2),
            retry_after: Some(retry_after),
            running: 80,
            limit: 80,
            queued: 143,
        }))
    }

    #[test]
    fn a_refusal_has_kintones_shape_and_the_figures() {
        let account = Account::from_normal("acme.cybozu.com");
        let story = Story {
            account: Some(&account),
            ..story(Language::En)
        };
        let response = refuse(waited(Duration::from_millis(4200)), story);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "5");
        assert_eq!(response.headers()["kintone-egress-cause"], "wait-exceeded");
        assert_eq!(
            response.headers()["proxy-status"],
            "kintone-egress; error=http_request_denied"
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["code"], "GW_WAIT_EXCEEDED");
        assert_eq!(
            body["message"],
            "acme.cybozu.com: 80 of 80 permits in use, 143 wait, waited 2000 ms; \
             caller must slow down"
        );
        assert_eq!(body["limit"], 80);
        assert!(body["retry_at"].as_str().unwrap().ends_with("+09:00"));
    }

    #[test]
    fn retry_after_is_left_out_where_the_truth_is_longer() {
        let response = refuse(waited(Duration::from_secs(61)), story(Language::En));
        assert!(!response.headers().contains_key("retry-after"));
        assert!(response.headers().contains_key("kintone-egress-retry-at"));
    }

    #[test]
    fn every_code_has_an_answer_in_both_languages() {
        let reasons = [
            Reason::Denied(Denial::bad_request(Detail::HostMissing)),
            Reason::Denied(Denial::Misdirected),
            Reason::Denied(Denial::AuthenticationRequired(Detail::NoCredentials)),
            Reason::Denied(Denial::DestinationForbidden(Detail::NotAKintoneDomain)),
            Reason::Denied(Denial::CallerForbidden(Detail::ModeForbidden)),
            Reason::Denied(Denial::AccountUnknown),
            Reason::Denied(Denial::RateLimited(QuotaFigures::default())),
            Reason::Denied(Denial::QueueFull(QuotaFigures::default())),
            waited(Duration::from_secs(1)),
            Reason::Denied(Denial::DailyBudget(None)),
            Reason::Denied(Denial::EgressUnavailable(Detail::NoAddress)),
            Reason::Denied(Denial::Draining),
            Reason::Denied(Denial::Overloaded(Detail::LocalPorts)),
            Reason::Denied(Denial::AccountMaintenance(Detail::MaintenanceSeen, None)),
            Reason::Failed(Failure::Dns(Detail::DnsServfail)),
            Reason::Failed(Failure::Connect(Detail::ConnectRefused)),
            Reason::Failed(Failure::Tls(Detail::TlsExpired)),
            Reason::Failed(Failure::Timeout(Detail::ResponseTimeout)),
            Reason::Failed(Failure::Reset(Detail::ResponseReset)),
            Reason::Failed(Failure::Internal),
        ];
        let codes: Vec<_> = reasons.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes, Code::ALL);
        for reason in reasons {
            let en = refuse(reason, story(Language::En));
            let ja = refuse(reason, story(Language::Ja));
            let message = |response: &Response<Bytes>| {
                let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
                body["message"].as_str().unwrap().to_owned()
            };
            assert!(message(&en).is_ascii(), "{}", message(&en));
            assert!(!message(&ja).is_ascii(), "{}", message(&ja));
            let status = en.status().as_u16();
            let unknown = matches!(reason.code(), Code::UpstreamTimeout | Code::UpstreamReset);
            assert!(
                !(unknown && matches!(status, 429 | 503)),
                "would be repeated blindly"
            );
        }
    }
}
