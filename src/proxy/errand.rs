//! The way of a request to another host of the fleet: connected, told, sent; and the head of what
//! comes back.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri, uri};
use hyper::body::Incoming;
use hyper::ext::on_informational;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::call::Call;
use super::elsewhere::{Elsewhere, Owner};
use super::exchange::{Exchange, Head};
use super::handed::{About, Handed, left_of};
use super::handing::{BodyEnd, Handing, Load, Progress};
use super::headers::{self, Framing};
use super::leftover;
use super::options::Options;
use super::reply::Reason;
use super::shared::Shared;
use super::wire;
use crate::handover::{Checkout, Reuse, SendFailure, Unreached};
use crate::kintone::call::{Meaning, Repeat};
use crate::model::{Denial, Detail, Failure, HostName, Mode};
use crate::quota::Terms;
use crate::server::Connection;
use crate::telemetry::HandedResult;
use crate::telemetry::live::Phase;

/// A call on its way to another host.
pub(crate) struct Errand<'a> {
    shared: &'a Shared,
    call: &'a Call,
    exchange: &'a mut Exchange,
    elsewhere: Elsewhere,
    progress: Arc<Progress>,
    reuse: Reuse,
    /// How the call came.
    version: http::Version,
    about: About,
    /// Who has it, or may have it.
    with: Option<HostName>,
}

/// What an errand brings back.
pub(crate) struct Returned {
    pub(crate) response: Response<Incoming>,
    pub(crate) checkout: Checkout<Handing>,
    /// The caller's body, which may still be on its way.
    pub(crate) progress: Arc<Progress>,
}

/// Why it brings nothing back.
pub(crate) enum Fruitless {
    /// No other host has taken it: nothing of it was sent.
    Untaken(Reason, Arc<Progress>),
    /// The gateway's word on what has become of it.
    Refused(Reason, Arc<Progress>),
    /// The caller has left.
    Left,
}

impl<'a> Errand<'a> {
    /// Makes a caller's request into one to another host, and sets out.
    ///
    /// # Errors
    /// [`Fruitless`]; the record of the call says what is to be told of it.
    pub(crate) async fn run(
        shared: &'a Shared,
        call: &'a Call,
        exchange: &'a mut Exchange,
        elsewhere: Elsewhere,
        head: Parts,
        body: Load,
    ) -> Result<Returned, Fruitless> {
        exchange.phase(Phase::Handed);
        let (path, query) = (head.uri.path(), head.uri.query());
        let meaning = Meaning::read(&head.method, &head.headers, path, query);
        let (version, about) = (head.version, about(call, &head));
        let (request, progress) = outgoing(call, head, body);
        let errand = Self {
            shared,
            call,
            exchange,
            elsewhere,
            progress,
            reuse: match meaning.repeat {
                Repeat::Safe if call.mode != Mode::Tunnel => Reuse::Any,
                Repeat::Safe | Repeat::Unsafe => Reuse::Fresh,
            },
            version,
            about,
            with: None,
        };
        errand.go(request).await
    }

    async fn go(mut self, request: Request<Handing>) -> Result<Returned, Fruitless> {
        let (shared, call) = (self.shared, self.call);
        let sent = tokio::select! {
            biased;
            sent = self.send(request) => sent.map_err(Some),
            () = caller_left(call) => Err(None),
            () = shared.drain.cutting() => Err(Some(Reason::Denied(Denial::Draining))),
        };
        let count = |result| {
            if let Some(host) = &self.with {
                shared.telemetry.handed(host.as_str(), result);
            }
        };
        let reason = match sent {
            Ok((response, checkout)) => {
                count(HandedResult::Answered);
                return Ok(Returned {
                    response,
                    checkout,
                    progress: self.progress,
                });
            }
            Err(None) => {
                count(HandedResult::CallerGone);
                if self.with.is_none() {
                    self.exchange.abandoned(Head::Withheld);
                }
                return Err(Fruitless::Left);
            }
            Err(Some(reason)) => reason,
        };
        // Nobody knows what the other host has logged of it: here it is told.
        self.exchange.told_here();
        let is_lost = self.with.is_some();
        let reason = match (reason, self.progress.end()) {
            (Reason::Failed(_), BodyEnd::Cut) => {
                Reason::Denied(Denial::bad_request(Detail::RequestBodyCut))
            }
            (Reason::Denied(Denial::Draining), _) if is_lost => {
                Reason::Failed(Failure::Timeout(Detail::DrainCut))
            }
            (reason, _) => reason,
        };
        if !is_lost {
            return Err(Fruitless::Untaken(reason, self.progress));
        }
        count(HandedResult::Lost);
        Err(Fruitless::Refused(reason, self.progress))
    }

    /// Gives the request to the first owner that takes it.
    async fn send(
        &mut self,
        mut request: Request<Handing>,
    ) -> Result<(Response<Incoming>, Checkout<Handing>), Reason> {
        loop {
            let (owner, mut checkout) = self.reach().await.map_err(Reason::Denied)?;
            let (handed, said) = self.word(&owner);
            handed.write(&said, request.headers_mut());
            self.with = Some(owner.host.clone());
            self.exchange.told_elsewhere();
            let limit = self.longest_silence();
            let sent = tokio::select! {
                biased;
                sent = checkout.send(request) => sent,
                () = silence(&self.progress, limit) => {
                    return Err(Reason::Failed(Failure::Timeout(Detail::PeerLost)));
                }
            };
            request = match sent {
                Ok(response) => return Ok((response, checkout)),
                Err(SendFailure::Lost(error)) => {
                    tracing::debug!(peer = %owner.host, ?error, "a call that was handed over is lost");
                    return Err(Reason::Failed(Failure::Reset(Detail::PeerLost)));
                }
                Err(SendFailure::Unsent(request)) => *request,
            };
            self.with = None;
            self.exchange.told_here();
            if self.reuse == Reuse::Never {
                // The new connection was closed too, with nothing sent.
                let line = self.elsewhere.line;
                let detail = Detail::PeerUnreachable;
                return Err(Reason::Denied(Denial::LineUnavailable { line, detail }));
            }
            self.reuse = Reuse::Never;
        }
    }

