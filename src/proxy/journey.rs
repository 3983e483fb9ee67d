//! A call's way to kintone: admitted, connected, sent; and again where that is safe.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use super::call::Call;
use super::carriage::Carriage;
use super::exchange::{Exchange, Head};
use super::flight::{Expectation, Flight, silence};
use super::headers::{self, Framing};
use super::held::{Held, HeldEnd, hold};
use super::reply::Reason;
use super::shared::Shared;
use super::upload::{Fault, Outgoing, Upload};
use crate::egress::{Checkout, ConnectError, Reuse, SendError, Source, Verdict};
use crate::kintone::answer::{self as knowledge, Concurrency, TOO_MANY_RUNNING};
use crate::kintone::call::{Repeat, effective_method, repeat, template};
use crate::model::{Cause, Code, Denial, Detail, Failure};
use crate::quota::Permit;
use crate::telemetry::live::Phase;
use crate::telemetry::{ConnectResult, Rejection, Retry};

/// How often a request is handed to a connection that turns out to be closed: once to one of the
/// pool, once to a new one.
const UNSENT_MAX: u32 = 2;

/// Where a journey ends.
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once a call, never kept"
)]
pub(crate) enum End {
    /// An answer of kintone's for the caller.
    Deliver(Delivered),
    /// The gateway's word.
    Refuse(Reason),
    /// The caller has left a call that is at kintone: its end is awaited all the same.
    ForNobody(Flight),
    /// The caller has left, and nothing is under way for it.
    Left,
}

/// An answer of kintone's, as far as it was read.
pub(crate) struct Delivered {
    pub(crate) response: Response<Incoming>,
    /// The beginning of its body, where that was held.
    pub(crate) held: Vec<Bytes>,
    /// What it still holds; `None` if kintone refused it at admission.
    pub(crate) carriage: Option<Carriage>,
    /// Why kintone failed it.
    pub(crate) cause: Option<Cause>,
}

/// A call on its way, with what is needed to send it again.
pub(crate) struct Journey<'a> {
    shared: &'a Shared,
    call: &'a Call,
    exchange: &'a mut Exchange,
    head: Parts,
    expects_continue: bool,
    upload: Option<Arc<Upload>>,
    source: Source,
    reuse: Reuse,
    repeat: Repeat,
    unsent: u32,
}

/// How one try ended.
enum Tried {
    Answered(Response<Incoming>, Carriage),
    /// kintone refused it at admission: nothing was executed.
    TooManyRunning(Response<Incoming>, Held, Carriage),
    /// A failure that kintone reported, with the beginning of its answer.
    Failed(Response<Incoming>, Held, Carriage, Cause),
    /// The connection had been closed before; not a byte was sent.
    Unsent(Permit),
    /// The outcome is unknown.
    Broken(Failure),
    Refused(Reason),
    ForNobody(Flight),
    Left,
}

impl<'a> Journey<'a> {
    /// Makes a caller's request into kintone's.
    pub(crate) fn new(
        shared: &'a Shared,
        call: &'a Call,
        exchange: &'a mut Exchange,
        mut head: Parts,
        body: Incoming,
        source: Source,
    ) -> Self {
        let upstream = &call.rules.config.upstream;
        let effective = effective_method(&head.method, &head.headers);
        let path = head.uri.path();
        let record = exchange.record();
        record.path = Some(template(path));
        record.address = Some(source.published);
        record.bind = Some(source.bind);
        let repeat = repeat(&effective, path);
        let framing = if head.headers.contains_key(header::TRANSFER_ENCODING) {
            Framing::Chunked
        } else {
            Framing::Declared
        };
        let upload = (!body.is_end_stream()).then(|| {
            Upload::new(
                body,
                upstream.replay,
                call.rules.config.limits.stall_timeout,
            )
        });
        let expects_continue = upload.is_some() && expects_continue(&head);
        let received = head.version;
        head.uri = headers::origin_form(&head.uri);
        head.version = Version::HTTP_11;
        headers::to_kintone(&mut head.headers, &call.destination.host, received, framing);
        Self {
            shared,
            call,
            exchange,
            head,
            expects_continue,
            upload,
            source,
            reuse: if repeat == Repeat::Safe {
                Reuse::Any
            } else {
                Reuse::Fresh
            },
            repeat,
            unsent: 0,
        }
    }

