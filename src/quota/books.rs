//! The books of one account: permits in use, calls settling, calls waiting, rate and allowance.
//! Pure but for governor's clock: every step takes the time and returns what it decided.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Account, Priority, Tenant};

use super::circuit::Circuit;
use super::clock::{Clock, Moment};
use super::counts::Counts;
use super::estimate::ServiceTime;
use super::grant::{Grant, Kind, Owes};
use super::in_use::{InUse, Slot};
use super::pen::Pen;
use super::plan::Plan;
use super::pressure::Pressure;
use super::queue::{Place, Queue};
use super::rate::Rate;
use super::record::Line;
use super::room::Room;
use super::share::{Allowance, Standing, Term};
use super::sharing::Dealings;
use super::tenant::{TenantId, Ticket, Waiting};
use super::yields::Yields;

/// Everything that is counted for one account.
#[derive(Debug)]
pub(super) struct Books<W> {
    pub(super) plan: Arc<Plan>,
    pub(super) pressure: Pressure,
    pub(super) queue: Queue<W>,
    pub(super) yields: Yields,
    pub(super) counts: Counts,
    /// Boxed: most accounts have none.
    pub(super) rate: Option<Box<Rate>>,
    pub(super) service: ServiceTime,
    pub(super) in_use: InUse,
    /// Boxed: of most accounts nothing bad is known.
    pub(super) circuit: Option<Box<Circuit>>,
    /// Writes down what is in flight.
    pen: Pen,
    /// What this host may use of the permits that hosts share.
    pub(super) standing: Standing,
    /// What that comes to now.
    pub(super) allowance: Allowance,
    /// Boxed: only accounts that are shared have them.
    pub(super) dealings: Option<Box<Dealings>>,
    pub(super) clock: Clock,
    /// Since when this process has run without a stop.
    pub(super) awake_since: Moment,
    used_at: Moment,
    /// When the clockwork looks here next.
    pub(super) wake: Option<Moment>,
}

/// How a permit comes back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// kintone has answered it whole: its time is worth learning, if this process ran meanwhile.
    Answered,
    /// Nothing of it runs at kintone.
    Unsent,
}

/// What a call wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) tenant: TenantId,
    pub(super) priority: Priority,
    pub(super) permits: u32,
    pub(super) term: Term,
}

/// A call that an earlier process left at kintone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    pub(super) tenant: &'a str,
    pub(super) priority: Priority,
    pub(super) permits: u32,
    pub(super) aborted_at: Moment,
    /// Where it is written down.
    pub(super) line: Option<Line>,
}

/// How often an account is looked at where calls wait that time alone could let go.
const LOOK: Duration = Duration::from_millis(100);

impl<W> Books<W> {
    /// Empty books under a plan.
    pub(super) fn new(plan: Arc<Plan>, clock: Clock, pen: Pen, standing: Standing) -> Self {
        let mut books = Self {
            rate: Rate::successor(plan.rate, None, clock, clock.moment()),
            pressure: Pressure::default(),
            queue: Queue::new(),
            yields: Yields::default(),
            counts: Counts::default(),
            service: ServiceTime::default(),
            in_use: InUse::default(),
            circuit: None,
            pen,
            standing,
            allowance: Allowance::default(),
            dealings: None,
            clock,
            awake_since: Moment::default(),
            used_at: clock.moment(),
            wake: None,
            plan,
        };
        books.refresh(clock.moment());
        books
    }

    /// Puts the account under another plan. A limiter of the same shape stays as it is; one of
    /// another shape begins with the tokens that were left.
    pub(super) fn replan(&mut self, plan: Arc<Plan>, clock: Clock) {
        self.queue.configure(&plan.tenants);
        self.plan = plan;
        self.refresh(clock.moment());
        self.resize_rate(clock.moment());
    }

    /// The tenant of that name.
    pub(super) fn tenant(&mut self, name: &str) -> TenantId {
        self.queue.enter(name, &self.plan.tenants)
    }

    /// The name of the tenant whose permit it is.
    pub(super) fn tenant_of(&self, slot: Slot) -> &Tenant {
        &self.queue.tenant(self.in_use.grant(slot).tenant).name
    }

    /// Starts a call at once, if nothing waits and there is room and a token.
    pub(super) fn start(&mut self, want: Want, now: Moment) -> Option<Slot> {
        self.keep_up(now);
        if self.queue.len() > 0 || !self.has_room(want, now) {
            return None;
        }
        self.spend(now).then(|| self.grant(want, now))
    }

