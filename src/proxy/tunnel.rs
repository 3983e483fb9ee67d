//! A CONNECT: TLS end to end. The gateway reads the ClientHello and nothing else; the permit is
//! held while the tunnel is open.

use std::pin::Pin;
use std::sync::Arc;

use http::Response;
use hyper::upgrade::OnUpgrade;

use super::answer::Answer;
use super::call::{Call, CallerLeft, refuse};
use super::connect::{ClientHello, Unheard, grant, hear, say_goodbye};
use super::elsewhere::source as source_of;
use super::exchange::{Exchange, Head};
use super::passage::Passage;
use super::reply::{After, Reason};
use super::shared::Shared;
use crate::egress::{Connected, Source, Verdict};
use crate::kintone::domain::Door;
use crate::model::{Code, Denial, Detail, Mode, Outcome};
use crate::quota::{Ask, Permit, Term};
use crate::server::{Connection, Upgraded, upgraded};
use crate::telemetry::live::Phase;
use crate::telemetry::{Alpn as AlpnLabel, ConnectResult};
use crate::tls::hello::{Alpn, FatalAlert, fatal_alert};

/// Opens a tunnel: admitted, connected, answered 200; the rest runs on its own.
///
/// # Errors
/// [`CallerLeft`] when nobody waits for the answer any more.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    call: Call,
    on_upgrade: OnUpgrade,
    mut exchange: Exchange,
) -> Result<Response<Answer>, CallerLeft> {
    let connected = tokio::select! {
        biased;
        connected = connect(shared, &call, &mut exchange) => connected,
        () = shared.drain.cutting() => Err(Stop::Refused(Reason::Denied(Denial::Draining))),
    };
    match connected {
        Ok((permit, connected)) => {
            let granted = grant(&mut exchange);
            let tunnel = Tunnel {
                shared: Arc::clone(shared),
                call,
                permit,
                connected,
                exchange,
            };
            tokio::spawn(shared.drain.track(tunnel.run(on_upgrade)));
            Ok(granted)
        }
        Err(Stop::Refused(reason)) => {
            let refusal = refuse(&mut exchange, reason, call.language, After::Close);
            Ok(refusal.map(Answer::whole))
        }
        Err(Stop::Left) => {
            exchange.abandoned(Head::Withheld);
            Err(CallerLeft)
        }
    }
}

/// Why a tunnel is not opened.
enum Stop {
    Refused(Reason),
    Left,
}

async fn connect(
    shared: &Shared,
    call: &Call,
    exchange: &mut Exchange,
) -> Result<(Permit, Connected), Stop> {
    let mut source =
        source_of(shared, call).map_err(|denial| Stop::Refused(Reason::Denied(denial)))?;
    let permit = admit(shared, call, exchange, source).await?;
    loop {
        exchange.phase(Phase::Dialling);
        let connected = tokio::select! {
            biased;
            connected = shared.egress.connect(&call.destination.host, source) => connected,
            () = call.connection.tunnel_abandoned() => return Err(Stop::Left),
        };
        let record = exchange.record();
        (record.address, record.bind) = (Some(source.published), Some(source.bind));
        let (timings, upstream) = match &connected {
            Ok(connected) => (connected.timings, Some(connected.upstream)),
            Err(error) => (error.timings, error.upstream),
        };
        (record.dns, record.connect, record.upstream) = (timings.dns, timings.connect, upstream);
        let error = match connected {
            Ok(connected) => {
                let published = source.published;
                shared.telemetry.connected(published, ConnectResult::Ok);
                if call.destination.door == Door::Plain {
                    shared.egress.acceptance().called(&call.destination.account);
                }
                return Ok((permit, connected));
            }
            Err(error) => error,
        };
        let reason = match error.verdict {
            Verdict::Denied(denial) => Reason::Denied(denial),
            Verdict::Failed(failure) => Reason::Failed(failure),
        };
        if let Some(result) = reason.detail().and_then(ConnectResult::of) {
            shared.telemetry.connected(source.published, result);
        }
        match source_of(shared, call) {
            // As in forward: an address that left while the call waited is no reason to fail it,
            // while another is usable.
            Ok(other) if reason.code() == Code::EgressUnavailable && other != source => {
                source = other;
            }
            Err(denial) if reason.code() == Code::EgressUnavailable => {
                return Err(Stop::Refused(Reason::Denied(denial)));
            }
            Ok(_) | Err(_) => return Err(Stop::Refused(reason)),
        }
    }
}

async fn admit(
    shared: &Shared,
    call: &Call,
    exchange: &mut Exchange,
    source: Source,
) -> Result<Permit, Stop> {
    let record = exchange.record();
    (record.address, record.bind) = (Some(source.published), Some(source.bind));
    let settings = call.rules.config.quota_of(&call.destination.account);
    let ask = Ask {
        term: Term::Long,
        mode: Mode::Tunnel,
        ..call.ask(settings.tunnel_h2_weight.max(1))
    };
    let permit = tokio::select! {
        biased;
        admitted = shared.quotas.admit(ask) => admitted.map_err(|denial| {
            exchange.waited(denial);
            Stop::Refused(Reason::Denied(denial))
        })?,
        () = call.connection.tunnel_abandoned() => return Err(Stop::Left),
    };
    exchange.record().queued = Some(permit.waited());
    Ok(permit)
}

