//! The life of a call: read once, judged in one order, admitted in one place, carried.
//!
//! The order of judgement is the contract's: framing (400), authentication (407), the destination's
//! name and port (403), the caller's rights (403), whether an address is usable (503), whether
//! kintone serves the account (503, 403), the quota (429); only then is a name looked up or anything dialled. `judge` does the first four, for live
//! calls and for `explain`; `journey` and `tunnel` do the rest, each with the one `admit` of its way
//! in.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::config::Config;
use crate::drain::{Drain, Stage};
use crate::egress::Source;
use crate::kintone::call::template;
use crate::kintone::cursor::Cursors;
use crate::model::{Account, Client, Denial, Detail, Failure, Mode};
use crate::notify::Feed;
use crate::quota::{Days, Quotas};
use crate::server::{Connection, Parting};
use crate::telemetry::Telemetry;
use crate::tls::Authority;

pub use answer::Answer;
pub use call::CallerLeft;
pub use handing::Handing;
pub use inspect::{Inner, InnerBody};
pub use probe::Probed;
pub use shared::WaysOut;
pub use upload::Outgoing;

pub(crate) use elsewhere::{Owner, owners};
pub(crate) use identity::{Identity, Proof};
pub(crate) use judge::{Asked, Judged, Place, Step, Way, judge};
pub(crate) use message::Language;
pub(crate) use options::{Options, OptionsError};
pub(crate) use reply::Reason;
pub(crate) use request::{Scheme, Target};
pub(crate) use shared::Rules;

use call::{Call, new_id, refuse};
use exchange::Exchange;
use inside::Inside;
use notes::{language_of, note, write_down};
use pages::{help_page, own_page, shown, trust_page};
use reply::{After, Story};
use shared::Shared;

mod admission;
mod ahead;
mod allowlist;
mod answer;
mod attempt;
mod budget;
mod call;
mod carriage;
mod connect;
mod dispatch;
mod edge;
mod elsewhere;
mod errand;
mod exchange;
mod fault;
mod flight;
mod forward;
mod gate;
mod handed;
mod handing;
mod handover;
mod headers;
mod held;
mod help;
mod hint;
mod identity;
mod inner;
mod inside;
mod inspect;
mod journey;
mod judge;
mod known;
mod leftover;
mod me;
mod message;
mod moment;
mod newborn;
mod notes;
mod options;
mod pages;
mod passage;
mod probe;
mod receiver;
mod reception;
mod relay;
mod reply;
mod request;
mod returning;
mod shared;
mod tunnel;
mod upload;
mod wire;

