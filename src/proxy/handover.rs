//! A call that another host of the fleet carries, since the account accepts only addresses of that
//! host. This host has judged it and passes it on, with what was proved; the other one judges it again,
//! admits it, logs and counts it. What comes back is the caller's answer.
//!
//! So goes also the call that finds out that the account does not accept this host's address: kintone's
//! edge has refused it before anything was done, and its body is at hand.
//!
//! Nothing is handed on twice: a call that came from another host leaves from here or not at all.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, Version, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::Answer;
use super::call::{Call, CallerLeft, refuse};
use super::elsewhere::Elsewhere;
use super::errand::{Errand, Fruitless, Returned};
use super::exchange::{Exchange, Head};
use super::handing::{BodyEnd, Load, Progress};
use super::headers::{self, Trailers};
use super::journey::{Delivered, Onward};
use super::receiver::Receiver;
use super::reply::{After, Reason};
use super::returning::{Parcel, Returning};
use super::shared::Shared;
use crate::handover::Kept;
use crate::server::{Socket, join, upgraded};
use crate::telemetry::Retry;

/// Longest refusal of another host that is passed on, in bytes; ours have less than a KiB.
const REFUSAL_SIZE_MAX: usize = 64 << 10;

/// Hands a call over and brings its answer back.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn carry(
    shared: &Shared,
    call: &Call,
    head: Parts,
    body: Incoming,
    mut exchange: Exchange,
    elsewhere: Elsewhere,
) -> Result<Response<Answer>, CallerLeft> {
    let receiver = Receiver::of(&head);
    let body = Load::Fresh(body);
    match Errand::run(shared, call, &mut exchange, elsewhere, head, body).await {
        Ok(returned) => Ok(bring_back(call, receiver, returned, exchange)),
        Err(Fruitless::Left) => Err(CallerLeft),
        Err(Fruitless::Untaken(reason, progress) | Fruitless::Refused(reason, progress)) => {
            Ok(refused(call, reason, &progress, exchange))
        }
    }
}

/// What came of a call that left this host after kintone's edge had refused it here.
pub(crate) enum GoneOn {
    /// The caller's answer.
    Answered(Response<Answer>),
    /// No other host took it: kintone's refusal is the answer.
    Untaken(Box<Delivered>, Exchange),
}

/// Hands a call over that kintone's edge has refused here, and brings its answer back.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn go_on(
    shared: &Shared,
    call: &Call,
    onward: Onward,
    mut exchange: Exchange,
) -> Result<GoneOn, CallerLeft> {
    let Onward {
        elsewhere,
        head,
        upload,
        mut refusal,
    } = onward;
    let receiver = Receiver::of(&head);
    let record = exchange.record();
    let said = (
        record.cause.take(),
        record.kintone_code.take(),
        record.kintone_id.take(),
    );
    let body = Load::again(upload.as_ref());
    let errand = Errand::run(shared, call, &mut exchange, elsewhere, *head, body);
    let response = match errand.await {
        Ok(returned) => {
            found_out(shared, &exchange);
            bring_back(call, receiver, returned, exchange)
        }
        Err(Fruitless::Refused(reason, progress)) => {
            found_out(shared, &exchange);
            let record = exchange.record();
            (record.address, record.bind) = (None, None);
            refused(call, reason, &progress, exchange)
        }
        Err(Fruitless::Untaken(..)) => {
            let record = exchange.record();
            (record.cause, record.kintone_code, record.kintone_id) = said;
            if !upload.is_none_or(|upload| upload.is_whole()) {
                refusal.after = After::Close;
            }
            return Ok(GoneOn::Untaken(Box::new(refusal), exchange));
        }
        Err(Fruitless::Left) => return Err(CallerLeft),
    };
    Ok(GoneOn::Answered(response))
}

/// The call of `exchange` was refused here and taken by another host.
fn found_out(shared: &Shared, exchange: &Exchange) {
    shared.telemetry.retried(Retry::AddressRefused);
    exchange.turned_away();
}