    /// A connection to the first owner that can be reached.
    async fn reach(&self) -> Result<(Owner, Checkout<Handing>), Denial> {
        let mut denial = self.elsewhere.denial(&Unreached::Unknown);
        let Some(peers) = &self.shared.peers else {
            return Err(denial);
        };
        for owner in &self.elsewhere.owners {
            let reached = peers.checkout(owner.host.as_str(), self.reuse, Handing::Nothing);
            match reached.await {
                Ok(checkout) => return Ok((owner.clone(), checkout)),
                Err(why) => {
                    let telemetry = &self.shared.telemetry;
                    telemetry.handed(owner.host.as_str(), HandedResult::Unreachable);
                    denial = self.elsewhere.denial(&why);
                }
            }
        }
        Err(denial)
    }

    /// What the other host is told.
    fn word(&self, owner: &Owner) -> (Handed, Options) {
        let call = self.call;
        let rule = call.identity.caller.rule();
        let handed = Handed {
            id: self.exchange.known().id,
            caller: rule.name.clone(),
            credential: call.identity.credential,
            client: call.connection.client(),
            mode: call.mode,
            version: self.version,
            address: owner.address,
            about: self.about,
        };
        let said = Options {
            priority: Some(call.identity.priority(&call.options)),
            max_wait: Some(left_of(self.longest_wait(), self.exchange.elapsed())),
            ..call.options.clone()
        };
        (handed, said)
    }

    fn longest_wait(&self) -> Duration {
        Terms::of(&self.call.rules.config, &self.call.ask(1)).wait
    }

    /// How long the other host may take for a head, since the body last moved: it ends a call itself
    /// much sooner, so that this bounds only what a host does that is stopped.
    fn longest_silence(&self) -> Duration {
        let upstream = &self.call.rules.config.upstream;
        self.longest_wait() + upstream.connect_timeout * 2 + upstream.response_timeout
    }
}

/// Completes when the caller has left.
async fn caller_left(call: &Call) {
    match call.mode {
        Mode::Forward | Mode::Inspect => call.connection.caller_gone().await,
        Mode::Tunnel => call.connection.tunnel_abandoned().await,
    }
}

/// Completes when neither side has said anything for `limit`.
async fn silence(progress: &Progress, limit: Duration) {
    let mut since = Instant::now();
    loop {
        tokio::time::sleep_until(since + limit).await;
        let moved = progress.moved();
        if moved <= since {
            return;
        }
        since = moved;
    }
}

/// The request to another host, which is told the rest when it is reached.
fn outgoing(call: &Call, mut head: Parts, body: Load) -> (Request<Handing>, Arc<Progress>) {
    let framing = Framing::of(&head.headers, head.version, &body);
    let expects_continue = leftover::expects_continue(&head);
    let (open, gate) = match expects_continue {
        true => {
            let (open, gate) = oneshot::channel();
            (Some(open), Some(gate))
        }
        false => (None, None),
    };
    let (body, progress) = Handing::of(body, gate);
    let host = &call.destination.host;
    headers::to_peer(&mut head.headers, host, head.version, framing);
    if progress.end() == BodyEnd::Whole || !expects_continue {
        headers::strip_expectation(&mut head.headers);
    }
    let hears_interim = head.version >= http::Version::HTTP_11;
    head.uri = target(call, &head.uri);
    head.version = http::Version::HTTP_11;
    let mut request = Request::from_parts(head, body);
    let listener = hears_interim.then(|| Arc::downgrade(&call.connection));
    pass_interim_on(&mut request, open, listener);
    (request, progress)
}

/// What the call is about, which its target to another host cannot show.
fn about(call: &Call, head: &Parts) -> About {
    let is_asterisk = || head.uri.path() == "*" || call.connection.is_about_server();
    match head.method == Method::OPTIONS && is_asterisk() {
        true => About::Server,
        false => About::Target,
    }
}

/// The request target: absolute form, or the CONNECT's.
fn target(call: &Call, uri: &Uri) -> Uri {
    let mut parts = uri::Parts::default();
    let host = call.destination.host.as_str();
    if call.mode == Mode::Tunnel {
        parts.authority = format!("{host}:443").parse().ok();
    } else {
        parts.scheme = Some(uri::Scheme::HTTPS);
        parts.authority = host.parse().ok();
        let path = uri.path_and_query().filter(|path| path.path() != "*");
        let path = path.cloned();
        parts.path_and_query = path.or_else(|| Some(uri::PathAndQuery::from_static("/")));
    }
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// Lets the body go when the other host says 100, and passes every other 1xx answer on as it comes.
fn pass_interim_on(
    request: &mut Request<Handing>,
    open: Option<oneshot::Sender<()>>,
    listener: Option<Weak<Connection>>,
) {
    let open = Mutex::new(open);
    on_informational(request, move |response| {
        let status = response.status();
        if status != StatusCode::CONTINUE {
            if let Some(caller) = listener.as_ref().and_then(Weak::upgrade) {
                let mut headers = response.headers().clone();
                headers::from_peer(&mut headers, headers::Trailers::Dropped);
                caller.inform(&wire::interim(status, &headers));
            }
        } else if let Some(open) = open.lock().ok().and_then(|mut open| open.take()) {
            // Nobody listens when the body is already on its way.
            let _ = open.send(());
        }
    });
}