/// The proxy. Clones are the same one.
#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy under `config`, which `authority` is of.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        authority: Option<Arc<Authority>>,
        quotas: Quotas,
        days: Days,
        WaysOut { egress, peers }: WaysOut,
        telemetry: Arc<Telemetry>,
        drain: Drain,
    ) -> Self {
        let rules = ArcSwap::new(Rules::new(config, authority, None));
        Self {
            shared: Arc::new(Shared {
                rules,
                quotas,
                days,
                egress,
                telemetry,
                drain,
                cursors: Arc::new(Cursors::default()),
                peers,
                feed: OnceLock::new(),
            }),
        }
    }

    /// Calls that begin from here on are judged by `config`, which `authority` is of.
    pub fn reload(&self, config: Arc<Config>, authority: Option<Arc<Authority>>) {
        let before = self.shared.rules.load();
        let rules = Rules::new(config, authority, Some(&before));
        self.shared.rules.store(rules);
    }

    /// Tells `feed` of each call that ends from here on; the first one stays.
    pub fn tell(&self, feed: Feed) {
        let _ = self.shared.feed.set(feed);
    }

    /// The authority in use.
    #[must_use]
    pub fn authority(&self) -> Option<Arc<Authority>> {
        self.shared.rules.load().authority.clone()
    }

    /// Answers one request of a caller's connection; `inner` answers those inside, if it is one to
    /// inspect.
    ///
    /// # Errors
    /// [`CallerLeft`] when nobody waits for the answer any more.
    pub async fn handle(
        self,
        inner: Arc<Inner>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallerLeft> {
        let shared = &self.shared;
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        let connection = head
            .extensions
            .remove::<Arc<Connection>>()
            .ok_or(CallerLeft)?;
        let mut exchange = Exchange::open(shared, new_id(), connection.client());
        note(&mut exchange, &head);
        let rules = shared.rules.load_full();
        let language = language_of(&head);
        let asked = Asked {
            head: &head,
            fault: connection.head_fault(),
            place: Place::Proxy,
            proof: Proof::Headers(&head.headers),
            client: connection.client(),
            stage: shared.drain.stage(),
        };
        match judge(&rules, &asked, |step| write_down(&mut exchange, &step)) {
            Ok(Way::Call(judged)) => {
                let mode = judged.mode;
                let call = Call::new(rules, connection, judged, language);
                match mode {
                    Mode::Forward => dispatch::carry(shared, &call, head, body, exchange).await,
                    Mode::Tunnel => {
                        dispatch::open(shared, call, (head, body), on_upgrade, exchange).await
                    }
                    Mode::Inspect => Ok(inspect::open(
                        shared, &call, &head, on_upgrade, exchange, &inner,
                    )),
                }
            }
            Ok(Way::Ready) => Ok(self.ready(exchange)),
            Ok(Way::Trust) => Ok(trust_page(&rules, exchange)),
            Ok(Way::Help) => Ok(help_page(&rules, &head, language, exchange)),
            Ok(Way::Me(identity, options)) => {
                let page = me::page(shared, &rules, &identity, &options, asked.client, language);
                shown(exchange);
                Ok(own_page(page, "application/json;charset=utf-8"))
            }
            Err((reason, after)) => {
                let after = match after {
                    After::Keep => leftover::settle(&head, body),
                    After::Close => After::Close,
                };
                Ok(refuse(&mut exchange, reason, language, after).map(Answer::whole))
            }
        }
    }

    /// Answers one request inside an inspected connection: judged by the rules that hold now, and
    /// carried as in forward.
    ///
    /// # Errors
    /// [`CallerLeft`] when nobody waits for the answer any more.
    pub async fn handle_inside(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallerLeft> {
        let shared = &self.shared;
        let (mut head, body) = request.into_parts();
        let extensions = &mut head.extensions;
        let connection = extensions.remove::<Arc<Connection>>().ok_or(CallerLeft)?;
        let inside = extensions.remove::<Arc<Inside>>().ok_or(CallerLeft)?;
        let mut exchange = Exchange::open(shared, new_id(), connection.client());
        note(&mut exchange, &head);
        exchange.record().path = Some(template(head.uri.path()));
        let rules = shared.rules.load_full();
        let language = language_of(&head);
        let proved = inside.proved(&rules);
        let asked = Asked {
            head: &head,
            fault: connection.head_fault(),
            place: inside.place(),
            proof: proved.as_ref().map_or_else(|| inside.proof(), Proof::Known),
            client: connection.client(),
            stage: shared.drain.stage(),
        };
        match judge(&rules, &asked, |step| write_down(&mut exchange, &step)) {
            Ok(Way::Call(judged)) => {
                if proved.is_none() {
                    inside.prove(&rules, &judged);
                }
                let mode = rules.mode_of_connect(&judged.identity, &judged.destination);
                let call = Call::new(rules, connection, judged, language);
                let mut answer = dispatch::carry(shared, &call, head, body, exchange).await;
                if let (Mode::Forward | Mode::Tunnel, Ok(answer)) = (mode, &mut answer) {
                    // It is not to be inspected any more: the caller's next connection will not be.
                    answer.extensions_mut().insert(Parting);
                }
                answer
            }
            // The gateway has no pages there: the path is kintone's.
            Ok(Way::Ready | Way::Trust | Way::Help | Way::Me(..)) => Err(CallerLeft),
            Err((reason, after)) => {
                let after = match after {
                    After::Keep => leftover::settle(&head, body),
                    After::Close => After::Close,
                };
                Ok(refuse(&mut exchange, reason, language, after).map(Answer::whole))
            }
        }
    }

    /// Answers one request of another host of the fleet, which hands a call over.
    ///
    /// # Errors
    /// [`CallerLeft`] when nobody waits for the answer any more.
    pub async fn handle_handed(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, CallerLeft> {
        reception::take(&self.shared, request).await
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
        let mut exchange = Exchange::open(&self.shared, new_id(), client);
        let reason = Reason::Denied(Denial::BadRequest { status, detail });
        wire::to_bytes(&refuse(&mut exchange, reason, Language::En, After::Close))
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

    /// Asks `account` whether it takes `source`, which may be an address that is planned. It takes a
    /// permit like any call, and does not wait for one.
    pub async fn probe(&self, account: &Account, source: Source) -> Probed {
        probe::probe(&self.shared, account, source).await
    }

    /// For load balancers that can only look at the proxy's own port.
    fn ready(&self, mut exchange: Exchange) -> Response<Answer> {
        let unknown = self.shared.quotas.unknown_for();
        let verdict = match (self.shared.drain.stage(), self.shared.egress.choose()) {
            (Stage::Serving, Ok(_)) if unknown.is_some() => {
                Err(Denial::Overloaded(Detail::EarlierCalls))
            }
            (Stage::Serving, Ok(_)) => Ok(()),
            (Stage::Serving, Err(denial)) => Err(denial),
            (Stage::Announced | Stage::Stopping | Stage::Cutting, _) => Err(Denial::Draining),
        };
        match verdict {
            Ok(()) => {
                shown(exchange);
                let page = Bytes::from_static(b"ready\n");
                own_page(page, "text/plain;charset=utf-8")
            }
            Err(denial) => {
                let reason = Reason::Denied(denial);
                refuse(&mut exchange, reason, Language::En, After::Keep).map(Answer::whole)
            }
        }
    }
}
