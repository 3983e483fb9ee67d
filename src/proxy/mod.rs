//! The life of a call: read once, judged in one order, admitted in one place, carried.
//!
//! The order of judgement is the contract's: framing (400), authentication (407), the destination's
//! name and port (403), the caller's rights (403), whether an address is usable (503), the quota
//! (429); only then is a name looked up or anything dialled. [`Proxy::handle`] does the first four;
//! `journey` and `tunnel` do the rest, each with the one `admit` of its way in.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::config::Config;
use crate::drain::{Drain, Stage};
use crate::egress::Egress;
use crate::kintone::call::template;
use crate::kintone::cursor::Cursors;
use crate::kintone::domain::{self, Door};
use crate::model::{Client, Denial, Detail, Failure, Mode, Outcome};
use crate::quota::Quotas;
use crate::server::Connection;
use crate::telemetry::Telemetry;

pub use answer::Answer;
pub use call::CallerLeft;
pub use upload::Outgoing;

use call::{Call, new_id, refuse};
use exchange::Exchange;
use identity::{Identity, IdentityError, check_account};
use message::Language;
use options::Options;
use reply::{After, Reason, Story};
use request::Target;
use shared::{Rules, Shared};

mod allowlist;
mod answer;
mod attempt;
mod call;
mod carriage;
mod exchange;
mod flight;
mod forward;
mod headers;
mod held;
mod hint;
mod identity;
mod journey;
mod message;
mod newborn;
mod options;
mod passage;
mod relay;
mod reply;
mod request;
mod shared;
mod tunnel;
mod upload;

/// Longest `User-Agent` that is logged, in bytes.
const USER_AGENT_MAX: usize = 256;

/// The proxy. Clones are the same one.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

/// Where a request goes when nothing is wrong with it.
enum Way {
    Forward(Call),
    Tunnel(Call),
    Ready,
}