/// The answer to a call of which no other host has brought one back.
fn refused(
    call: &Call,
    reason: Reason,
    progress: &Progress,
    mut exchange: Exchange,
) -> Response<Answer> {
    let after = match progress.end() {
        BodyEnd::Whole => After::Keep,
        BodyEnd::Open | BodyEnd::Cut => After::Close,
    };
    refuse(&mut exchange, reason, call.language, after).map(Answer::whole)
}

/// Passes another host's answer on.
fn bring_back(
    call: &Call,
    receiver: Receiver,
    returned: Returned,
    exchange: Exchange,
) -> Response<Answer> {
    let (mut head, incoming) = returned.response.into_parts();
    headers::from_peer(&mut head.headers, receiver.trailers);
    if returned.progress.end() != BodyEnd::Whole {
        // The answer came before all of the request.
        let close = HeaderValue::from_static("close");
        head.headers.insert(header::CONNECTION, close);
    }
    let end = receiver.how_ends(&head.headers);
    head.version = Version::HTTP_11;
    let parcel = Parcel {
        exchange,
        checkout: returned.checkout,
        progress: returned.progress,
    };
    let returning = Returning::new(incoming, parcel, Arc::clone(&call.connection), end);
    Response::from_parts(head, Answer::Handed(Box::new(returning)))
}

/// Hands a CONNECT over; once it is granted the rest runs on its own.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    call: &Call,
    (head, body): (Parts, Incoming),
    on_upgrade: OnUpgrade,
    mut exchange: Exchange,
    elsewhere: Elsewhere,
) -> Result<Response<Answer>, CallerLeft> {
    let body = Load::Fresh(body);
    let errand = Errand::run(shared, call, &mut exchange, elsewhere, head, body);
    let Returned {
        mut response,
        checkout,
        ..
    } = match errand.await {
        Ok(returned) => returned,
        Err(Fruitless::Left) => return Err(CallerLeft),
        Err(Fruitless::Untaken(reason, _) | Fruitless::Refused(reason, _)) => {
            let refusal = refuse(&mut exchange, reason, call.language, After::Close);
            return Ok(refusal.map(Answer::whole));
        }
    };
    let far = hyper::upgrade::on(&mut response);
    let (mut head, body) = response.into_parts();
    headers::from_peer(&mut head.headers, Trailers::Dropped);
    head.version = Version::HTTP_11;
    if !head.status.is_success() {
        let refusal = Limited::new(body, REFUSAL_SIZE_MAX).collect().await;
        let refusal = refusal.map_or_else(|_| Bytes::new(), |refusal| refusal.to_bytes());
        let close = HeaderValue::from_static("close");
        head.headers.insert(header::CONNECTION, close);
        return Ok(Response::from_parts(head, Answer::whole(refusal)));
    }
    let tunnel = Tunnel {
        far,
        kept: checkout.become_tunnel(),
        exchange,
    };
    let drain = shared.drain.clone();
    tokio::spawn(shared.drain.track(async move {
        tokio::select! {
            biased;
            () = tunnel.run(on_upgrade) => {}
            () = drain.cutting() => {}
        }
    }));
    Ok(Response::from_parts(head, Answer::whole(Bytes::new())))
}

/// A tunnel whose other end is at another host.
struct Tunnel {
    far: OnUpgrade,
    kept: Kept,
    exchange: Exchange,
}

impl Tunnel {
    /// Carries bytes both ways until both ends have closed, or one breaks: then both do. How long it
    /// may be idle, and whether its bytes are TLS to the right name, is the other host's to judge.
    async fn run(self, on_upgrade: OnUpgrade) {
        let Self {
            far,
            kept,
            mut exchange,
        } = self;
        let (Ok(near), Ok(far)) = tokio::join!(upgraded(on_upgrade), far) else {
            exchange.abandoned(Head::Withheld);
            return;
        };
        let connection = near.connection;
        let near = Socket::within(Arc::clone(&connection), near.read);
        if join(near, TokioIo::new(far)).await.is_err() {
            connection.break_off();
        }
        drop(kept);
    }
}
