//! The permits in use: running calls, and aborted ones that kintone may still work on.

use std::time::Duration;

use crate::model::Priority;

use super::clock::Moment;
use super::grant::{Grant, Kind, Owes, Sending};
use super::record::Line;
use super::share::Term;
use super::tenant::TenantId;

/// Permits in use, by slot, and those that settle, in the order of their aborts.
#[derive(Debug, Default)]
pub(super) struct InUse {
    running: Vec<Running>,
    vacant: Vec<u32>,
    settling: Vec<Settling>,
    total: u32,
    batch: u32,
    settling_permits: u32,
    /// Those of long calls, settling ones among them.
    long: u32,
    /// Permits of running calls that kintone may be working on.
    live: u32,
    /// The number of the last call sent.
    sent: u64,
    hosts: Hosts,
}

/// Whether others share the permits: then each answer is to say how many calls are theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Hosts {
    #[default]
    Alone,
    Sharing,
}

/// Which permit; valid until it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

#[derive(Debug, Clone, Copy)]
struct Running {
    grant: Grant,
    sending: Option<Sending>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
struct Settling {
    grant: Grant,
    aborted_at: Moment,
    /// The number of the last call sent before the abort.
    sent_before: u64,
}

/// How long after its abort a call may still come to where kintone counts it: it was sent over another
/// connection than the calls that came after it, perhaps with the end of a handshake.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// Slots that are made at first.
const SLOTS: usize = 4;

impl InUse {
    /// Permits in use, settling ones among them.
    pub(super) const fn total(&self) -> u32 {
        self.total
    }

    /// Those of batch calls.
    pub(super) const fn batch(&self) -> u32 {
        self.batch
    }

    /// Those of long calls.
    pub(super) const fn long(&self) -> u32 {
        self.long
    }

    /// Those that settle.
    pub(super) const fn settling(&self) -> u32 {
        self.settling_permits
    }

    /// Those of running calls that kintone may be working on.
    pub(super) const fn live(&self) -> u32 {
        self.live
    }

    /// The number of the last call sent.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// From now on every answer says something of other hosts.
    pub(super) const fn share(&mut self) {
        self.hosts = Hosts::Sharing;
    }

    /// Takes permits into use.
    pub(super) fn begin(&mut self, grant: Grant) -> Slot {
        self.taken(grant);
        let running = Running {
            grant,
            sending: None,
            kind: Kind::Call,
        };
        if let Some(index) = self.vacant.pop() {
            self.running[index as usize] = running;
            return Slot(index);
        }
        if self.running.is_empty() {
            self.running.reserve_exact(SLOTS);
        }
        self.running.push(running);
        Slot(u32::try_from(self.running.len() - 1).expect("permits are counted in u32"))
    }

    /// A permit whose grant does not matter.
    #[cfg(test)]
    pub(super) fn begin_for_test(&mut self) -> Slot {
        self.begin(Grant {
            term: Term::Short,
            tenant: TenantId(0),
            priority: Priority::Interactive,
            permits: 1,
            granted_at: Moment::default(),
            line: None,
        })
    }

    /// What the permit was granted for.
    pub(super) fn grant(&self, slot: Slot) -> Grant {
        self.running[slot.0 as usize].grant
    }

    /// What runs on the permit.
    pub(super) fn kind(&self, slot: Slot) -> Kind {
        self.running[slot.0 as usize].kind
    }

    /// The first byte of this call is about to go to kintone; `record` writes it down before.
    pub(super) fn send(&mut self, slot: Slot, record: impl FnOnce(Grant) -> Option<Line>) {
        let running = &mut self.running[slot.0 as usize];
        if running.sending.is_none() {
            running.grant.line = record(running.grant);
            self.sent += 1;
            self.live += running.grant.permits;
            running.sending = Some(Sending {
                number: self.sent,
                live: self.live,
                fewest: self.live,
            });
        }
    }

    /// Nothing of this call was sent after all; tells where it was written down.
    pub(super) fn take_back(&mut self, slot: Slot) -> Option<Line> {
        let running = &mut self.running[slot.0 as usize];
        let line = running.grant.line.take();
        let was_live = running.is_live();
        running.sending = None;
        if was_live {
            self.live -= running.grant.permits;
            self.note_fewest();
        }
        line
    }

    /// When this call was sent.
    pub(super) fn sending(&self, slot: Slot) -> Sending {
        let unsent = Sending {
            number: self.sent,
            live: self.live,
            fewest: self.live,
        };
        self.running[slot.0 as usize].sending.unwrap_or(unsent)
    }

