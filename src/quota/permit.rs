//! The right to have one call in flight at kintone.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::config::QuotaSettings;
use crate::model::{CallerName, Cause, Denial, Mode, Priority, Tenant};

use super::account::{Cell, Entered, Held};
use super::books::End;
use super::clock::Moment;
use super::entrant::{Deadline, Entrant};
use super::grant::Owes;
use super::health::Health;
use super::queue::Place;
use super::share::Term;
use super::sharing::{Cut, Fence};

/// A permit, from before the first byte to kintone until after the last byte of its answer.
///
/// Dropped before [`sent`](Self::sent), it is free at once. Dropped after it, the call was aborted
/// and kintone may go on working: the permit settles, that is, it keeps its place until `settle` has
/// passed or a later answer proves that the call is over.
#[must_use = "a permit that is dropped is given back"]
#[derive(Debug)]
pub struct Permit {
    held: Held,
    caller: CallerName,
    priority: Priority,
    permits: u32,
    term: Term,
    asked_at: Moment,
    waited: Duration,
    deadline: Moment,
}

/// A call that kintone refused (`GAIA_TO04`): it holds no permit and can be sent again.
#[must_use = "the call was not executed; send it again or pass kintone's refusal on"]
#[derive(Debug)]
pub struct Refused {
    cell: Arc<Cell>,
    tenant: Tenant,
    caller: CallerName,
    priority: Priority,
    permits: u32,
    term: Term,
    asked_at: Moment,
    waited: Duration,
    refused_at: Moment,
    deadline: Moment,
}

/// An idle tunnel that gives way to waiting calls; dropped, it does not any more.
#[derive(Debug)]
pub struct YieldGuard {
    cell: Arc<Cell>,
    key: (Moment, u64),
    bell: Arc<Notify>,
}

/// The shortest pause before a call that kintone refused is sent again.
const PAUSE: Duration = Duration::from_millis(250);

/// Brings an entrant to its permit.
pub(super) async fn admit(
    cell: Arc<Cell>,
    entrant: Entrant<'_>,
    now: Moment,
) -> Result<Permit, Denial> {
    match cell.enter(&entrant, now)? {
        Entered::Granted(held, deadline) => Ok(Permit::new(&entrant, held, deadline)),
        Entered::Queued(queued) => {
            let (held, deadline) = queued.outcome().await?;
            Ok(Permit::new(&entrant, held, deadline))
        }
    }
}

impl Permit {
    fn new(entrant: &Entrant<'_>, held: Held, deadline: Moment) -> Self {
        Self {
            caller: entrant.caller.clone(),
            priority: entrant.priority,
            permits: entrant.permits,
            term: entrant.term,
            asked_at: entrant.asked_at,
            waited: held.granted_at.since(entrant.asked_at),
            deadline,
            held,
        }
    }

    /// How long the call waited for it; after [`Refused::again`], for all of its permits.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// How long it has been held.
    #[must_use]
    pub fn held(&self) -> Duration {
        self.held.cell.clock.moment().since(self.held.granted_at)
    }

    /// The first byte is about to go to kintone: from here on a drop without [`finish`](Self::finish)
    /// is an abort. A fence is given where the permit may be a borrowed one: it is to be asked just
    /// before the first byte, and where it says no, none may go.
    pub fn sent(&mut self) -> Option<Fence> {
        let mut books = self.held.cell.books();
        books.sent(self.held.slot, &self.held.cell.account);
        if !books.is_on_loan() {
            return None;
        }
        drop(books);
        let cell = Arc::clone(&self.held.cell);
        Some(Box::new(move || cell.may_send()))
    }

    /// How to end this call where it stands if it outlives a loan for longer than it may.
    pub fn cut_by(&self, cut: Cut) {
        self.held.cell.books().cut_by(self.held.slot, cut);
    }

    /// Whether the loan has ended on which this call would go, so that it must not.
    #[must_use]
    pub fn has_lapsed(&self) -> bool {
        !self.held.cell.may_send()
    }

    /// Gives a permit that has lapsed back unused and waits for another one, before the others of its
    /// tenant, within the wait that the call began with. Cancel-safe: dropped, it holds nothing.
    ///
    /// # Errors
    /// The [`Denial`] of a call that waited too long.
    pub async fn renew(self) -> Result<Self, Denial> {
        let (cell, waited) = (Arc::clone(&self.held.cell), self.waited);
        let tenant = self.held.close(|books, slot, now| {
            let tenant = books.tenant_of(slot).clone();
            books.end(slot, End::Unsent, now);
            tenant
        });
        let entrant = Entrant {
            tenant: tenant.as_str(),
            caller: &self.caller,
            // No tunnel goes on a loan.
            mode: Mode::Forward,
            priority: self.priority,
            permits: self.permits,
            term: self.term,
            place: Place::Front,
            asked_at: self.asked_at,
            deadline: Deadline::At(self.deadline),
        };
        let lapsed_at = cell.clock.moment();
        let mut permit = admit(Arc::clone(&cell), entrant, lapsed_at).await?;
        permit.waited = waited + permit.held.granted_at.since(lapsed_at);
        Ok(permit)
    }

