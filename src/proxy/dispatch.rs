//! Where a call that was let in leaves from: this host, or another one of the fleet to which it is
//! handed.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::answer::Answer;
use super::call::{Call, CallerLeft};
use super::elsewhere::Elsewhere;
use super::exchange::Exchange;
use super::shared::Shared;
use super::{forward, handover, tunnel};

/// Carries a call whose parts are seen.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn carry(
    shared: &Shared,
    call: &Call,
    head: Parts,
    body: Incoming,
    exchange: Exchange,
) -> Result<Response<Answer>, CallerLeft> {
    match Elsewhere::of(shared, call) {
        None => forward::carry(shared, call, head, body, exchange).await,
        // What few calls need is not kept by all.
        Some(to) => Box::pin(handover::carry(shared, call, head, body, exchange, to)).await,
    }
}

/// Opens a tunnel.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    call: Call,
    (head, body): (Parts, Incoming),
    on_upgrade: OnUpgrade,
    exchange: Exchange,
) -> Result<Response<Answer>, CallerLeft> {
    match Elsewhere::of(shared, &call) {
        None => tunnel::open(shared, call, on_upgrade, exchange).await,
        Some(to) => {
            let opening = handover::open(shared, &call, (head, body), on_upgrade, exchange, to);
            Box::pin(opening).await
        }
    }
}