    /// Notes what kintone owes a tunnel.
    pub(super) fn owe(&mut self, slot: Slot, owes: Owes) {
        let running = &mut self.running[slot.0 as usize];
        let was = running.is_live();
        running.kind = Kind::Tunnel(owes);
        match (was, running.is_live()) {
            (false, true) => self.live += running.grant.permits,
            (true, false) => {
                self.live -= running.grant.permits;
                self.note_fewest();
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Gives back what is above `permits`, but for one; tells what that is.
    pub(super) fn shrink(&mut self, slot: Slot, permits: u32) -> Grant {
        let running = &mut self.running[slot.0 as usize];
        let surplus = running.grant.permits.saturating_sub(permits.max(1));
        running.grant.permits -= surplus;
        let returned = Grant {
            permits: surplus,
            line: None,
            ..running.grant
        };
        if running.is_live() {
            self.live -= surplus;
            self.note_fewest();
        }
        self.released(returned)
    }

    /// Gives a permit back.
    pub(super) fn end(&mut self, slot: Slot) -> Grant {
        let grant = self.vacate(slot);
        self.released(grant)
    }

    /// Takes back a permit whose owner has left: at once, and then it is returned, if nothing was
    /// sent; else it settles, for kintone may go on working.
    pub(super) fn abandon(&mut self, slot: Slot, now: Moment) -> Option<Grant> {
        if self.running[slot.0 as usize].sending.is_none() {
            return Some(self.end(slot));
        }
        let grant = self.vacate(slot);
        self.settling_permits += grant.permits;
        self.settling.push(Settling {
            grant,
            aborted_at: now,
            sent_before: self.sent,
        });
        None
    }

    /// Takes over a call that an earlier process sent and that was aborted then; it settles.
    pub(super) fn inherit(&mut self, grant: Grant, aborted_at: Moment) {
        self.taken(grant);
        self.settling_permits += grant.permits;
        let index = self
            .settling
            .partition_point(|settling| settling.aborted_at <= aborted_at);
        let settling = Settling {
            grant,
            aborted_at,
            sent_before: 0,
        };
        self.settling.insert(index, settling);
    }

    /// When `permits` of those that settle have come back, if time alone brings them.
    pub(super) fn settled_at(&self, permits: u32, settle: Duration) -> Option<Moment> {
        let mut back = 0;
        let enough = self.settling.iter().find(|settling| {
            back += settling.grant.permits;
            back >= permits
        })?;
        Some(enough.aborted_at.after(settle))
    }

    /// When the next permit has settled by time, if calls settle in `settle`.
    pub(super) fn settles_at(&self, settle: Duration) -> Option<Moment> {
        let first = self.settling.first()?;
        Some(first.aborted_at.after(settle))
    }

    /// How many permits of calls aborted before the call in this slot was sent are certainly over, if
    /// only `room` of them can still run.
    pub(super) fn proved_gone(&self, slot: Slot, room: u32) -> u32 {
        let (number, granted_at) = (self.sending(slot).number, self.grant(slot).granted_at);
        let earlier = self.settling.iter().take_while(|settling| {
            settling.sent_before < number && settling.aborted_at.after(UNDER_WAY) <= granted_at
        });
        let permits: u32 = earlier.map(|settling| settling.grant.permits).sum();
        permits.saturating_sub(room)
    }

    /// How many permits the next call to settle holds; zero if there is none.
    pub(super) fn first_settling(&self) -> u32 {
        self.settling.first().map_or(0, |first| first.grant.permits)
    }

    /// Gives back the permit of the call that was aborted first.
    pub(super) fn settle_first(&mut self) -> Grant {
        let grant = self.settling.remove(0).grant;
        self.settling_permits -= grant.permits;
        self.released(grant)
    }

    /// The running calls.
    pub(super) fn running(&self) -> impl Iterator<Item = (Grant, Kind)> {
        let running = self
            .running
            .iter()
            .filter(|running| running.grant.permits > 0);
        running.map(|running| (running.grant, running.kind))
    }

    /// For how long the permits that a tenant has in use were held, together.
    pub(super) fn held_by(&self, tenant: TenantId, now: Moment) -> Duration {
        let running = self.running.iter().map(|running| running.grant);
        let settling = self.settling.iter().map(|settling| settling.grant);
        running
            .chain(settling)
            .filter(|grant| grant.tenant == tenant)
            .map(|grant| now.since(grant.granted_at) * grant.permits)
            .sum()
    }

    /// Gives memory back that a rush has left.
    pub(super) fn shrink_memory(&mut self) {
        if self.total == 0 {
            self.running = Vec::new();
            self.vacant = Vec::new();
            self.settling = Vec::new();
        }
    }

    fn vacate(&mut self, slot: Slot) -> Grant {
        let running = &mut self.running[slot.0 as usize];
        let grant = running.grant;
        let was_live = running.is_live();
        running.grant.permits = 0;
        self.vacant.push(slot.0);
        if was_live {
            self.live -= grant.permits;
            self.note_fewest();
        }
        grant
    }

    fn taken(&mut self, grant: Grant) {
        self.total += grant.permits;
        if grant.priority == Priority::Batch {
            self.batch += grant.permits;
        }
        if grant.term == Term::Long {
            self.long += grant.permits;
        }
    }

    /// Fewer calls are live than before. Only what was sent after an abort proves anything about it, so
    /// that nothing needs to be noted while none settles, unless it says something of other hosts.
    fn note_fewest(&mut self) {
        if self.settling_permits == 0 && self.hosts == Hosts::Alone {
            return;
        }
        for sending in self
            .running
            .iter_mut()
            .filter_map(|running| running.sending.as_mut())
        {
            sending.fewest = sending.fewest.min(self.live);
        }
    }

    fn released(&mut self, grant: Grant) -> Grant {
        self.total -= grant.permits;
        if grant.priority == Priority::Batch {
            self.batch -= grant.permits;
        }
        if grant.term == Term::Long {
            self.long -= grant.permits;
        }
        grant
    }
}

impl Running {
    const fn is_live(&self) -> bool {
        self.sending.is_some() && !matches!(self.kind, Kind::Tunnel(Owes::Nothing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment::default().after(Duration::from_secs(s))
    }

    fn grant(permits: u32) -> Grant {
        Grant {
            tenant: TenantId(0),
            priority: Priority::Interactive,
            permits,
            term: Term::Short,
            granted_at: at(0),
            line: None,
        }
    }

    #[test]
    fn what_was_not_sent_is_free_at_once_and_what_was_settles() {
        let mut in_use = InUse::default();
        let (unsent, sent) = (in_use.begin(grant(1)), in_use.begin(grant(2)));
        in_use.send(sent, |_| None);
        assert_eq!(in_use.abandon(unsent, at(1)), Some(grant(1)));
        assert_eq!(in_use.abandon(sent, at(1)), None);
        assert_eq!(
            (in_use.total(), in_use.settling(), in_use.live()),
            (2, 2, 0)
        );
        assert_eq!(in_use.settles_at(Duration::from_secs(9)), Some(at(10)));
        assert_eq!(in_use.settle_first(), grant(2));
        assert_eq!((in_use.total(), in_use.settling()), (0, 0));
    }

    #[test]
    fn only_calls_sent_after_an_abort_prove_it_over() {
        let mut in_use = InUse::default();
        let before = in_use.begin(grant(1));
        in_use.send(before, |_| None);
        let aborted = in_use.begin(grant(1));
        in_use.send(aborted, |_| None);
        in_use.abandon(aborted, at(1));
        let mut granted = |granted_at| {
            let slot = in_use.begin(Grant {
                granted_at,
                ..grant(1)
            });
            in_use.send(slot, |_| None);
            slot
        };
        // The aborted one may still be under way when this one is counted.
        let too_soon = granted(at(2).before(Duration::from_millis(1)));
        let after = granted(at(2));
        assert_eq!(in_use.proved_gone(before, 0), 0);
        assert_eq!(in_use.proved_gone(too_soon, 0), 0);
        assert_eq!(in_use.proved_gone(after, 1), 0);
        assert_eq!(in_use.proved_gone(after, 0), 1);
    }

    #[test]
    fn a_rush_after_a_lull_does_not_hide_the_lull() {
        let mut in_use = InUse::default();
        let aborted = in_use.begin(grant(1));
        in_use.send(aborted, |_| None);
        in_use.abandon(aborted, at(1));
        let send = |in_use: &mut InUse| {
            let slot = in_use.begin(grant(1));
            in_use.send(slot, |_| None);
            slot
        };
        let ending = [send(&mut in_use), send(&mut in_use)];
        let asked = send(&mut in_use);
        for slot in ending {
            in_use.end(slot);
        }
        let rush = [send(&mut in_use), send(&mut in_use)];
        assert_eq!((in_use.sending(asked).live, in_use.live()), (3, 3));
        assert_eq!(in_use.sending(asked).fewest, 1);
        assert_eq!(in_use.sending(rush[1]).fewest, 3);
    }

    #[test]
    fn slots_are_used_again_and_a_surplus_goes_back() {
        let mut in_use = InUse::default();
        let first = in_use.begin(grant(5));
        in_use.send(first, |_| None);
        assert_eq!(in_use.shrink(first, 0).permits, 4);
        assert_eq!((in_use.total(), in_use.live()), (1, 1));
        in_use.owe(first, Owes::Nothing);
        assert_eq!(in_use.live(), 0);
        in_use.end(first);
        assert_eq!(in_use.begin(grant(1)), first);
    }
}