    /// Travels to the end.
    pub(crate) async fn travel(mut self) -> End {
        let end = match self.go().await {
            Ok(end) | Err(end) => end,
        };
        if let Some(upload) = &self.upload {
            self.exchange.record().bytes_in = upload.received();
        }
        end
    }

    async fn go(&mut self) -> Result<End, End> {
        let mut permit = self.admit().await?;
        loop {
            match self.try_once(permit).await {
                Tried::Answered(response, carriage) => {
                    let carriage = Some(carriage);
                    let held = Vec::new();
                    return Ok(End::Deliver(Delivered {
                        response,
                        held,
                        carriage,
                        cause: None,
                    }));
                }
                Tried::Failed(response, held, carriage, cause) => {
                    let (held, carriage, cause) = (held.chunks, Some(carriage), Some(cause));
                    return Ok(End::Deliver(Delivered {
                        response,
                        held,
                        carriage,
                        cause,
                    }));
                }
                Tried::TooManyRunning(response, held, carriage) => {
                    permit = self.wait_for_room(response, held, carriage).await?;
                }
                Tried::Unsent(unsent) => {
                    self.shared.telemetry.retried(Retry::StaleConnection);
                    permit = unsent;
                }
                Tried::Broken(_) if self.may_repeat() => {
                    self.shared.telemetry.retried(Retry::Reset);
                    self.exchange.record().retries += 1;
                    self.repeat = Repeat::Unsafe;
                    self.reuse = Reuse::Never;
                    permit = self.admit().await?;
                }
                Tried::Broken(failure) => return Ok(End::Refuse(Reason::Failed(failure))),
                Tried::Refused(reason) => return Ok(End::Refuse(reason)),
                Tried::ForNobody(flight) => return Ok(End::ForNobody(flight)),
                Tried::Left => return Ok(End::Left),
            }
        }
    }

    /// Only a read, and only once, after an outcome that is unknown.
    fn may_repeat(&self) -> bool {
        self.repeat == Repeat::Safe
            && self
                .upload
                .as_ref()
                .is_none_or(|upload| upload.is_replayable())
    }

    async fn admit(&mut self) -> Result<Permit, End> {
        self.exchange.phase(Phase::Waiting);
        let admitted = {
            let asked = self.shared.quotas.admit(self.call.ask(1));
            tokio::select! {
                biased;
                admitted = asked => Some(admitted),
                () = self.call.connection.caller_gone() => None,
            }
        };
        match admitted {
            Some(Ok(permit)) => {
                let queued = &mut self.exchange.record().queued;
                *queued = Some(queued.unwrap_or_default() + permit.waited());
                Ok(permit)
            }
            Some(Err(denial)) => {
                self.exchange.waited(denial);
                Err(End::Refuse(Reason::Denied(denial)))
            }
            None => {
                self.exchange.abandoned(Head::Withheld);
                Err(End::Left)
            }
        }
    }

    async fn try_once(&mut self, mut permit: Permit) -> Tried {
        let checkout = match self.check_out().await {
            Ok(checkout) => checkout,
            Err(tried) => return tried,
        };
        if self.call.connection.is_caller_gone() {
            self.exchange.abandoned(Head::Withheld);
            return Tried::Left;
        }
        permit.sent();
        self.exchange.sent();
        self.send(permit, checkout).await
    }

    async fn check_out(&mut self) -> Result<Checkout<Outgoing>, Tried> {
        self.exchange.phase(Phase::Dialling);
        loop {
            let egress = &self.shared.egress;
            let host = &self.call.destination.host;
            let checked_out = tokio::select! {
                biased;
                checked_out = egress.checkout(host, self.source, self.reuse) => Some(checked_out),
                () = self.call.connection.caller_gone() => None,
            };
            match checked_out {
                Some(Ok(checkout)) => {
                    self.reached(&checkout);
                    return Ok(checkout);
                }
                Some(Err(error)) => self.unreached(&error).map_err(Tried::Refused)?,
                None => {
                    self.exchange.abandoned(Head::Withheld);
                    return Err(Tried::Left);
                }
            }
        }
    }

