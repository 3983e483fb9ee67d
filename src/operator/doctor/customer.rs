//! A customer's kintone, from each address in use on this host.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, DATE, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use super::report::Report;
use crate::config::{AddressState, Config};
use crate::egress::{AddressSnapshot, ConnectError, Egress, Reuse, SendError, Source};
use crate::kintone::answer::{BodyEnd, Coding, ErrorReader, Said, cause, code_of};
use crate::kintone::domain::{Destination, Door, judge};
use crate::model::{Cause, Host};

/// The way out, as the gateway uses it.
pub(super) type WayOut = Egress<Empty<Bytes>>;

/// A page of kintone's API that tells nobody anything without credentials: kintone itself refuses it
/// with a code of its own, its edge without one.
const PAGE: &str = "/k/v1/app.json?id=1";

/// Longest wait for its answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// So much of its body is read, in bytes.
const BODY_MAX: usize = 64 << 10;

/// What a clock may be off without harm: TLS certificates and credentials allow for more.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(5);

pub(super) async fn examine(config: &Config, egress: &WayOut, domain: &str, report: &mut Report) {
    let domain = domain.to_ascii_lowercase();
    let Ok(Destination {
        host,
        account,
        door,
    }) = judge(&domain, &config.upstream.zones)
    else {
        let zones = config.upstream.zones.join(", ");
        return report.finding(
            format_args!("customer {domain}"),
            format_args!("is no account of [upstream] zones ({zones}); give it as acme.cybozu.com"),
        );
    };
    if door == Door::ClientCertificate {
        return report.note(
            format_args!("customer {host}"),
            format_args!(
                "asks for the caller's own certificate, which only a tunnel has; ask {account}"
            ),
        );
    }
    let addresses = egress.addresses().into_iter();
    let addresses: Vec<_> = addresses.filter(AddressSnapshot::is_usable).collect();
    if addresses.is_empty() {
        report.finding(
            format_args!("customer {account}"),
            "not asked: no address is in use, on this host and not seen as another one",
        );
    }
    let elsewhere = config
        .addresses
        .iter()
        .filter(|address| address.state == AddressState::Active && address.bind.is_none());
    for address in elsewhere {
        report.note(
            format_args!("customer {account}, from {}", address.published),
            "not asked: it is another host's; run doctor there",
        );
    }
    for address in addresses {
        let source = Source {
            published: address.published,
            bind: address.bind,
        };
        let what = format!("customer {account}, from {}", source.published);
        ask(egress, &host, source, &what, report).await;
    }
}

/// Asks for the page from one address.
async fn ask(egress: &WayOut, host: &Host, source: Source, what: &str, report: &mut Report) {
    let mut checkout = match egress.checkout(host, source, Reuse::Never).await {
        Ok(checkout) => checkout,
        Err(error) => return report.finding(what, unreached(&error)),
    };
    let answer = timeout(PATIENCE, checkout.send(request(host.as_str()), None, None)).await;
    match answer {
        Ok(Ok(response)) => {
            let (head, body) = response.into_parts();
            skew(&head.headers, Timestamp::now(), report);
            let found = Found::read(head.status, &head.headers, body).await;
            found.tell(what, source, report);
        }
        Ok(Err(SendError { error, .. })) => {
            let said = error.map_or_else(|| "connection closed".to_owned(), |it| it.to_string());
            report.finding(what, format_args!("no answer: {said}"));
        }
        Err(_) => report.finding(what, format_args!("no answer within {PATIENCE:?}")),
    }
}

fn request(host: &str) -> Request<Empty<Bytes>> {
    Request::get(PAGE)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(
            USER_AGENT,
            concat!("kintone-egress-doctor/", env!("CARGO_PKG_VERSION")),
        )
        .header(CONNECTION, "close")
        .body(Empty::new())
        .expect("made of constants and the name of a host")
}

fn unreached(error: &ConnectError) -> String {
    let way = error.upstream.map_or_else(
        || String::from("no way to it"),
        |upstream| format!("no connection to {upstream}"),
    );
    format!("{way}: {}", error.verdict.word())
}

/// What kintone answered.
struct Found {
    status: StatusCode,
    cause: Option<Cause>,
    code: Option<String>,
}

impl Found {
    async fn read(status: StatusCode, headers: &HeaderMap, mut body: Incoming) -> Self {
        let mut reader = ErrorReader::new(Coding::of(headers));
        let mut size = 0;
        let mut end = BodyEnd::Whole;
        while let Ok(Some(frame)) = timeout(PATIENCE, body.frame()).await {
            let Ok(frame) = frame else {
                end = BodyEnd::More;
                break;
            };
            let data = frame.into_data().unwrap_or_default();
            size += data.len();
            reader.feed(&data);
            if reader.knows() || size >= BODY_MAX {
                end = BodyEnd::More;
                break;
            }
        }
        let said = reader.said(end);
        let code = code_of(headers);
        let failed = status.is_client_error() || status.is_server_error();
        Self {
            status,
            cause: failed.then(|| cause(status, code, said)),
            code: match (code, said) {
                (Some(code), _) | (None, Said::Error { code, .. }) => Some(code.to_owned()),
                (None, Said::OAuth(_) | Said::NoError | Said::Unreadable) => None,
            },
        }
    }

    fn tell(&self, what: &str, source: Source, report: &mut Report) {
        let (status, published) = (self.status.as_u16(), source.published);
        match (self.cause, &self.code) {
            (Some(Cause::IpNotAllowlisted), _) => report.finding(
                what,
                format_args!(
                    "refused before kintone ({status} without a code): the customer's IP address \
                     restriction most likely lacks {published}/32"
                ),
            ),
            (Some(Cause::AccountUnknown), _) => report.finding(
                what,
                format_args!(
                    "kintone knows no such domain ({status} without a code); check its name"
                ),
            ),
            (Some(Cause::Maintenance), _) => report.note(
                what,
                format_args!("kintone is in maintenance ({status}); ask again later"),
            ),
            (_, Some(code)) => report.well(
                what,
                format_args!(
                    "let in: kintone itself answers ({status} {code} without credentials)"
                ),
            ),
            (Some(cause), None) => report.finding(
                what,
                format_args!("{status} without a code of kintone's ({})", cause.label()),
            ),
            (None, None) => report.note(what, format_args!("answered {status}")),
        }
    }
}

/// Compares this host's clock with the one of kintone's answer (`Date`, RFC 9110 section 6.6.1).
fn skew(headers: &HeaderMap, now: Timestamp, report: &mut Report) {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    let Some(date) = date.and_then(|date| parser.parse_timestamp(date).ok()) else {
        return;
    };
    let off = now.duration_since(date).abs();
    if off > SKEW_MAX {
        report.finding(
            "clock",
            format_args!("{} s from kintone's; set it by NTP", off.as_secs()),
        );
    }
}