    /// Whether a new call could go before those that wait: they stand at a ceiling, or leave the
    /// reserve alone.
    pub(super) fn may_overtake(&self, want: Want, now: Moment) -> bool {
        self.has_room(want, now)
            && self.rate_due(now).is_none()
            && !self.queue.holds_places(&self.room(now))
    }

    /// Lets a call wait.
    pub(super) fn wait(&mut self, want: Want, place: Place, waiter: W) -> Ticket {
        let waiting = Waiting {
            permits: want.permits,
            term: want.term,
            waiter,
        };
        self.queue.push(want.tenant, want.priority, place, waiting)
    }

    /// Grants what can be granted to those that wait.
    pub(super) fn pump(&mut self, now: Moment, granted: &mut Vec<(W, Slot)>) {
        if self.queue.len() == 0 {
            return;
        }
        self.keep_up(now);
        while self.circuit_admits(now)
            && let Some(ticket) = self.queue.next(&self.room(now))
        {
            if !self.spend(now) {
                return;
            }
            let Some(waiting) = self.queue.remove(ticket) else {
                return;
            };
            self.queue.chosen(ticket);
            let want = Want {
                tenant: ticket.tenant,
                priority: ticket.priority,
                permits: waiting.permits,
                term: waiting.term,
            };
            granted.push((waiting.waiter, self.grant(want, now)));
        }
        self.yields.ask(self.queue.len());
    }

    /// The first byte of this call, which is for `account`, is about to go to kintone.
    pub(super) fn sent(&mut self, slot: Slot, account: &Account) {
        let (pen, queue) = (&self.pen, &self.queue);
        self.in_use.send(slot, |grant| {
            let tenant = &queue.tenant(grant.tenant).name;
            pen.begin(account, tenant, grant.priority, grant.permits)
        });
    }

    /// Not a byte of this call went to kintone.
    pub(super) fn not_sent(&mut self, slot: Slot) {
        self.uncut(slot);
        if let Some(line) = self.in_use.take_back(slot) {
            self.pen.end(line);
        }
    }

    /// Notes what kintone owes a tunnel.
    pub(super) fn owed(&mut self, slot: Slot, owes: Owes) {
        self.in_use.owe(slot, owes);
    }

    /// Gives back what a tunnel does not need; at least one permit stays.
    pub(super) fn shrink(&mut self, slot: Slot, permits: u32, now: Moment) -> u32 {
        let surplus = self.in_use.shrink(slot, permits);
        let Grant { permits, line, .. } = self.in_use.grant(slot);
        if let Some(line) = line {
            self.pen.resize(line, permits);
        }
        self.released(surplus, now);
        permits
    }

    /// Gives a permit back.
    pub(super) fn end(&mut self, slot: Slot, end: End, now: Moment) {
        self.uncut(slot);
        self.leave_circuit(slot);
        let kind = self.in_use.kind(slot);
        let grant = self.in_use.end(slot);
        let is_seen_whole = grant.granted_at >= self.awake_since;
        if end == End::Answered && kind == Kind::Call && is_seen_whole {
            let held = now.since(grant.granted_at);
            self.service.learn(held);
            self.queue.learn(grant.tenant, held);
        }
        self.released(grant, now);
    }

    /// Takes back a permit whose owner has left: at once if nothing was sent, else it settles, for
    /// kintone may go on working.
    pub(super) fn abandon(&mut self, slot: Slot, now: Moment) {
        self.uncut(slot);
        self.leave_circuit(slot);
        let line = self.in_use.grant(slot).line;
        match (self.in_use.abandon(slot, now), line) {
            (Some(grant), _) => self.released(grant, now),
            (None, Some(line)) => self.pen.abort(line),
            (None, None) => {}
        }
        self.expire(now);
    }

    /// Counts a call that an earlier process left at kintone: it settles, and its tenant has its
    /// permits.
    pub(super) fn inherit(&mut self, left: Left<'_>, now: Moment) {
        let grant = Grant {
            tenant: self.tenant(left.tenant),
            priority: left.priority,
            permits: left.permits,
            term: Term::Long,
            granted_at: now,
            line: left.line,
        };
        self.counts.acquired += u64::from(grant.permits);
        self.used_at = now;
        self.queue.inherit(grant.tenant, grant.permits);
        self.in_use.inherit(grant, left.aborted_at);
        self.expire(now);
    }

