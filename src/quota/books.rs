//! The books of one account: permits in use, calls settling, calls waiting, rate and allowance.
//! Pure but for governor's clock: every step takes the time and returns what it decided.

use std::sync::Arc;
use std::time::Duration;

use crate::model::outcome::QuotaFigures;
use crate::model::{Priority, Tenant};

use super::clock::{Clock, Moment};
use super::estimate::{Outlook, ServiceTime};
use super::plan::Plan;
use super::pressure::{Cut, Pressure, Sample};
use super::queue::{Place, Queue, Room, TenantId, Ticket, Waiting};
use super::rate::Rate;
use super::yields::Yields;

/// Everything that is counted for one account.
#[derive(Debug)]
pub(super) struct Books<W> {
    pub(super) plan: Arc<Plan>,
    pub(super) pressure: Pressure,
    pub(super) queue: Queue<W>,
    pub(super) yields: Yields,
    pub(super) counts: Counts,
    rate: Option<Rate>,
    service: ServiceTime,
    running: Vec<Running>,
    vacant: Vec<u32>,
    settling: Vec<Settling>,
    /// Permits of this host now.
    allowed: u32,
    in_use: u32,
    batch_in_use: u32,
    settling_permits: u32,
    /// Permits of calls that kintone may be working on, settling ones not among them.
    live: u32,
    /// Calls sent so far: the last one's number.
    sent: u64,
    used_at: Moment,
    /// When the clockwork looks here next.
    pub(super) wake: Option<Moment>,
}

/// Running totals of one account.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Permits granted.
    pub(super) acquired: u64,
    /// Permits given back.
    pub(super) released: u64,
    /// Calls refused because of the rate.
    pub(super) rate_limited: u64,
    /// Calls refused because too many wait.
    pub(super) queue_full: u64,
    /// Calls refused because no permit comes in time.
    pub(super) wait_exceeded: u64,
}

/// Which permit; valid until it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// How a permit comes back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// kintone has answered it whole: its time is worth learning.
    Answered,
    /// Nothing of it runs at kintone.
    Unsent,
}

/// What kintone owes a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owes {
    /// The caller's byte was the last: an answer.
    Answer,
    /// kintone's byte was the last: nothing.
    Nothing,
}

/// Which refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The rate alone puts its turn beyond its wait.
    Rate,
    /// Too many wait.
    Full,
    /// No permit within its wait.
    Wait,
}

/// When the next call of a tenant could go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forecast {
    /// For the rate.
    rate: Duration,
    /// For a permit, if anything is known.
    permit: Option<Duration>,
}

/// What a call wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) tenant: TenantId,
    pub(super) priority: Priority,
    pub(super) permits: u32,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    tenant: TenantId,
    priority: Priority,
    /// Zero: vacant.
    permits: u32,
    granted_at: Moment,
    /// Its number in the order of sending and the live calls then, itself among them.
    sent: Option<(u64, u32)>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Call,
    Tunnel(Owes),
}

#[derive(Debug, Clone, Copy)]
struct Settling {
    tenant: TenantId,
    priority: Priority,
    permits: u32,
    granted_at: Moment,
    aborted_at: Moment,
    /// The last call sent before the abort.
    sent_before: u64,
}

/// How often an account is looked at whose allowance rises or whose tunnels could yield while calls
/// wait.
const LOOK: Duration = Duration::from_millis(100);
/// Places for running calls that an idle account keeps.
const RUNNING_KEPT: usize = 4;

impl<W> Books<W> {
    /// Empty books under a plan.
    pub(super) fn new(plan: Arc<Plan>, clock: Clock) -> Self {
        let mut books = Self {
            rate: plan.rate.map(|limit| Rate::new(limit, clock)),
            pressure: Pressure::default(),
            queue: Queue::new(),
            yields: Yields::default(),
            counts: Counts::default(),
            service: ServiceTime::default(),
            running: Vec::new(),
            vacant: Vec::new(),
            settling: Vec::new(),
            allowed: 1,
            in_use: 0,
            batch_in_use: 0,
            settling_permits: 0,
            live: 0,
            sent: 0,
            used_at: clock.moment(),
            wake: None,
            plan,
        };
        books.refresh(clock.moment());
        books
    }

    /// Puts the account under another plan. A limiter of the same shape stays as it is.
    pub(super) fn replan(&mut self, plan: Arc<Plan>, clock: Clock) {
        if self.rate.as_ref().map(Rate::limit) != plan.rate {
            self.rate = plan.rate.map(|limit| Rate::new(limit, clock));
        }
        self.queue.configure(&plan.tenants);
        self.plan = plan;
        self.refresh(clock.moment());
    }