    /// Nothing was sent after all: the connection had been closed before the first byte. A drop is
    /// harmless again until the next [`sent`](Self::sent).
    pub fn not_sent(&mut self) {
        self.held.cell.books().not_sent(self.held.slot);
    }

    /// kintone's figures in the head of this answer: `X-ConcurrencyLimit-Limit` and `-Running`.
    /// They tell how many calls others have there, whether the limit is smaller than configured, and
    /// that settling calls are over. That it has answered at all tells that it serves the account.
    pub fn answered(&mut self, limit: Option<u32>, running: Option<u32>) {
        self.heard(limit, running, Some(Health::Serving));
    }

    /// The same of an answer that is a failure, with its cause as far as that is known: it may be
    /// that kintone serves nobody, or does not know the account.
    pub fn failed(&mut self, limit: Option<u32>, running: Option<u32>, cause: Option<Cause>) {
        self.heard(limit, running, cause.map(Health::of));
    }

    fn heard(&mut self, limit: Option<u32>, running: Option<u32>, health: Option<Health>) {
        let (cell, slot) = (&self.held.cell, self.held.slot);
        let event = cell.step(|books, now| {
            books.answered(slot, limit, running, now);
            books.heard(slot, health?, now)
        });
        if let Some(event) = event {
            cell.learn(event);
        }
    }

    /// kintone's end was seen, the last byte of the answer: the permit is free at once.
    pub fn finish(self) {
        self.held
            .close(|books, slot, now| books.end(slot, End::Answered, now));
    }

    /// kintone refused the call because of its limit (`GAIA_TO04`) and did nothing for it. The
    /// allowance is cut and the permit is free at once.
    pub fn refused(self, limit: Option<u32>, running: Option<u32>) -> Refused {
        let cell = Arc::clone(&self.held.cell);
        let (tenant, refused_at, event) = self.held.close(|books, slot, now| {
            let tenant = books.tenant_of(slot).clone();
            let event = books.heard(slot, Health::Serving, now);
            books.refused(slot, limit, running, now);
            (tenant, now, event)
        });
        if let Some(event) = event {
            cell.learn(event);
        }
        Refused {
            cell,
            tenant,
            caller: self.caller,
            priority: self.priority,
            permits: self.permits,
            term: self.term,
            asked_at: self.asked_at,
            waited: self.waited,
            refused_at,
            deadline: self.deadline,
        }
    }

    /// Gives back what a tunnel does not need above `weight`; one permit always stays.
    pub fn shrink(&mut self, weight: u32) {
        let slot = self.held.slot;
        self.permits = self
            .held
            .cell
            .step(|books, now| books.shrink(slot, weight, now));
    }

    /// Notes what kintone owes this tunnel. It counts as ours in the estimate of the outside load only
    /// while an answer is owed, and its time is not taken for the time of a call.
    pub fn owed(&self, owes: Owes) {
        self.held.cell.books().owed(self.held.slot, owes);
    }

    /// Registers this tunnel as one that has been idle since then and can give way.
    pub fn yielding(&self, idle_since: Instant) -> YieldGuard {
        let cell = Arc::clone(&self.held.cell);
        let bell = Arc::new(Notify::new());
        let since = cell.clock.at(idle_since);
        let key = cell.step(|books, _| books.yields.register(since, Arc::clone(&bell)));
        YieldGuard { cell, key, bell }
    }

    /// The settings of its account, as they are now.
    #[must_use]
    pub fn settings(&self) -> Arc<QuotaSettings> {
        Arc::clone(&self.held.cell.books().plan.quota)
    }
}

impl Refused {
    /// Waits and takes a permit again: after a pause of at least 250 ms, at the head of its tenant's
    /// queue, within the wait that the call began with. Cancel-safe: dropped, it holds nothing.
    ///
    /// # Errors
    /// The [`Denial`] of a call that waited too long, also when the pause alone would be too long.
    pub async fn again(self) -> Result<Permit, Denial> {
        let resume_at = self.refused_at.after(PAUSE);
        if resume_at >= self.deadline {
            return Err(self
                .cell
                .out_of_time(self.tenant.as_str(), self.priority, self.waited));
        }
        let now = self.cell.clock.moment();
        sleep(resume_at.since(now)).await;
        let entrant = Entrant {
            tenant: self.tenant.as_str(),
            caller: &self.caller,
            // Of a tunnel it is not seen that kintone refuses a call.
            mode: Mode::Forward,
            priority: self.priority,
            permits: self.permits,
            term: self.term,
            place: Place::Front,
            asked_at: self.asked_at,
            deadline: Deadline::At(self.deadline),
        };
        let mut permit = admit(Arc::clone(&self.cell), entrant, self.cell.clock.moment()).await?;
        permit.waited = self.waited + permit.held.granted_at.since(self.refused_at);
        Ok(permit)
    }
}

impl YieldGuard {
    /// Returns when calls of the account wait and this is the longest idle of its tunnels.
    pub async fn asked(&mut self) {
        self.bell.notified().await;
    }
}

impl Drop for YieldGuard {
    fn drop(&mut self) {
        // Without granting or asking others: what it gives back comes when its permit does.
        self.cell.books().yields.deregister(self.key);
    }
}