/// A tunnel after its 200.
struct Tunnel {
    shared: Arc<Shared>,
    call: Call,
    permit: Permit,
    connected: Connected,
    exchange: Exchange,
}

/// A tunnel whose ClientHello was let through.
struct Begun {
    passage: Passage,
    first: Vec<u8>,
    /// The caller's, with its place among all connections.
    connection: Arc<Connection>,
}

impl Begun {
    fn pass(self) -> (Pin<Box<impl Future<Output = ()> + Send>>, Arc<Connection>) {
        (Box::pin(self.passage.run(self.first)), self.connection)
    }
}

impl Tunnel {
    /// From the 200 to the end. Neither what the beginning needs nor this tunnel itself is carried
    /// along while it is open, so that an idle one costs little more than its passage.
    fn run(self, on_upgrade: OnUpgrade) -> impl Future<Output = ()> + Send {
        let beginning = Box::pin(self.begin(on_upgrade));
        async move {
            let Some((passing, connection)) = beginning.await.map(Begun::pass) else {
                return;
            };
            passing.await;
            drop(connection);
        }
    }

    /// Takes the connection over and judges its ClientHello; `None` if the tunnel ends there.
    async fn begin(mut self, on_upgrade: OnUpgrade) -> Option<Begun> {
        let Ok(caller) = upgraded(on_upgrade).await else {
            self.exchange.abandoned(Head::Withheld);
            return None;
        };
        let Upgraded {
            connection,
            stream,
            read,
        } = caller;
        let limit = self.call.rules.config.limits.handshake_timeout;
        let heard = tokio::select! {
            biased;
            heard = tokio::time::timeout(limit, hear(&stream, read)) => heard,
            () = self.shared.drain.cutting() => {
                let outcome = Outcome::Refused(Code::Draining);
                self.exchange.ended(outcome, Some(Detail::DrainCut));
                return None;
            }
        };
        let (hello, first) = match heard {
            Ok(Ok(heard)) => heard,
            Ok(Err(Unheard::Gone)) => {
                self.exchange.abandoned(Head::Given);
                return None;
            }
            Ok(Err(Unheard::TooLarge)) => return self.reject(Detail::HelloTooLarge),
            Ok(Err(Unheard::NotTls)) => return self.reject(Detail::NotTls),
            Err(_) => return self.reject(Detail::HelloTimeout),
        };
        if let Err((alert, code, detail)) = self.judge(&hello) {
            self.exchange.ended(Outcome::Refused(code), Some(detail));
            drop((self.permit, self.connected, self.exchange));
            say_goodbye(&stream, &fatal_alert(alert)).await;
            return None;
        }
        if !hello.alpn.offers_h2() {
            self.permit.shrink(1);
        }
        self.permit.sent();
        self.exchange.sent();
        let settings = self.permit.settings();
        let rule = self.call.identity.caller.rule();
        let gauge = self
            .shared
            .telemetry
            .tunnel_opened(&rule.name, label_of(hello.alpn));
        let upstream = &self.call.rules.config.upstream;
        let passage = Passage {
            caller: stream,
            connection: Arc::clone(&connection),
            kintone: self.connected.stream,
            open: self.connected.open,
            permit: self.permit,
            exchange: self.exchange,
            gauge,
            drain: self.shared.drain.clone(),
            settings,
            response_timeout: upstream.response_timeout,
            stall_timeout: self.call.rules.config.limits.stall_timeout,
        };
        Some(Begun {
            passage,
            first,
            connection,
        })
    }

    /// Bytes that are no ClientHello end the tunnel without a word.
    fn reject(mut self, detail: Detail) -> Option<Begun> {
        self.exchange
            .ended(Outcome::Refused(Code::BadRequest), Some(detail));
        None
    }

    /// No byte of the caller reaches kintone before this has said yes.
    fn judge(&self, hello: &ClientHello) -> Result<(), (FatalAlert, Code, Detail)> {
        hello.names(&self.call.destination.host).map_err(|detail| {
            let alert = FatalAlert::UnrecognizedName;
            (alert, Code::DestinationForbidden, detail)
        })?;
        let settings = self.permit.settings();
        if hello.alpn.offers_h2() && settings.tunnel_h2_weight == 0 {
            let alert = FatalAlert::NoApplicationProtocol;
            return Err((alert, Code::CallerForbidden, Detail::H2Forbidden));
        }
        Ok(())
    }
}

const fn label_of(alpn: Alpn) -> AlpnLabel {
    match alpn {
        Alpn::None => AlpnLabel::None,
        Alpn::H1 => AlpnLabel::H1,
        Alpn::H2 => AlpnLabel::H2,
    }
}
