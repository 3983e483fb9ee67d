//! A call's way to kintone: admitted, connected, sent; and again where that is safe.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, Version};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::Instant;

use super::attempt::Tried;
use super::budget;
use super::call::Call;
use super::carriage::Carriage;
use super::elsewhere::Elsewhere;
use super::exchange::{Exchange, Head};
use super::fault::Unreadable;
use super::flight::Flight;
use super::headers::{self, Framing};
use super::held::{Held, HeldEnd};
use super::leftover;
use super::newborn::Newborn;
use super::reply::{After, Reason};
use super::shared::Shared;
use super::upload::Upload;
use crate::egress::{Reuse, Source};
use crate::kintone::answer::{Coding, Concurrency};
use crate::kintone::call::{Meaning, Repeat, Subject};
use crate::model::{AppId, Cause, Denial, Detail, Failure, Published};
use crate::quota::{Charge, Permit};
use crate::telemetry::live::Phase;
use crate::telemetry::{Rejection, Retry};

/// Where a journey ends.
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once a call, never kept"
)]
pub(crate) enum End {
    /// An answer of kintone's for the caller.
    Deliver(Delivered),
    /// kintone's edge refused it at every address of this host that may be better than others:
    /// another host may have one that is accepted.
    Elsewhere(Box<Onward>),
    /// The gateway's word.
    Refuse(Reason, After),
    /// The caller has left a call that is at kintone: its end is awaited all the same.
    ForNobody(Flight),
    /// The caller has left, and nothing is under way for it.
    Left,
}

/// A call that leaves this host after kintone's edge refused it here.
pub(crate) struct Onward {
    pub(crate) elsewhere: Elsewhere,
    /// Its head as the caller sent it.
    pub(crate) head: Box<Parts>,
    /// Its body, all of which is at hand.
    pub(crate) upload: Option<Arc<Upload>>,
    /// The caller's answer if no other host takes the call.
    pub(crate) refusal: Delivered,
}

/// An answer of kintone's, as far as it was read.
pub(crate) struct Delivered {
    pub(crate) response: Response<Incoming>,
    /// The beginning of its body, where that was held.
    pub(crate) held: Vec<Frame<Bytes>>,
    /// What it still holds; `None` if kintone refused it at admission.
    pub(crate) carriage: Option<Carriage>,
    /// Why kintone failed it.
    pub(crate) cause: Option<Cause>,
    /// What becomes of the caller's connection: an answer that came before all of the request's
    /// body closes it.
    pub(crate) after: After,
    /// Waits for the name of the cursor that it makes.
    pub(crate) newborn: Option<Newborn>,
}

