//! One try of a call: connected, sent, its answer judged.

use std::sync::Arc;

use http::{Response, StatusCode};
use hyper::body::Incoming;

use super::carriage::Carriage;
use super::elsewhere::source;
use super::exchange::Head;
use super::fault::Fault;
use super::flight::{Expectation, Flight, silence};
use super::headers;
use super::held::{Held, HeldEnd, hold};
use super::journey::Journey;
use super::reply::Reason;
use super::upload::Outgoing;
use crate::egress::{Arrival, Checkout, ConnectError, Fence, Reuse, SendError, Source, Verdict};
use crate::kintone::answer::{
    self as knowledge, Coding, Concurrency, Edge, Said, TOO_MANY_RUNNING,
};
use crate::kintone::call::OTHER;
use crate::model::{Cause, Code, Denial, Detail, Failure};
use crate::quota::Permit;
use crate::telemetry::ConnectResult;
use crate::telemetry::live::Phase;

/// How often a request is handed to a connection that turns out to be closed: once to one of the
/// pool, once to a new one.
const UNSENT_MAX: u32 = 2;

/// How one try ended.
pub(super) enum Tried {
    Answered(Response<Incoming>, Carriage),
    /// kintone refused it at admission: nothing was executed.
    TooManyRunning(Response<Incoming>, Held, Carriage),
    /// kintone's edge refused the address that it came from: nothing was executed.
    TurnedAway(Response<Incoming>, Held, Carriage),
    /// A failure that kintone reported, with the beginning of its answer.
    Failed(Response<Incoming>, Held, Carriage, Cause),
    /// The connection had been closed before: kintone has seen nothing of it.
    Unsent(Permit),
    /// The loan on which it would have gone has ended: kintone has seen nothing of it.
    Lapsed(Permit),
    /// The outcome is unknown.
    Broken(Failure),
    Refused(Reason),
    ForNobody(Flight),
    Left,
}