impl Proxy {
    /// A proxy under `config`.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        quotas: Quotas,
        egress: Arc<Egress<Outgoing>>,
        telemetry: Arc<Telemetry>,
        drain: Drain,
    ) -> Self {
        let rules = ArcSwap::new(Rules::new(config));
        Self {
            shared: Arc::new(Shared {
                rules,
                quotas,
                egress,
                telemetry,
                drain,
                cursors: Arc::new(Cursors::default()),
            }),
        }
    }

    /// Calls that begin from here on are judged by `config`.
    pub fn reload(&self, config: Arc<Config>) {
        self.shared.rules.store(Rules::new(config));
    }

    /// Answers one request of a caller's connection.
    ///
    /// # Errors
    /// [`CallerLeft`] when nobody waits for the answer any more.
    pub async fn handle(
        self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallerLeft> {
        let shared = &self.shared;
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        let connection = head
            .extensions
            .remove::<Arc<Connection>>()
            .ok_or(CallerLeft)?;
        let mut exchange = Exchange::open(&shared.telemetry, new_id(), connection.client());
        note(&mut exchange, &head);
        match self.judge(&head, connection, &mut exchange) {
            Ok(Way::Forward(call)) => forward::carry(shared, &call, head, body, exchange).await,
            Ok(Way::Tunnel(call)) => self.tunnel(call, on_upgrade, exchange).await,
            Ok(Way::Ready) => Ok(self.ready(exchange)),
            Err((reason, after)) => {
                let language = language_of(&head);
                Ok(refuse(&mut exchange, reason, language, after).map(Answer::whole))
            }
        }
    }

    /// The whole answer, as bytes, to a request that hyper could not read: `status` is what hyper
    /// would have answered. It is counted and logged like any other refusal.
    #[must_use]
    pub fn answer_unreadable(&self, status: u16, client: Client) -> Bytes {
        let detail = match status {
            414 => Detail::TargetTooLong,
            431 => Detail::HeadTooLarge,
            _ => Detail::Unparsable,
        };
        let mut exchange = Exchange::open(&self.shared.telemetry, new_id(), client);
        let reason = Reason::Denied(Denial::BadRequest { status, detail });
        reply::to_bytes(&refuse(&mut exchange, reason, Language::En, After::Close))
    }

    /// The answer to a call whose handling panicked. Its record was ended by the unwinding.
    #[must_use]
    pub fn answer_panic() -> Response<Full<Bytes>> {
        let story = Story {
            id: new_id(),
            account: None,
            tenant: None,
            address: None,
            queued: None,
            language: Language::En,
            after: After::Close,
        };
        reply::refuse(Reason::Failed(Failure::Internal), story).map(Full::new)
    }

    fn judge(
        &self,
        head: &Parts,
        connection: Arc<Connection>,
        exchange: &mut Exchange,
    ) -> Result<Way, (Reason, After)> {
        let rules = self.shared.rules.load_full();
        let close = |denial| (Reason::Denied(denial), After::Close);
        let target = request::read(head).map_err(close)?;
        if connection.target_has_fragment() {
            return Err(close(Denial::bad_request(Detail::Fragment)));
        }
        let said = Options::from_headers(&head.headers)
            .map_err(|error| (Reason::Options(error), After::Close))?;
        let (host, mode, after) = match target {
            Target::Forward { host, .. } => (host, Mode::Forward, After::Keep),
            Target::Connect { host, .. } => (host, Mode::Tunnel, After::Close),
            Target::Own { path: "ready" } => return Ok(Way::Ready),
            Target::Own { .. } => return Err(close(Denial::bad_request(Detail::OriginForm))),
        };
        exchange.record().mode = Some(mode);
        if self.shared.drain.stage() >= Stage::Stopping {
            return Err(close(Denial::Draining));
        }
        let denied = |denial| (Reason::Denied(denial), after);
        let client = connection.client();
        let identity =
            rules
                .directory
                .identify(&head.headers, client)
                .map_err(|error| match error {
                    IdentityError::Unauthenticated(detail) => {
                        denied(Denial::AuthenticationRequired(detail))
                    }
                    IdentityError::Options(error) => (Reason::Options(error), After::Close),
                })?;
        let options = said
            .or(identity.options.clone())
            .map_err(|error| (Reason::Options(error), After::Close))?;
        identify(exchange, &identity, &options);
        let destination = domain::judge(host, &rules.config.upstream.zones)
            .map_err(|detail| denied(Denial::DestinationForbidden(detail)))?;
        let language = language_of(head);
        let caller = Arc::clone(&identity.caller);
        let call = Call {
            rules: Arc::clone(&rules),
            connection,
            identity,
            options,
            destination,
            language,
        };
        request::check_port(target).map_err(denied)?;
        let config = &rules.config;
        check_account(config, &call.destination.account).map_err(denied)?;
        exchange.destined(&call.destination.account, mode);
        if mode == Mode::Forward && call.destination.door == Door::ClientCertificate {
            let detail = Detail::ClientCertificateHost;
            return Err(denied(Denial::DestinationForbidden(detail)));
        }
        let tenant = call.options.tenant.as_ref();
        caller
            .may(config, client, &call.destination.account, tenant, mode)
            .map_err(denied)?;
        Ok(if mode == Mode::Tunnel {
            Way::Tunnel(call)
        } else {
            Way::Forward(call)
        })
    }

    async fn tunnel(
        &self,
        call: Call,
        on_upgrade: OnUpgrade,
        exchange: Exchange,
    ) -> Result<Response<Answer>, CallerLeft> {
        tunnel::open(&self.shared, call, on_upgrade, exchange).await
    }

    /// For load balancers that can only look at the proxy's own port.
    fn ready(&self, mut exchange: Exchange) -> Response<Answer> {
        let verdict = match (self.shared.drain.stage(), self.shared.egress.choose()) {
            (Stage::Serving, Ok(_)) => Ok(()),
            (Stage::Serving, Err(denial)) => Err(denial),
            (Stage::Announced | Stage::Stopping | Stage::Cutting, _) => Err(Denial::Draining),
        };
        match verdict {
            Ok(()) => {
                exchange.record().status = Some(200);
                exchange.ended(Outcome::Ok, None);
                let mut response = Response::new(Answer::whole(Bytes::from_static(b"ready\n")));
                let text = header::HeaderValue::from_static("text/plain;charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, text);
                response
            }
            Err(denial) => {
                let reason = Reason::Denied(denial);
                refuse(&mut exchange, reason, Language::En, After::Keep).map(Answer::whole)
            }
        }
    }
}

/// Writes down what is known from the head alone.
fn note(exchange: &mut Exchange, head: &Parts) {
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

/// Writes down who calls, and what it said about the call.
fn identify(exchange: &mut Exchange, identity: &Identity, options: &Options) {
    let caller = &identity.caller;
    exchange.identified(
        identity.credential,
        identity.priority(options),
        options.tenant.clone(),
    );
    let record = exchange.record();
    record.caller = Some(caller.rule().name.clone());
    record.purpose = options.purpose.clone().map(|named| caller.purpose(named));
}

/// A CONNECT is answered in English: its sender is a library, which shows the text as it comes.
fn language_of(head: &Parts) -> Language {
    if head.method == Method::CONNECT {
        Language::En
    } else {
        Language::of(&head.headers)
    }
}