    fn reached(&mut self, checkout: &Checkout<Outgoing>) {
        if !checkout.reused() {
            let published = self.source.published;
            self.shared
                .telemetry
                .connected(published, ConnectResult::Ok);
        }
        let record = self.exchange.record();
        record.upstream = Some(checkout.upstream());
        let timings = checkout.timings();
        (record.dns, record.connect, record.tls) = (timings.dns, timings.connect, timings.tls);
    }

    /// An address that left while the call waited is no reason to fail it, while another is usable.
    fn unreached(&mut self, error: &ConnectError) -> Result<(), Reason> {
        let record = self.exchange.record();
        record.upstream = error.upstream;
        let timings = error.timings;
        (record.dns, record.connect, record.tls) = (timings.dns, timings.connect, timings.tls);
        let reason = match error.verdict {
            Verdict::Denied(denial) => Reason::Denied(denial),
            Verdict::Failed(failure) => Reason::Failed(failure),
        };
        if let Some(result) = reason.detail().and_then(ConnectResult::of) {
            let published = self.source.published;
            self.shared.telemetry.connected(published, result);
        }
        match self.shared.egress.choose() {
            Ok(other) if reason.code() == Code::EgressUnavailable && other != self.source => {
                self.leave_from(other);
                Ok(())
            }
            Ok(_) | Err(_) => Err(reason),
        }
    }

    fn leave_from(&mut self, source: Source) {
        self.source = source;
        let record = self.exchange.record();
        (record.address, record.bind) = (Some(source.published), Some(source.bind));
    }

    async fn send(&mut self, permit: Permit, checkout: Checkout<Outgoing>) -> Tried {
        let expectation = match (&self.upload, self.expects_continue) {
            (Some(_), true) => Expectation::Continue,
            (Some(_) | None, _) => Expectation::Nothing,
        };
        let upload = self.upload.clone();
        let mut flight = Flight::begin(self.head.clone(), expectation, upload, permit, checkout);
        let response_timeout = self.call.rules.config.upstream.response_timeout;
        let landed = tokio::select! {
            biased;
            sent = flight.landing() => Some(sent),
            () = silence(self.upload.as_deref(), response_timeout) => None,
            () = self.call.connection.caller_gone() => {
                self.exchange.abandoned(Head::Withheld);
                return Tried::ForNobody(flight);
            }
        };
        match landed {
            Some((Ok(response), checkout)) => {
                let carriage = flight.landed(checkout);
                self.judge(response, carriage).await
            }
            Some((Err(error), checkout)) => {
                let carriage = flight.landed(checkout);
                self.broken(error, carriage)
            }
            None => {
                flight.abort(self.exchange);
                Tried::Refused(Reason::Failed(Failure::Timeout(Detail::ResponseTimeout)))
            }
        }
    }

    fn broken(&mut self, error: SendError<Outgoing>, carriage: Carriage) -> Tried {
        if error.unsent.is_some() {
            self.unsent += 1;
            self.reuse = Reuse::Never;
            let Carriage { mut permit, .. } = carriage;
            permit.not_sent();
            if self.unsent < UNSENT_MAX {
                return Tried::Unsent(permit);
            }
            return Tried::Refused(Reason::Failed(Failure::Connect(Detail::ConnectReset)));
        }
        carriage.abort(self.exchange);
        match self.upload.as_ref().and_then(|upload| upload.fault()) {
            Some(_) if self.call.connection.is_caller_gone() => {
                self.exchange.abandoned(Head::Withheld);
                Tried::Left
            }
            Some(Fault::Cut) => {
                Tried::Refused(Reason::Denied(Denial::bad_request(Detail::RequestBodyCut)))
            }
            Some(Fault::Stalled) => {
                Tried::Refused(Reason::Denied(Denial::bad_request(Detail::CallerStalled)))
            }
            None if error.error.is_parse() => {
                Tried::Broken(Failure::Reset(Detail::ResponseUnparsable))
            }
            None => Tried::Broken(Failure::Reset(Detail::ResponseReset)),
        }
    }