    /// What time alone changes: settled calls, the allowance.
    pub(super) fn tick(&mut self, now: Moment) {
        self.expire(now);
        self.refresh(now);
        self.overrun(now);
    }

    /// Whether nothing waits and nothing settles: then only calls change anything.
    pub(super) const fn is_settled(&self) -> bool {
        let is_lasting = self.allowance.lapses_at.is_none() && self.cut_at().is_none();
        self.queue.len() == 0 && self.in_use.settling() == 0 && is_lasting
    }

    /// When time alone changes something next.
    pub(super) fn next_wake(&self, now: Moment) -> Option<Moment> {
        let settled = self.in_use.settles_at(self.plan.quota.settle);
        let lapse = self.allowance.lapses_at;
        let soonest = [settled, lapse, self.cut_at()].into_iter().flatten().min();
        if self.queue.len() == 0 {
            return soonest;
        }
        // Free places may be kept for others: for a while only, and no event ends it.
        let is_kept = self.in_use.total() < self.allowed();
        let looks = is_kept
            || self.pressure.is_passing()
            || self.yields.has_unasked()
            || self.circuit.is_some();
        let look = looks.then(|| now.after(LOOK));
        [soonest, look, self.rate_due(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether nothing would be lost with these books.
    pub(super) fn is_forgettable(&self, now: Moment) -> bool {
        self.in_use.total() == 0
            && self.queue.len() == 0
            && !matches!(self.standing, Standing::Share(..))
            && self.rate.as_ref().is_none_or(|rate| rate.is_full(now))
            && !self
                .circuit
                .as_ref()
                .is_some_and(|circuit| circuit.is_lasting())
    }

    /// When a permit was last granted or given back.
    pub(super) const fn used_at(&self) -> Moment {
        self.used_at
    }

    /// Gives back memory that a rush has left.
    pub(super) fn shrink_memory(&mut self) {
        if self.in_use.total() == 0 && self.queue.len() == 0 {
            self.in_use.shrink_memory();
            self.queue.shrink();
        }
    }

    /// Permits of this host now.
    pub(super) const fn allowed(&self) -> u32 {
        self.allowance.all
    }

    /// The permits in use.
    pub(super) const fn in_use(&self) -> &InUse {
        &self.in_use
    }

    /// The same, to change.
    pub(super) const fn in_use_mut(&mut self) -> &mut InUse {
        &mut self.in_use
    }

    pub(super) fn room(&self, now: Moment) -> Room {
        Room {
            allowed: self.allowed(),
            in_use: self.in_use.total(),
            batch_in_use: self.in_use.batch(),
            reserve: self.plan.reserve(self.allowed()),
            long_left: self.allowance.own.saturating_sub(self.in_use.long()),
            now,
        }
    }

    fn spend(&mut self, now: Moment) -> bool {
        self.rate.as_mut().is_none_or(|rate| rate.spend(now))
    }

    fn rate_due(&self, now: Moment) -> Option<Moment> {
        self.rate.as_ref().and_then(|rate| rate.due(now))
    }

    fn grant(&mut self, want: Want, now: Moment) -> Slot {
        let grant = Grant {
            tenant: want.tenant,
            priority: want.priority,
            permits: want.permits.clamp(1, self.allowed().max(1)),
            term: want.term,
            granted_at: now,
            line: None,
        };
        self.counts.acquired += u64::from(grant.permits);
        self.used_at = now;
        self.queue.start(want.tenant, grant.permits, now);
        let slot = self.in_use.begin(grant);
        if let Some(circuit) = &mut self.circuit {
            circuit.granted(slot, now);
        }
        slot
    }

    /// Counts a grant that came back.
    pub(super) fn released(&mut self, grant: Grant, now: Moment) {
        self.counts.released += u64::from(grant.permits);
        self.used_at = now;
        let held = now.since(grant.granted_at);
        self.queue.end(grant.tenant, grant.permits, held, now);
        if let Some(line) = grant.line {
            self.pen.end(line);
        }
    }

    fn expire(&mut self, now: Moment) {
        let settle = self.plan.quota.settle;
        while self.in_use.settles_at(settle).is_some_and(|at| at <= now) {
            let grant = self.in_use.settle_first();
            self.released(grant, now);
        }
    }
}
