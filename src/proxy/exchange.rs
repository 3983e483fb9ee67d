//! The record of one call, open as long as the call is: it ends in one log line and the metrics,
//! whatever the end.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::identity::Identity;
use super::known::{KnownCaller, Refusal};
use super::options::Options;
use super::reply::Reason;
use super::shared::Shared;
use crate::egress::Kept;
use crate::kintone::answer::{Concurrency, Edge};
use crate::model::{Account, Cause, Client, Code, Denial, Detail, Mode, Outcome, RequestId};
use crate::notify::Feed;
use crate::notify::sign::{Seen, Sender, Waited};
use crate::telemetry::live::{LiveCall, Phase, Who};
use crate::telemetry::{LimitName, Record};

/// The status of a call whose caller left before the head of its answer (nginx's convention).
const CALLER_LEFT: u16 = 499;

/// One call under way. Dropping it ends the record: as `caller_gone` unless something else was
/// said.
pub(crate) struct Exchange {
    open: Box<Open>,
}

struct Open {
    record: Record,
    started: Instant,
    /// When the first byte of the try that is at kintone was sent.
    sent: Option<Instant>,
    /// How long earlier tries were there.
    upstream: Option<Duration>,
    shared: Arc<Shared>,
    live: LiveCall,
    /// Who calls, once that is known.
    caller: Option<Arc<KnownCaller>>,
    /// Why it was refused, with the figures.
    reason: Option<Reason>,
    /// It is no call of its own, or another host's: nothing is told of it.
    untold: bool,
}

impl Exchange {
    /// Opens the record of a call whose head has just come.
    pub(crate) fn open(shared: &Arc<Shared>, id: RequestId, client: Client) -> Self {
        let started = Instant::now();
        let live = shared.telemetry.live().enter(id, client, started);
        let mut record = Record::new(id);
        record.client = Some(client);
        record.status = Some(CALLER_LEFT);
        let shared = Arc::clone(shared);
        Self {
            open: Box::new(Open {
                record,
                started,
                sent: None,
                upstream: None,
                shared,
                live,
                caller: None,
                reason: None,
                untold: false,
            }),
        }
    }

