//! What is written down of a call while it is judged.

use http::request::Parts;
use http::{Method, header};

use super::exchange::Exchange;
use super::judge::Step;
use super::message::Language;
use crate::kintone::call::template;

/// Longest `User-Agent` that is logged, in bytes.
const USER_AGENT_MAX: usize = 256;

/// Writes down what is known from the head alone.
pub(crate) fn note(exchange: &mut Exchange, head: &Parts) {
    let record = exchange.record();
    record.method = Some(head.method.clone());
    if head.method != Method::CONNECT && head.uri.authority().is_some() {
        record.path = Some(template(head.uri.path()));
    }
    let text = |name| head.headers.get(name)?.to_str().ok();
    record.user_agent =
        text(header::USER_AGENT).map(|agent| agent.get(..USER_AGENT_MAX).unwrap_or(agent).into());
    record.trace_id = text(header::HeaderName::from_static("traceparent"))
        .and_then(trace_id)
        .map(Into::into);
}

/// The trace ID of a W3C `traceparent`: the second of its four fields, 32 hexadecimal digits.
fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// Writes down what a step of the judgement found out.
pub(crate) fn write_down(exchange: &mut Exchange, step: &Step<'_>) {
    match step {
        Step::Framed(target) => exchange.record().mode = target.mode(),
        Step::Identified(identity) => exchange.identified(identity),
        Step::Told(identity, options) => exchange.told(identity, options),
        Step::Destined(destination, mode) => exchange.destined(&destination.account, *mode),
    }
}

/// A CONNECT is answered in English: its sender is a library, which shows the text as it comes.
pub(crate) fn language_of(head: &Parts) -> Language {
    if head.method == Method::CONNECT {
        Language::En
    } else {
        Language::of(&head.headers)
    }
}