    /// The tenant of that name.
    pub(super) fn tenant(&mut self, name: &str) -> TenantId {
        self.queue.enter(name, &self.plan.tenants)
    }

    /// The name of the tenant whose permit it is.
    pub(super) fn tenant_of(&self, slot: Slot) -> &Tenant {
        &self.queue.tenant(self.running[slot.0 as usize].tenant).name
    }

    /// Starts a call at once, if nothing waits and there is room and a token.
    pub(super) fn start(&mut self, want: Want, now: Moment) -> Option<Slot> {
        if self.pressure.is_passing() {
            self.refresh(now);
        }
        if self.queue.len() > 0 || !self.has_room(want, now) {
            return None;
        }
        self.spend(now).then(|| self.grant(want, now))
    }

    /// Whether a new call could go before those that wait: they stand at a ceiling, or leave the
    /// reserve alone.
    pub(super) fn may_overtake(&self, want: Want, now: Moment) -> bool {
        self.has_room(want, now) && self.rate_due(now).is_none()
    }

    /// Lets a call wait.
    pub(super) fn wait(&mut self, want: Want, place: Place, waiter: W) -> Ticket {
        let waiting = Waiting {
            permits: want.permits,
            waiter,
        };
        self.queue.push(want.tenant, want.priority, place, waiting)
    }

