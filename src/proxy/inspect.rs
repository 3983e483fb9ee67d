//! A CONNECT whose TLS is ours: answered without dialling and without a permit. Every call inside is
//! one of its own, which the handler at the other end of `Inner` judges and carries as in forward.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceExt as _, service_fn};
use tower_http::body::UnsyncBoxBody;

use super::answer::Answer;
use super::call::{Call, CallerLeft};
use super::connect::{Unheard, grant, hear, say_goodbye};
use super::exchange::{Exchange, Head};
use super::inside::Inside;
use super::shared::Shared;
use crate::model::{CallerName, Code, Detail, Host, Outcome};
use crate::server::{Socket, Upgraded, serve_within, upgraded};
use crate::telemetry::{Handshake, OpenInspection};
use crate::tls::Authority;
use crate::tls::hello::{FatalAlert, fatal_alert};
use crate::tls::inbound::{AcceptError, accept};

/// Answers the calls inside. Each comes with an `Arc<Inside>` in its extensions.
pub type Inner = BoxCloneSyncService<Request<Incoming>, Response<InnerBody>, CallerLeft>;

/// The body of its answers.
pub type InnerBody = UnsyncBoxBody<Bytes, BoxError>;

/// Answers a CONNECT; the rest runs on its own.
pub(crate) fn open(
    shared: &Arc<Shared>,
    call: &Call,
    head: &Parts,
    on_upgrade: OnUpgrade,
    mut exchange: Exchange,
    inner: &Inner,
) -> Response<Answer> {
    let granted = grant(&mut exchange);
    let inspection = Inspection {
        shared: Arc::clone(shared),
        host: call.destination.host.clone(),
        caller: call.identity.caller.rule().name.clone(),
        authority: call.rules.authority.clone(),
        within: Instant::now() + call.rules.config.limits.handshake_timeout,
        exchange,
    };
    let (inside, inner) = (Inside::new(call, &head.headers), inner.clone());
    tokio::spawn(shared.drain.track(async move {
        // What a handshake needs is not kept while the connection lasts.
        let Some((stream, open)) = Box::pin(inspection.begin(on_upgrade)).await else {
            return;
        };
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Arc::clone(&inside));
            inner.clone().oneshot(request)
        });
        serve_within(stream, service).await;
        drop(open);
    }));
    granted
}

/// A connection between its 200 and the end of its handshake.
struct Inspection {
    shared: Arc<Shared>,
    host: Host,
    caller: CallerName,
    authority: Option<Arc<Authority>>,
    /// When the handshake must be over.
    within: Instant,
    exchange: Exchange,
}

/// A connection that is ready for calls; the second part counts it as open.
type Begun = (TlsStream<Socket>, OpenInspection);

/// Why a handshake came to nothing.
struct Ended {
    outcome: Outcome,
    detail: Option<Detail>,
    as_counted: Handshake,
}

impl Inspection {
    /// Takes the connection over and shakes hands; `None` if it ends there, which is told as one
    /// call of the caller's.
    async fn begin(mut self, on_upgrade: OnUpgrade) -> Option<Begun> {
        let Ok(caller) = upgraded(on_upgrade).await else {
            self.exchange.abandoned(Head::Withheld);
            return None;
        };
        let drain = self.shared.drain.clone();
        let shaken = tokio::select! {
            biased;
            shaken = self.shake_hands(caller) => shaken,
            () = drain.cutting() => Err(Ended::refused(Code::Draining, Detail::DrainCut)),
        };
        let telemetry = &self.shared.telemetry;
        match shaken {
            Ok(stream) => {
                let alpn = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Handshake::H2,
                    Some(_) | None => Handshake::H1,
                };
                let open = telemetry.inspection_opened(&self.caller, alpn);
                self.exchange.forget();
                Some((stream, open))
            }
            Err(Ended {
                outcome,
                detail,
                as_counted,
            }) => {
                telemetry.inspection_failed(&self.caller, as_counted);
                match (outcome, detail) {
                    (Outcome::CallerGone, None) => self.exchange.abandoned(Head::Given),
                    _ => self.exchange.ended(outcome, detail),
                }
                None
            }
        }
    }

    async fn shake_hands(&self, caller: Upgraded) -> Result<TlsStream<Socket>, Ended> {
        let Upgraded {
            connection,
            stream,
            read,
        } = caller;
        let heard = timeout_at(self.within, hear(&stream, read)).await;
        let bad = |detail, as_counted| Ended {
            as_counted,
            ..Ended::refused(Code::BadRequest, detail)
        };
        let (hello, first) = match heard {
            Ok(Ok(heard)) => heard,
            Ok(Err(Unheard::Gone)) => return Err(Ended::gone()),
            Ok(Err(Unheard::TooLarge)) => {
                return Err(bad(Detail::HelloTooLarge, Handshake::NotTls));
            }
            Ok(Err(Unheard::NotTls)) => return Err(bad(Detail::NotTls, Handshake::NotTls)),
            Err(_) => return Err(bad(Detail::HelloTimeout, Handshake::Timeout)),
        };
        if let Err(detail) = hello.names(&self.host) {
            say_goodbye(&stream, &fatal_alert(FatalAlert::UnrecognizedName)).await;
            return Err(Ended {
                as_counted: Handshake::Sni,
                ..Ended::refused(Code::DestinationForbidden, detail)
            });
        }
        let authority = self.authority.as_ref();
        let server = authority.and_then(|authority| authority.server_config(&self.host));
        let Some(server) = server else {
            // The judge sends none here that is not covered.
            return Err(Ended::refused(Code::Internal, Detail::HandshakeFailed));
        };
        drop(stream);
        let socket = Socket::within(connection, first.into());
        match timeout_at(self.within, accept(server, socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(AcceptError::Distrusted(_))) => Err(Ended {
                outcome: Outcome::CallerGone,
                detail: Some(Detail::CallerDistrustsCa),
                as_counted: Handshake::CallerDistrustsCa,
            }),
            Ok(Err(AcceptError::Failed(_))) => Err(bad(Detail::HandshakeFailed, Handshake::Failed)),
            Ok(Err(AcceptError::Gone(_))) => Err(Ended::gone()),
            Err(_) => Err(bad(Detail::HandshakeTimeout, Handshake::Timeout)),
        }
    }
}

impl Ended {
    const fn refused(code: Code, detail: Detail) -> Self {
        Self {
            outcome: Outcome::Refused(code),
            detail: Some(detail),
            as_counted: Handshake::Failed,
        }
    }

    const fn gone() -> Self {
        Self {
            outcome: Outcome::CallerGone,
            detail: None,
            as_counted: Handshake::Gone,
        }
    }
}