impl Journey<'_> {
    /// Tries once, on a permit.
    pub(super) async fn try_once(&mut self, mut permit: Permit) -> Tried {
        let checkout = match self.check_out().await {
            Ok(checkout) => checkout,
            Err(tried) => return tried,
        };
        if self.call.connection.is_caller_gone() {
            self.exchange.kept(checkout.give_back_unused());
            self.exchange.abandoned(Head::Withheld);
            return Tried::Left;
        }
        let fence = permit.sent();
        if fence.is_some() {
            permit.cut_by(Box::new(checkout.severing()));
        }
        self.exchange.sent();
        self.send(permit, checkout, fence).await
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
        match source(self.shared, self.call) {
            Ok(other) if reason.code() == Code::EgressUnavailable && other != self.source => {
                self.leave_from(other);
                Ok(())
            }
            Err(denial) if reason.code() == Code::EgressUnavailable => Err(Reason::Denied(denial)),
            Ok(_) | Err(_) => Err(reason),
        }
    }

    pub(super) fn leave_from(&mut self, source: Source) {
        self.source = source;
        let record = self.exchange.record();
        (record.address, record.bind) = (Some(source.published), Some(source.bind));
    }

    async fn send(
        &mut self,
        permit: Permit,
        checkout: Checkout<Outgoing>,
        fence: Option<Fence>,
    ) -> Tried {
        let expectation = match (&self.upload, self.expects_continue) {
            (Some(_), true) => Expectation::Continue,
            (Some(_) | None, _) => Expectation::Nothing,
        };
        let upload = self.upload.clone();
        let listener = self
            .hears_interim
            .then(|| Arc::downgrade(&self.call.connection));
        let head = self.head.clone();
        let charge = self.charge.clone();
        let mut flight = Flight::begin(
            head,
            expectation,
            upload,
            permit,
            (checkout, fence),
            listener,
            charge,
        );
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

    fn broken(&mut self, error: SendError, carriage: Carriage) -> Tried {
        let fault = self.upload.as_ref().and_then(|upload| upload.fault());
        if error.arrival == Arrival::Never && fault.is_none() {
            let Carriage { mut permit, .. } = carriage;
            permit.not_sent();
            self.not_counted();
            self.exchange.not_sent();
            if permit.has_lapsed() && self.is_at_hand() {
                return Tried::Lapsed(permit);
            }
            self.unsent += 1;
            self.reuse = Reuse::Never;
            if self.unsent < UNSENT_MAX && self.is_at_hand() {
                return Tried::Unsent(permit);
            }
            return Tried::Refused(Reason::Failed(Failure::Connect(Detail::ConnectReset)));
        }
        carriage.abort(self.exchange);
        match fault {
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
            None if error.error.is_some_and(|error| error.is_parse()) => {
                Tried::Broken(Failure::Reset(Detail::ResponseUnparsable))
            }
            None => Tried::Broken(Failure::Reset(Detail::ResponseReset)),
        }
    }

    /// Whether all of the body can be sent again: none of it was read yet, or all that was is kept.
    pub(super) fn is_at_hand(&self) -> bool {
        self.upload
            .as_ref()
            .is_none_or(|upload| upload.received() == 0 || upload.is_replayable())
    }

    /// Judges the head of an answer; holds one of 400 or above until its code is known.
    async fn judge(&mut self, mut response: Response<Incoming>, mut carriage: Carriage) -> Tried {
        let status = response.status();
        let running = Concurrency::read(response.headers());
        self.exchange.answered(status, running);
        if status == StatusCode::SWITCHING_PROTOCOLS {
            carriage.abort(self.exchange);
            return Tried::Refused(Reason::Failed(Failure::Reset(Detail::ResponseUnparsable)));
        }
        if !headers::is_well_framed(response.headers(), response.version()) {
            carriage.abort(self.exchange);
            return Tried::Broken(Failure::Reset(Detail::ResponseUnparsable));
        }
        if status.as_u16() < 400 {
            carriage.permit.answered(running.limit, running.running);
            self.learn(running, knowledge::code_of(response.headers()), None);
            self.forget_upload();
            return Tried::Answered(response, carriage);
        }
        let coding = Coding::of(response.headers());
        let held = hold(response.body_mut(), coding).await;
        if held.end == HeldEnd::Broken {
            carriage.abort(self.exchange);
            return Tried::Broken(Failure::Reset(Detail::ResponseCut));
        }
        let said = held.reader.said(held.end.of_body());
        let named = knowledge::code_of(response.headers());
        let cause = knowledge::cause(status, named, said);
        let (code, id) = match said {
            Said::Error { code, id } => (named.or(Some(code)), id),
            Said::OAuth(_) | Said::NoError | Said::Unreadable => (named, None),
        };
        self.exchange.failed_at_kintone(cause, code, id);
        if cause == Cause::IpNotAllowlisted {
            self.shared.egress.verifier().doubt(self.source);
        }
        let told = self.told_of_account(cause);
        let edge = self.learn(running, code, Some(cause));
        if status == StatusCode::TOO_MANY_REQUESTS && code == Some(TOO_MANY_RUNNING) {
            return Tried::TooManyRunning(response, held, carriage);
        }
        carriage.permit.failed(running.limit, running.running, told);
        if edge == Some(Edge::TurnedAway) {
            return Tried::TurnedAway(response, held, carriage);
        }
        self.forget_upload();
        Tried::Failed(response, held, carriage, cause)
    }

    /// The cause of a failure as far as it tells of the account: that a path is not there, which is
    /// none of kintone's, says nothing about its domain.
    fn told_of_account(&self, cause: Cause) -> Option<Cause> {
        let is_known = self.exchange.known().path != Some(OTHER);
        (cause != Cause::AccountUnknown || is_known).then_some(cause)
    }

    pub(super) fn forget_upload(&self) {
        if let Some(upload) = &self.upload {
            upload.forget();
        }
    }
}
