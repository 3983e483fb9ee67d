//! A CONNECT: TLS end to end. The gateway reads the ClientHello and nothing else; the permit is
//! held while the tunnel is open.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::answer::Answer;
use super::call::{Call, CallerLeft, refuse};
use super::exchange::{Exchange, Head};
use super::passage::Passage;
use super::reply::{self, After, Reason};
use super::shared::Shared;
use crate::egress::{Connected, Source, Verdict};
use crate::model::{Code, Denial, Detail, Mode, Outcome};
use crate::quota::{Ask, Permit};
use crate::server::{Connection, Upgraded, upgraded};
use crate::telemetry::live::Phase;
use crate::telemetry::{Alpn as AlpnLabel, ConnectResult};
use crate::tls::hello::{Alpn, FatalAlert, HELLO_SIZE_MAX, Hello, fatal_alert, read_hello};

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
    let mut source = shared
        .egress
        .choose()
        .map_err(|denial| Stop::Refused(Reason::Denied(denial)))?;
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
        match shared.egress.choose() {
            // As in forward: an address that left while the call waited is no reason to fail it,
            // while another is usable.
            Ok(other) if reason.code() == Code::EgressUnavailable && other != source => {
                source = other;
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

/// The 200: no body, no length (RFC 9110 section 9.3.6).
fn grant(exchange: &mut Exchange) -> Response<Answer> {
    let record = exchange.record();
    record.status = Some(StatusCode::OK.as_u16());
    let mut response = Response::new(Answer::whole(Bytes::new()));
    let (id, address, queued) = (record.id, record.address, record.queued);
    reply::describe(response.headers_mut(), id, address, queued);
    response
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
        let unrecognized = |detail| {
            Err((
                FatalAlert::UnrecognizedName,
                Code::DestinationForbidden,
                detail,
            ))
        };
        match &hello.sni {
            None => return unrecognized(Detail::SniMissing),
            Some(sni) if sni != self.call.destination.host.as_str() => {
                return unrecognized(Detail::SniMismatch);
            }
            Some(_) => {}
        }
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

/// What a ClientHello says.
struct ClientHello {
    sni: Option<String>,
    alpn: Alpn,
}

/// Why no ClientHello was heard.
enum Unheard {
    Gone,
    TooLarge,
    NotTls,
}

/// Reads until the ClientHello is complete; returns it with all that was read.
async fn hear(stream: &TcpStream, early: Bytes) -> Result<(ClientHello, Vec<u8>), Unheard> {
    let mut first = Vec::from(early);
    loop {
        match read_hello(&first) {
            Hello::Client { sni, alpn } => return Ok((ClientHello { sni, alpn }, first)),
            Hello::NotTls => return Err(Unheard::NotTls),
            Hello::Incomplete if first.len() >= HELLO_SIZE_MAX => return Err(Unheard::TooLarge),
            Hello::Incomplete => {}
        }
        stream.readable().await.map_err(|_| Unheard::Gone)?;
        match stream.try_read_buf(&mut first) {
            Ok(0) => return Err(Unheard::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Unheard::Gone),
        }
    }
}

/// How long a caller may take to read the alert before the connection is closed for good.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// Sends the last bytes and lets them arrive: a close with unread bytes would be a reset that can
/// overtake them.
async fn say_goodbye(stream: &TcpStream, last: &[u8]) {
    let until = Instant::now() + GOODBYE_WAIT;
    let goodbye = async {
        stream.writable().await?;
        stream.try_write(last)?;
        socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)?;
        let mut discarded = vec![0; 4096];
        loop {
            stream.readable().await?;
            match stream.try_read(&mut discarded) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    // Whether it arrived makes no difference to anything that is done from here on.
    let _: Result<std::io::Result<()>, _> = tokio::time::timeout_at(until, goodbye).await;
}
