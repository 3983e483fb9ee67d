//! A call in absolute form: TLS to kintone is ours, every byte is seen and none is kept.

use std::sync::Arc;

use http::request::Parts;
use http::{Response, Version, header};
use hyper::body::Incoming;

use super::answer::{Answer, Cargo, Delivery, HowEnds, outcome_of};
use super::call::{Call, CallerLeft, refuse};
use super::exchange::Exchange;
use super::headers;
use super::journey::{Delivered, End, Journey};
use super::reply::{self, After, Reason};
use super::shared::Shared;

/// Carries a call to kintone and its answer back.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn carry(
    shared: &Shared,
    call: &Call,
    head: Parts,
    body: Incoming,
    mut exchange: Exchange,
) -> Result<Response<Answer>, CallerLeft> {
    let version = head.version;
    let end = match shared.egress.choose() {
        Ok(source) => {
            Journey::new(shared, call, &mut exchange, head, body, source)
                .travel()
                .await
        }
        Err(denial) => End::Refuse(Reason::Denied(denial)),
    };
    match end {
        End::Deliver(delivered) => Ok(deliver(shared, call, version, delivered, exchange)),
        End::Refuse(reason) => {
            let refusal = refuse(&mut exchange, reason, call.language, After::Keep);
            Ok(refusal.map(Answer::whole))
        }
        End::ForNobody(flight) => {
            let limit = call.rules.config.upstream.response_timeout;
            let drain = shared.drain.clone();
            tokio::spawn(shared.drain.track(async move {
                tokio::select! {
                    () = flight.land_without_caller(exchange, limit) => {}
                    () = drain.cutting() => {}
                }
            }));
            Err(CallerLeft)
        }
        End::Left => Err(CallerLeft),
    }
}

/// Passes kintone's answer on, unchanged but for what belongs to the two connections.
fn deliver(
    shared: &Shared,
    call: &Call,
    version: Version,
    delivered: Delivered,
    exchange: Exchange,
) -> Response<Answer> {
    let Delivered {
        response,
        held,
        carriage,
        cause,
        newborn,
    } = delivered;
    let (mut head, incoming) = response.into_parts();
    headers::to_caller(&mut head.headers, head.version);
    let record = exchange.known();
    reply::describe(&mut head.headers, record.id, record.address, record.queued);
    if let Some(cause) = cause {
        let allowlist = call.rules.allowlist.of(&call.destination.account);
        reply::explain_cause(&mut head.headers, cause, allowlist);
    }
    let framed = version >= Version::HTTP_11 || head.headers.contains_key(header::CONTENT_LENGTH);
    let outcome = outcome_of(head.status, cause);
    let cargo = Cargo {
        exchange,
        carriage,
        outcome,
        newborn,
    };
    let delivery = Delivery {
        connection: Arc::clone(&call.connection),
        drain: shared.drain.clone(),
        response_timeout: call.rules.config.upstream.response_timeout,
        end: if framed {
            HowEnds::Framed
        } else {
            HowEnds::ByClose
        },
    };
    head.version = Version::HTTP_11;
    Response::from_parts(head, Answer::stream(held, incoming, cargo, delivery))
}
