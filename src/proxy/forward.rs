//! A call in absolute form: TLS to kintone is ours, every byte is seen and none is kept.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use super::answer::{Answer, Cargo, Delivery, outcome_of};
use super::call::{Call, CallerLeft, refuse};
use super::elsewhere::{may_be_handed, source};
use super::exchange::Exchange;
use super::handover::{self, GoneOn};
use super::headers::{self, Hops};
use super::journey::{Delivered, End, Journey};
use super::leftover;
use super::receiver::Receiver;
use super::reply::{self, After, Reason};
use super::shared::Shared;
use crate::model::Outcome;

/// Carries a call to kintone and its answer back.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn carry(
    shared: &Shared,
    call: &Call,
    mut head: Parts,
    body: Incoming,
    mut exchange: Exchange,
) -> Result<Response<Answer>, CallerLeft> {
    let receiver = Receiver::of(&head);
    let original = may_be_handed(shared, call).then(|| Box::new(head.clone()));
    if headers::count_hop(&head.method, &mut head.headers) == Hops::Last {
        return Ok(answer_options(leftover::settle(&head, body), exchange));
    }
    let end = match source(shared, call) {
        Ok(source) => {
            Journey::new(shared, call, &mut exchange, head, body, source)
                .able_to_leave(original)
                .travel()
                .await
        }
        Err(denial) => End::Refuse(Reason::Denied(denial), leftover::settle(&head, body)),
    };
    match end {
        End::Deliver(delivered) => Ok(deliver(shared, call, receiver, delivered, exchange)),
        End::Elsewhere(onward) => {
            // What few calls need is not kept by all.
            match Box::pin(handover::go_on(shared, call, *onward, exchange)).await? {
                GoneOn::Answered(response) => Ok(response),
                GoneOn::Untaken(refusal, exchange) => {
                    Ok(deliver(shared, call, receiver, *refusal, exchange))
                }
            }
        }
        End::Refuse(reason, after) => {
            let refusal = refuse(&mut exchange, reason, call.language, after);
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

/// The answer to an OPTIONS that must go no further (RFC 9110 section 7.6.2).
fn answer_options(after: After, mut exchange: Exchange) -> Response<Answer> {
    exchange.record().status = Some(StatusCode::OK.as_u16());
    exchange.ended(Outcome::Ok, None);
    let mut response = Response::new(Answer::whole(Bytes::new()));
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static(reply::FORWARDED_METHODS);
    headers.insert(header::ALLOW, methods);
    reply::describe(headers, exchange.known().id, None, None);
    close_after(headers, after);
    response
}

fn close_after(headers: &mut HeaderMap, after: After) {
    if after == After::Close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Passes kintone's answer on, unchanged but for what belongs to the two connections.
fn deliver(
    shared: &Shared,
    call: &Call,
    receiver: Receiver,
    delivered: Delivered,
    exchange: Exchange,
) -> Response<Answer> {
    let Delivered {
        response,
        held,
        carriage,
        cause,
        after,
        newborn,
    } = delivered;
    let (mut head, incoming) = response.into_parts();
    headers::to_caller(
        &mut head.headers,
        head.status,
        head.version,
        receiver.trailers,
    );
    close_after(&mut head.headers, after);
    let record = exchange.known();
    reply::describe(&mut head.headers, record.id, record.address, record.queued);
    if let Some(cause) = cause {
        let allowlist = call.rules.allowlist.of(&call.destination.account);
        reply::explain_cause(&mut head.headers, cause, allowlist);
    }
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
        end: receiver.how_ends(&head.headers),
    };
    head.version = Version::HTTP_11;
    Response::from_parts(head, Answer::stream(held, incoming, cargo, delivery))
}