    /// Grants what can be granted to those that wait.
    pub(super) fn pump(&mut self, now: Moment, granted: &mut Vec<(W, Slot)>) {
        if self.queue.len() == 0 {
            return;
        }
        if self.pressure.is_passing() {
            self.refresh(now);
        }
        while let Some(ticket) = self.queue.next(&self.room(now)) {
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
            };
            granted.push((waiting.waiter, self.grant(want, now)));
        }
        self.yields.ask(self.queue.len());
    }

    /// When the next call like this one could go. It does not wait itself yet, or any more.
    pub(super) fn forecast(&self, want: Want, now: Moment) -> Forecast {
        let room = self.room(now);
        let places = match want.priority {
            Priority::Interactive => room.allowed,
            Priority::Batch => room.allowed - room.reserve,
        };
        let at_ceiling = self.queue.is_at_ceiling(want.tenant, want.permits);
        let ahead = self.queue.turns_before(want.tenant, want.priority, places);
        let completions = if at_ceiling {
            ahead + 1
        } else {
            (self.in_use + ahead + want.permits).saturating_sub(places)
        };
        let permit = if completions == 0 {
            Some(Duration::ZERO)
        } else {
            self.completion(completions, at_ceiling.then_some(want.tenant), now)
        };
        let rate = self.rate.as_ref();
        Forecast {
            rate: rate.map_or(Duration::ZERO, |rate| rate.wait(ahead + 1, now)),
            permit,
        }
    }

    /// The figures for a refusal.
    pub(super) fn figures(&self, waited: Duration, forecast: &Forecast) -> QuotaFigures {
        QuotaFigures {
            waited,
            retry_after: forecast.permit.map(|permit| permit.max(forecast.rate)),
            running: self.in_use,
            limit: self.allowed,
            queued: self.queue.len(),
        }
    }

    /// The first byte of this call is about to go to kintone.
    pub(super) fn sent(&mut self, slot: Slot) {
        let running = &mut self.running[slot.0 as usize];
        if running.sent.is_none() {
            self.sent += 1;
            self.live += running.permits;
            running.sent = Some((self.sent, self.live));
        }
    }

    /// kintone's figures in the head of the answer to this call.
    pub(super) fn answered(
        &mut self,
        slot: Slot,
        limit: Option<u32>,
        running: Option<u32>,
        now: Moment,
    ) {
        let (number, live_then) = self.sending(slot);
        if let Some(running) = running {
            let ours = live_then.min(self.live);
            self.prove_gone(number, running.saturating_sub(ours), now);
        }
        let sample = self.sample(limit, running, live_then);
        self.pressure.answered(now, sample);
        self.refresh(now);
    }

    /// kintone refused this call before it did anything for it.
    pub(super) fn refused(
        &mut self,
        slot: Slot,
        limit: Option<u32>,
        running: Option<u32>,
        now: Moment,
    ) {
        let (number, live_then) = self.sending(slot);
        let sample = self.sample(limit, running, live_then);
        let cut = Cut {
            sent: number,
            sent_so_far: self.sent,
            at_kintone: live_then + self.settling_permits,
            hosts: self.plan.hosts,
        };
        self.pressure.refused(now, sample, cut);
        self.refresh(now);
        self.end(slot, End::Unsent, now);
    }

    /// Notes what kintone owes a tunnel.
    pub(super) fn owed(&mut self, slot: Slot, owes: Owes) {
        let running = &mut self.running[slot.0 as usize];
        let was = running.is_live();
        running.kind = Kind::Tunnel(owes);
        match (was, running.is_live()) {
            (false, true) => self.live += running.permits,
            (true, false) => self.live -= running.permits,
            (true, true) | (false, false) => {}
        }
    }

    /// Gives back what a tunnel does not need; at least one permit stays.
    pub(super) fn shrink(&mut self, slot: Slot, permits: u32, now: Moment) -> u32 {
        let running = &mut self.running[slot.0 as usize];
        let surplus = running.permits.saturating_sub(permits.max(1));
        running.permits -= surplus;
        let left = running.permits;
        if running.is_live() {
            self.live -= surplus;
        }
        let (tenant, priority, held) = (
            running.tenant,
            running.priority,
            now.since(running.granted_at),
        );
        self.release(tenant, priority, surplus, held, now);
        left
    }

    /// Gives a permit back.
    pub(super) fn end(&mut self, slot: Slot, end: End, now: Moment) {
        let running = self.vacate(slot);
        let held = now.since(running.granted_at);
        if end == End::Answered && running.kind == Kind::Call {
            self.service.learn(held);
            self.queue.learn(running.tenant, held);
        }
        self.release(running.tenant, running.priority, running.permits, held, now);
    }

    /// Takes back a permit whose owner has left: at once if nothing was sent, else it settles, for
    /// kintone may go on working.
    pub(super) fn abandon(&mut self, slot: Slot, now: Moment) {
        if self.running[slot.0 as usize].sent.is_none() {
            return self.end(slot, End::Unsent, now);
        }
        let running = self.vacate(slot);
        self.settling_permits += running.permits;
        self.settling.push(Settling {
            tenant: running.tenant,
            priority: running.priority,
            permits: running.permits,
            granted_at: running.granted_at,
            aborted_at: now,
            sent_before: self.sent,
        });
        self.expire(now);
    }

    /// What time alone changes: settled calls, the allowance.
    pub(super) fn tick(&mut self, now: Moment) {
        self.expire(now);
        self.refresh(now);
    }

    /// When time alone changes something next.
    pub(super) fn next_wake(&self, now: Moment) -> Option<Moment> {
        let settled = self.settling.first().map(|first| first.until(&self.plan));
        if self.queue.len() == 0 {
            return settled;
        }
        let looks = self.pressure.is_passing() || self.yields.has_unasked();
        let look = looks.then(|| now.after(LOOK));
        [settled, look, self.rate_due(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether nothing would be lost with these books.
    pub(super) fn is_forgettable(&self, now: Moment) -> bool {
        self.in_use == 0
            && self.queue.len() == 0
            && self.rate.as_ref().is_none_or(|rate| rate.is_full(now))
    }

    /// When a permit was last granted or given back.
    pub(super) const fn used_at(&self) -> Moment {
        self.used_at
    }

    /// Gives back memory that a rush has left.
    pub(super) fn shrink_memory(&mut self) {
        if self.in_use == 0 && self.queue.len() == 0 {
            self.running = Vec::new();
            self.vacant = Vec::new();
            self.settling = Vec::new();
            self.queue.shrink();
        }
    }

    /// Permits of this host now.
    pub(super) const fn allowed(&self) -> u32 {
        self.allowed
    }

    /// Permits in use, settling ones among them.
    pub(super) const fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Permits that settle.
    pub(super) const fn settling(&self) -> u32 {
        self.settling_permits
    }

    /// For how long the permits that a tenant has in use were held together.
    pub(super) fn held_so_far(&self, name: TenantId, now: Moment) -> Duration {
        let running = self
            .running
            .iter()
            .map(|r| (r.tenant, r.permits, r.granted_at));
        let settling = self
            .settling
            .iter()
            .map(|s| (s.tenant, s.permits, s.granted_at));
        running
            .chain(settling)
            .filter(|(tenant, _, _)| *tenant == name)
            .map(|(_, permits, at)| now.since(at) * permits)
            .sum()
    }

    fn has_room(&self, want: Want, now: Moment) -> bool {
        let room = self.room(now);
        self.queue
            .may_start(want.tenant, want.priority, want.permits, &room)
    }

    fn room(&self, now: Moment) -> Room {
        Room {
            allowed: self.allowed,
            in_use: self.in_use,
            batch_in_use: self.batch_in_use,
            reserve: self.plan.quota.interactive_reserve.min(self.allowed / 2),
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
        let permits = want.permits.clamp(1, self.allowed);
        self.in_use += permits;
        if want.priority == Priority::Batch {
            self.batch_in_use += permits;
        }
        self.counts.acquired += u64::from(permits);
        self.used_at = now;
        self.queue.start(want.tenant, permits, now);
        let running = Running {
            tenant: want.tenant,
            priority: want.priority,
            permits,
            granted_at: now,
            sent: None,
            kind: Kind::Call,
        };
        if let Some(index) = self.vacant.pop() {
            self.running[index as usize] = running;
            return Slot(index);
        }
        if self.running.is_empty() {
            self.running.reserve_exact(RUNNING_KEPT);
        }
        self.running.push(running);
        Slot(u32::try_from(self.running.len() - 1).expect("permits are counted in u32"))
    }

    fn vacate(&mut self, slot: Slot) -> Running {
        let place = &mut self.running[slot.0 as usize];
        let running = *place;
        place.permits = 0;
        self.vacant.push(slot.0);
        if running.is_live() {
            self.live -= running.permits;
        }
        running
    }

    fn release(
        &mut self,
        tenant: TenantId,
        priority: Priority,
        permits: u32,
        held: Duration,
        now: Moment,
    ) {
        self.in_use -= permits;
        if priority == Priority::Batch {
            self.batch_in_use -= permits;
        }
        self.counts.released += u64::from(permits);
        self.used_at = now;
        self.queue.end(tenant, permits, held, now);
    }

    /// The number and the live calls of a call when it was sent.
    fn sending(&self, slot: Slot) -> (u64, u32) {
        self.running[slot.0 as usize]
            .sent
            .unwrap_or((self.sent, self.live))
    }

    /// What kintone said beside what is ours. Of our live calls at sending and at receipt the larger
    /// number counts: kintone may have counted at either end, and a rush of our own calls in
    /// between must not look like somebody else's.
    fn sample(&self, limit: Option<u32>, running: Option<u32>, live_then: u32) -> Sample {
        let peers = self.allowed * (self.plan.hosts - 1);
        Sample {
            limit,
            running,
            ours: live_then.max(self.live) + self.settling_permits + peers,
            effective_limit: self.pressure.effective_limit(self.plan.quota.concurrency),
        }
    }

    /// Of the calls aborted before the call `number` was sent only `room` can still run.
    fn prove_gone(&mut self, number: u64, room: u32, now: Moment) {
        if self.settling.is_empty() {
            return;
        }
        let earlier = self.settling.iter().take_while(|s| s.sent_before < number);
        let mut surplus = earlier.map(|s| s.permits).sum::<u32>().saturating_sub(room);
        while let Some(first) = self.settling.first() {
            if first.sent_before >= number || first.permits > surplus {
                break;
            }
            surplus -= first.permits;
            self.settled(now);
        }
    }

    fn expire(&mut self, now: Moment) {
        while self
            .settling
            .first()
            .is_some_and(|first| first.until(&self.plan) <= now)
        {
            self.settled(now);
        }
    }

    fn settled(&mut self, now: Moment) {
        let first = self.settling.remove(0);
        self.settling_permits -= first.permits;
        let held = now.since(first.granted_at);
        self.release(first.tenant, first.priority, first.permits, held, now);
    }

    fn refresh(&mut self, now: Moment) {
        let quota = &self.plan.quota;
        let limit = self.pressure.effective_limit(quota.concurrency);
        self.pressure.settle(now, limit);
        self.allowed = (self.pressure.allowed(limit, quota.headroom) / self.plan.hosts).max(1);
    }

    fn completion(&self, nth: u32, only: Option<TenantId>, now: Moment) -> Option<Duration> {
        let mut outlook = Outlook::default();
        for running in self.running.iter().filter(|running| running.permits > 0) {
            if running.kind != Kind::Call || only.is_some_and(|tenant| tenant != running.tenant) {
                continue;
            }
            let tenant = self.queue.tenant(running.tenant);
            let service_s = tenant.service.mean_s().or_else(|| self.service.mean_s())?;
            outlook.running(now.since(running.granted_at), service_s);
        }
        outlook.completion(nth)
    }
}

impl Running {
    const fn is_live(&self) -> bool {
        self.sent.is_some() && !matches!(self.kind, Kind::Tunnel(Owes::Nothing))
    }
}

impl Settling {
    fn until(&self, plan: &Plan) -> Moment {
        self.aborted_at.after(plan.quota.settle)
    }
}

impl Forecast {
    /// Why a call with this wait cannot be served, if it is known that it cannot. Without any wait
    /// it cannot, whatever is known.
    pub(super) fn verdict(&self, wait: Duration) -> Option<Reason> {
        if self.rate > wait {
            return Some(Reason::Rate);
        }
        let known = self.permit.is_some_and(|permit| permit > wait);
        (known || wait.is_zero()).then_some(Reason::Wait)
    }
}