    /// Judges the head of an answer; holds one of 400 or above until its code is known.
    async fn judge(&mut self, mut response: Response<Incoming>, mut carriage: Carriage) -> Tried {
        let status = response.status();
        let said = Concurrency::read(response.headers());
        self.exchange.answered(status, said);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            carriage.abort(self.exchange);
            return Tried::Refused(Reason::Failed(Failure::Reset(Detail::ResponseUnparsable)));
        }
        if status.as_u16() < 400 {
            carriage.permit.answered(said.limit, said.running);
            self.forget_upload();
            return Tried::Answered(response, carriage);
        }
        let held = hold(response.body_mut()).await;
        if held.end == HeldEnd::Broken {
            carriage.abort(self.exchange);
            return Tried::Broken(Failure::Reset(Detail::ResponseCut));
        }
        let code = knowledge::code_of(response.headers())
            .or_else(|| held.error.as_ref().map(|error| error.code.as_str()))
            .filter(|code| knowledge::is_code(code));
        let cause = knowledge::cause(status, code);
        let id = held.error.as_ref().and_then(|error| error.id.as_deref());
        self.exchange
            .failed_at_kintone(cause, code, id.filter(|id| id.len() <= 64));
        if status == StatusCode::TOO_MANY_REQUESTS && code == Some(TOO_MANY_RUNNING) {
            return Tried::TooManyRunning(response, held, carriage);
        }
        carriage.permit.answered(said.limit, said.running);
        self.forget_upload();
        Tried::Failed(response, held, carriage, cause)
    }

    fn forget_upload(&self) {
        if let Some(upload) = &self.upload {
            upload.forget();
        }
    }

    /// kintone refused the call before it did anything: it waits and goes again, while its body is
    /// at hand and its wait allows. If the wait ends there, kintone's own refusal passes on.
    async fn wait_for_room(
        &mut self,
        response: Response<Incoming>,
        held: Held,
        carriage: Carriage,
    ) -> Result<Permit, End> {
        let said = Concurrency::read(response.headers());
        let Carriage {
            permit,
            checkout,
            upload,
        } = carriage;
        self.exchange.record().permit = Some(permit.held());
        let refused = permit.refused(said.limit, said.running);
        if held.end == HeldEnd::Whole && upload.as_ref().is_none_or(|upload| upload.is_whole()) {
            checkout.give_back();
        }
        let passed = |response, held: Held| {
            let (held, cause) = (held.chunks, Some(Cause::AccountConcurrency));
            End::Deliver(Delivered {
                response,
                held,
                carriage: None,
                cause,
            })
        };
        if !upload.is_none_or(|upload| upload.is_replayable()) {
            return Err(passed(response, held));
        }
        self.exchange.phase(Phase::Waiting);
        let since = Instant::now();
        let again = tokio::select! {
            biased;
            again = refused.again() => Some(again),
            () = self.call.connection.caller_gone() => None,
        };
        let record = self.exchange.record();
        record.queued = Some(record.queued.unwrap_or_default() + since.elapsed());
        match again {
            Some(Ok(permit)) => {
                record.retries += 1;
                (record.cause, record.kintone_code, record.kintone_id) = (None, None, None);
                let telemetry = &self.shared.telemetry;
                telemetry.retried(Retry::AccountConcurrency);
                let account = &self.call.destination.account;
                telemetry.rejection_absorbed(account, Rejection::ConcurrencyAdmission);
                Ok(permit)
            }
            Some(Err(_)) => Err(passed(response, held)),
            None => {
                self.exchange.abandoned(Head::Withheld);
                Err(End::Left)
            }
        }
    }
}

/// Whether the caller asks kintone to look at the head before the body goes (RFC 9110 section
/// 10.1.1).
fn expects_continue(head: &Parts) -> bool {
    head.version >= Version::HTTP_11
        && head
            .headers
            .get(header::EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