    /// What is known so far, to add to.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.open.record
    }

    /// What is known so far.
    pub(crate) fn known(&self) -> &Record {
        &self.open.record
    }

    /// Who calls, and what proved it.
    pub(crate) fn identified(&mut self, identity: &Identity) {
        let open = &mut *self.open;
        open.record.caller = Some(identity.caller.rule().name.clone());
        open.record.credential = identity.credential;
        open.caller = Some(Arc::clone(&identity.caller));
    }

    /// What the caller said about the call.
    pub(crate) fn told(&mut self, identity: &Identity, options: &Options) {
        let record = &mut self.open.record;
        record.priority = Some(identity.priority(options));
        record.tenant = options.tenant.clone();
        let purpose = options.purpose.clone();
        record.purpose = purpose.map(|named| identity.caller.purpose(named));
    }

    /// The quota refused it, after that wait.
    pub(crate) fn waited(&mut self, denial: Denial) {
        if let Some(figures) = denial.figures() {
            let queued = &mut self.open.record.queued;
            *queued = Some(queued.unwrap_or_default() + figures.waited);
        }
    }

    /// Where to, by which way in.
    pub(crate) fn destined(&mut self, account: &Account, mode: Mode) {
        let open = &mut *self.open;
        open.record.account = Some(account.clone());
        open.record.mode = Some(mode);
        open.live.set_who(Who {
            caller: open.record.caller.clone(),
            account: Some(account.clone()),
            mode: Some(mode),
            tenant: open.record.tenant.clone(),
        });
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.open.live.set_phase(phase);
    }

    /// The first byte is about to go to kintone.
    pub(crate) fn sent(&mut self) {
        self.open.sent.get_or_insert_with(Instant::now);
        self.phase(Phase::Sent);
    }

    /// Nothing was sent after all: the connection had been closed before.
    pub(crate) fn not_sent(&mut self) {
        self.open.sent = None;
    }

    /// This try is over, and another one may follow: until then kintone has nothing of the call.
    pub(crate) fn returned(&mut self) {
        let open = &mut *self.open;
        if let Some(sent) = open.sent.take() {
            *open.upstream.get_or_insert_default() += sent.elapsed();
        }
    }

    /// kintone's edge turned this try away from its address, and another one follows by another: the
    /// caller sees nothing of it, the customer is to know.
    pub(crate) fn turned_away(&self) {
        let open = &*self.open;
        let feed = open.shared.feed.get().filter(|feed| feed.is_on());
        let (account, address) = (&open.record.account, open.record.address);
        if let (Some(feed), Some(account), Some(address)) = (feed, account, address) {
            feed.tell(Seen::probed(account.clone(), address, Edge::TurnedAway));
        }
    }

    /// Whether kintone has the call, or may have it.
    pub(crate) fn is_sent(&self) -> bool {
        self.open.sent.is_some()
    }

    /// kintone's head has come.
    pub(crate) fn answered(&mut self, status: http::StatusCode, said: Concurrency) {
        let record = &mut self.open.record;
        record.status = Some(status.as_u16());
        record.kintone_running = said.running;
        record.kintone_limit = said.limit;
        self.phase(Phase::Answering);
    }

    /// kintone failed it.
    pub(crate) fn failed_at_kintone(&mut self, cause: Cause, code: Option<&str>, id: Option<&str>) {
        let record = &mut self.open.record;
        record.cause = Some(cause);
        record.kintone_code = code.map(Into::into);
        record.kintone_id = id.map(Into::into);
    }

    /// The gateway refused or failed it.
    pub(crate) fn refused(&mut self, reason: Reason) {
        let record = &mut self.open.record;
        record.status = Some(reason.status().as_u16());
        record.outcome = Outcome::Refused(reason.code());
        record.detail = reason.detail();
        self.open.reason = Some(reason);
    }

    /// How it ended, where the status is already known.
    pub(crate) fn ended(&mut self, outcome: Outcome, detail: Option<Detail>) {
        let record = &mut self.open.record;
        record.outcome = outcome;
        record.detail = detail.or(record.detail);
    }

    /// What became of the connection to kintone.
    pub(crate) fn kept(&self, kept: Kept) {
        match kept {
            Kept::Pooled | Kept::Closed => {}
            Kept::HostFull => self.open.shared.telemetry.limit_hit(LimitName::PoolPerHost),
            Kept::PoolFull => self.open.shared.telemetry.limit_hit(LimitName::PoolTotal),
        }
    }

    /// The caller has left; the status is 499 where no head had gone out to it.
    pub(crate) fn abandoned(&mut self, head: Head) {
        if head == Head::Withheld {
            self.open.record.status = Some(CALLER_LEFT);
        }
        self.open.record.outcome = Outcome::CallerGone;
        self.phase(Phase::Settling);
    }

    /// It came to its end without being a call: others have records of their own.
    pub(crate) fn forget(mut self) {
        self.open.untold = true;
    }

    /// Another host has it from here on, and tells of it.
    pub(crate) fn told_elsewhere(&mut self) {
        self.open.untold = true;
    }

    /// No other host has it, or none that is known to tell of it.
    pub(crate) fn told_here(&mut self) {
        self.open.untold = false;
    }

    /// How long ago its head came.
    pub(crate) fn elapsed(&self) -> Duration {
        self.open.started.elapsed()
    }

    /// For how long kintone had the call, all tries together.
    fn upstream_time(&self) -> Option<Duration> {
        let Open { sent, upstream, .. } = &*self.open;
        match sent {
            Some(sent) => Some(upstream.unwrap_or_default() + sent.elapsed()),
            None => *upstream,
        }
    }
}

/// Whether the head of an answer has gone out to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Given,
    Withheld,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let upstream_time = self.upstream_time();
        let open = &mut *self.open;
        if open.untold {
            return;
        }
        if std::thread::panicking() {
            open.record.outcome = Outcome::Refused(Code::Internal);
            open.record.detail = Some(Detail::Panic);
        }
        let mut record = std::mem::replace(&mut open.record, Record::new(RequestId::ZERO));
        record.total = open.started.elapsed();
        record.upstream_time = upstream_time;
        if let (Some(caller), Outcome::Refused(code)) = (&open.caller, record.outcome) {
            // After the 200 of a tunnel there is a code and a detail, and no answer that had figures.
            let reason = open.reason.filter(|reason| reason.code() == code);
            caller.was_refused(Refusal {
                id: record.id,
                at: Timestamp::now(),
                reason: reason.unwrap_or_else(|| Reason::of(code, record.detail)),
                mode: record.mode,
                account: record.account.clone(),
                tenant: record.tenant.clone(),
            });
        }
        if let Some(feed) = open.shared.feed.get().filter(|feed| feed.is_on()) {
            tell(feed, &record);
        }
        open.shared.telemetry.end(record);
    }
}

/// Tells the desk that tells people, unless it is a success that proves nothing to anybody.
fn tell(feed: &Feed, record: &Record) {
    let (Some(account), Some(mode)) = (&record.account, record.mode) else {
        return;
    };
    if record.outcome == Outcome::Ok && !feed.is_followed(account) {
        return;
    }
    let is_waiting = record.queued.is_some_and(|queued| !queued.is_zero());
    feed.tell(Seen {
        account: account.clone(),
        tenant: record.tenant.clone(),
        mode,
        address: record.address,
        outcome: record.outcome,
        cause: record.cause,
        waited: if is_waiting { Waited::Yes } else { Waited::No },
        sender: Sender::Caller,
    });
}