/// A call on its way, with what is needed to send it again.
pub(crate) struct Journey<'a> {
    pub(super) shared: &'a Shared,
    pub(super) call: &'a Call,
    pub(super) exchange: &'a mut Exchange,
    pub(super) head: Parts,
    pub(super) expects_continue: bool,
    /// Gets the 1xx answers; one of HTTP/1.0 gets none.
    pub(super) hears_interim: bool,
    pub(super) meaning: Meaning,
    pub(super) upload: Option<Arc<Upload>>,
    pub(super) source: Source,
    pub(super) reuse: Reuse,
    pub(super) repeat: Repeat,
    pub(super) unsent: u32,
    /// The addresses at which kintone's edge refused it.
    pub(super) tried: Vec<Published>,
    /// Its head as the caller sent it, where another host may be handed the call.
    pub(super) original: Option<Box<Parts>>,
    /// What it counts for; `None`: for nothing.
    pub(super) charge: Option<Arc<Charge>>,
    /// How a first try failed whose outcome is unknown.
    unknown: Option<Failure>,
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
        let config = &call.rules.config;
        let received = head.version;
        let framing = Framing::of(&head.headers, received, &body);
        headers::to_kintone(&mut head.headers, &call.destination.host, received, framing);
        let (path, query) = (head.uri.path(), head.uri.query());
        let meaning = Meaning::read(&head.method, &head.headers, path, query);
        let record = exchange.record();
        record.app = meaning.app();
        record.address = Some(source.published);
        record.bind = Some(source.bind);
        let upload = (!body.is_end_stream()).then(|| {
            let (keep_max, stall_timeout) = (config.upstream.replay, config.limits.stall_timeout);
            Upload::new(body, keep_max, stall_timeout, meaning.body_reader())
        });
        let charge = budget::charge(shared, call, meaning.counted, exchange);
        let expects_continue = upload.is_some() && leftover::expects_continue(&head);
        if !expects_continue {
            headers::strip_expectation(&mut head.headers);
        }
        head.uri = if call.connection.is_about_server() {
            headers::asterisk_form()
        } else {
            headers::origin_form(&head.uri)
        };
        head.version = Version::HTTP_11;
        Self {
            shared,
            call,
            exchange,
            head,
            expects_continue,
            hears_interim: received >= Version::HTTP_11,
            upload,
            source,
            reuse: if meaning.repeat == Repeat::Safe {
                Reuse::Any
            } else {
                Reuse::Fresh
            },
            repeat: meaning.repeat,
            charge,
            meaning,
            unsent: 0,
            tried: Vec::new(),
            original: None,
            unknown: None,
        }
    }

    /// The same for a call that can be handed to another host, as the caller sent it.
    pub(crate) fn able_to_leave(self, original: Option<Box<Parts>>) -> Self {
        Self { original, ..self }
    }

    /// Travels to the end.
    pub(crate) async fn travel(mut self) -> End {
        let drain = self.shared.drain.clone();
        let went = tokio::select! {
            biased;
            went = self.go() => went,
            () = drain.cutting() => Ok(End::Refuse(self.cut(), After::Close)),
        };
        let mut end = match went {
            Ok(End::Refuse(reason, after)) | Err(End::Refuse(reason, after)) => {
                End::Refuse(self.truth(reason), after)
            }
            Ok(end) | Err(end) => end,
        };
        self.note_app(&mut end);
        self.settle_charge();
        let Some(upload) = self.upload.take() else {
            return end;
        };
        self.exchange.record().bytes_in = upload.received();
        match end {
            End::Deliver(delivered) if !upload.is_whole() => End::Deliver(Delivered {
                after: After::Close,
                ..delivered
            }),
            End::Refuse(reason, _) => End::Refuse(reason, self.settle(upload)),
            End::Deliver(_) | End::Elsewhere(_) | End::ForNobody(_) | End::Left => end,
        }
    }

    /// What becomes of the caller's connection when its call is refused.
    fn settle(&self, upload: Arc<Upload>) -> After {
        if self.expects_continue && upload.received() == 0 {
            return After::Close;
        }
        match upload.leftover() {
            Ok(Some(rest)) => leftover::discard(rest),
            Ok(None) => After::Keep,
            Err(Unreadable) => After::Close,
        }
    }

    /// Writes down the app of the call. An answer that makes a cursor is to remember it.
    fn note_app(&mut self, end: &mut End) {
        let app = self.app();
        self.exchange.record().app = app;
        if let (End::Deliver(delivered), Some(app), true) = (end, app, self.meaning.makes_cursor) {
            delivered.newborn = self.newborn(&delivered.response, app);
        }
    }

    /// The app that the call turned out to be about, if it is one and only one.
    fn app(&self) -> Option<AppId> {
        let subject = match &self.upload {
            Some(upload) => upload.subject(&self.meaning),
            None => self.meaning.subject(None),
        };
        match subject {
            Subject::Apps(apps) => apps.only(),
            Subject::Cursor(id) => {
                let (cursors, account) = (&self.shared.cursors, &self.call.destination.account);
                cursors.app(account, &id, Instant::now().into_std())
            }
        }
    }

    fn newborn(&self, response: &Response<Incoming>, app: AppId) -> Option<Newborn> {
        let account = self.call.destination.account.clone();
        let coding = Coding::of(response.headers());
        response
            .status()
            .is_success()
            .then(|| Newborn::new(Arc::clone(&self.shared.cursors), account, app, coding))
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
                        after: After::Keep,
                        newborn: None,
                    }));
                }
                Tried::Failed(response, held, carriage, cause) => {
                    let (held, carriage, cause) = (held.frames, Some(carriage), Some(cause));
                    return Ok(End::Deliver(Delivered {
                        response,
                        held,
                        carriage,
                        cause,
                        after: After::Keep,
                        newborn: None,
                    }));
                }
                Tried::TooManyRunning(response, held, carriage) => {
                    permit = self.wait_for_room(response, held, carriage).await?;
                }
                Tried::TurnedAway(response, held, carriage) => {
                    permit = self.go_around(response, held, carriage)?;
                }
                Tried::Unsent(unsent) => {
                    self.shared.telemetry.retried(Retry::StaleConnection);
                    permit = unsent;
                }
                Tried::Lapsed(lapsed) => {
                    self.shared.telemetry.retried(Retry::LoanEnded);
                    permit = self.renew(lapsed).await?;
                }
                Tried::Broken(failure) if self.may_repeat() => {
                    self.unknown = Some(failure);
                    self.exchange.returned();
                    self.shared.telemetry.retried(Retry::Reset);
                    self.exchange.record().retries += 1;
                    self.repeat = Repeat::Unsafe;
                    self.reuse = Reuse::Never;
                    permit = self.admit().await?;
                }
                Tried::Broken(failure) => {
                    return Ok(End::Refuse(Reason::Failed(failure), After::Keep));
                }
                Tried::Refused(reason) => return Ok(End::Refuse(reason, After::Keep)),
                Tried::ForNobody(flight) => return Ok(End::ForNobody(flight)),
                Tried::Left => return Ok(End::Left),
            }
        }
    }

    /// The drain has ended it.
    fn cut(&self) -> Reason {
        if self.exchange.is_sent() {
            Reason::Failed(Failure::Timeout(Detail::DrainCut))
        } else {
            Reason::Denied(Denial::Draining)
        }
    }

    /// A refusal says that nothing was sent, which is not true of a second try: then the failure of
    /// the first one is what the caller must know.
    fn truth(&self, reason: Reason) -> Reason {
        match (self.unknown, reason) {
            (Some(first), Reason::Denied(_) | Reason::Options(_)) => Reason::Failed(first),
            (Some(first), Reason::Failed(failure)) if !failure.is_outcome_unknown() => {
                Reason::Failed(first)
            }
            (Some(_) | None, reason) => reason,
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
        self.exchange.returned();
        self.exchange.record().permit = Some(permit.held());
        let refused = permit.refused(said.limit, said.running);
        self.not_counted();
        if held.end == HeldEnd::Whole && upload.as_ref().is_none_or(|upload| upload.is_whole()) {
            self.exchange.kept(checkout.give_back());
        }
        let passed = |response, held: Held| {
            let (held, cause) = (held.frames, Some(Cause::AccountConcurrency));
            End::Deliver(Delivered {
                response,
                held,
                carriage: None,
                cause,
                after: After::Keep,
                newborn: None,
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
