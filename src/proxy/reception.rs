//! Calls that another host of the fleet hands over: judged by this host's own rules, for what the other
//! one has proved, and carried from the address that is asked for.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::answer::Answer;
use super::call::{Call, CallerLeft, new_id, refuse};
use super::exchange::Exchange;
use super::handed::{About, Handed};
use super::headers;
use super::identity::Proof;
use super::judge::{Asked, Place, Refused, Way, judge};
use super::message::Language;
use super::notes::{language_of, note, write_down};
use super::reply::{After, Reason};
use super::request::OWN_PREFIX;
use super::shared::Shared;
use super::{forward, leftover, tunnel};
use crate::drain::Stage;
use crate::model::{Denial, Detail, Mode, Published};
use crate::server::{Connection, PeerName};

/// Answers one request of another host.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, CallerLeft> {
    if request.uri().path().strip_prefix(OWN_PREFIX) == Some("ready") {
        return Ok(readiness(shared));
    }
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let extensions = &mut head.extensions;
    let connection = extensions.remove::<Arc<Connection>>().ok_or(CallerLeft)?;
    let peer = extensions.remove::<PeerName>().ok_or(CallerLeft)?;
    let Ok(handed) = Handed::read(&head) else {
        let client = connection.client();
        let mut exchange = Exchange::open(shared, new_id(), client);
        let reason = Reason::Denied(Denial::bad_request(Detail::HandoverUnreadable));
        tracing::warn!(peer = %peer.0, "what it says of a call cannot be read: are the versions alike?");
        let refusal = refuse(&mut exchange, reason, Language::En, After::Close);
        return Ok(refusal.map(Answer::whole));
    };
    let mut exchange = Exchange::open(shared, handed.id, handed.client);
    note(&mut exchange, &head);
    exchange.record().handed_by = Some(peer.0);
    let rules = shared.rules.load_full();
    let language = language_of(&head);
    // As the caller sent it, so that it is judged and told as that.
    head.version = handed.version;
    let asked = Asked {
        head: &head,
        fault: connection.head_fault(),
        place: Place::Handed(handed.mode),
        proof: Proof::Handed(&handed.caller, handed.credential),
        client: handed.client,
        stage: shared.drain.stage(),
    };
    match judge(&rules, &asked, |step| write_down(&mut exchange, &step)) {
        Ok(Way::Call(judged)) => {
            let call = Call::new(rules, connection, judged, language);
            let call = call.leaving_from(handed.address);
            if handed.about == About::Server {
                head.uri = headers::asterisk_form();
            }
            match handed.mode {
                Mode::Forward | Mode::Inspect => {
                    forward::carry(shared, &call, head, body, exchange).await
                }
                Mode::Tunnel => tunnel::open(shared, call, on_upgrade, exchange).await,
            }
        }
        // The gateway has no pages for other hosts.
        Ok(Way::Ready | Way::Trust | Way::Help | Way::Me(..)) => Err(CallerLeft),
        Err(refused) => {
            let (reason, after) = of_this_host(refused, handed.address);
            let after = match after {
                After::Keep => leftover::settle(&head, body),
                After::Close => After::Close,
            };
            Ok(refuse(&mut exchange, reason, language, after).map(Answer::whole))
        }
    }
}

/// A caller whom only the other host knows has proved who it is: the two have different files.
fn of_this_host((reason, after): Refused, line: Published) -> Refused {
    match reason {
        Reason::Denied(Denial::AuthenticationRequired(detail)) => {
            let denial = Denial::LineUnavailable { line, detail };
            (Reason::Denied(denial), after)
        }
        Reason::Denied(_) | Reason::Failed(_) | Reason::Options(_) => (reason, after),
    }
}

/// Whether calls may be handed here. It is no call, and not counted as one.
fn readiness(shared: &Shared) -> Response<Answer> {
    let is_ready = shared.drain.stage() == Stage::Serving
        && shared.quotas.unknown_for().is_none()
        && shared.egress.choose().is_ok();
    let mut response = Response::new(Answer::whole(Bytes::new()));
    if !is_ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
