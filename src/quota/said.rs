//! What kintone's answers tell: how much room others leave, and which settling calls are over.

use super::books::{Books, End};
use super::clock::Moment;
use super::in_use::Slot;
use super::pressure::{Cut, Sample};

impl<W> Books<W> {
    /// kintone's figures in the head of the answer to this call.
    pub(super) fn answered(
        &mut self,
        slot: Slot,
        limit: Option<u32>,
        running: Option<u32>,
        now: Moment,
    ) {
        let sending = self.in_use.sending(slot);
        if let Some(running) = running {
            // kintone counted at some time between; so many of ours were live all the while.
            let ours = sending.fewest.min(self.in_use.live());
            self.heard_of_others(slot, running, ours);
            self.prove_gone(slot, running.saturating_sub(ours), now);
        }
        let sample = self.sample(limit, running, sending.live);
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
        let sending = self.in_use.sending(slot);
        let sample = self.sample(limit, running, sending.live);
        let cut = Cut {
            sent: sending.number,
            sent_so_far: self.in_use.sent(),
            at_kintone: sending.live + self.in_use.settling(),
            hosts: self.of_all(),
        };
        self.pressure.refused(now, sample, cut);
        self.refresh(now);
        self.end(slot, End::Unsent, now);
    }

    /// What kintone said beside what is ours. Of our live calls at sending and at receipt the larger
    /// number counts: kintone may have counted at either end, and a rush of our own calls in
    /// between must not look like somebody else's.
    fn sample(&self, limit: Option<u32>, running: Option<u32>, live_then: u32) -> Sample {
        let peers = self.of_peers();
        Sample {
            limit,
            running,
            ours: live_then.max(self.in_use.live()) + self.in_use.settling() + peers,
            effective_limit: self.pressure.effective_limit(self.plan.quota.concurrency),
        }
    }

    /// Of the calls aborted before the call in this slot was sent only `room` can still run.
    fn prove_gone(&mut self, slot: Slot, room: u32, now: Moment) {
        let mut gone = self.in_use.proved_gone(slot, room);
        while gone > 0 && self.in_use.first_settling() <= gone {
            let grant = self.in_use.settle_first();
            gone -= grant.permits;
            self.released(grant, now);
        }
    }
}
