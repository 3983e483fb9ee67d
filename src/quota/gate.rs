//! What the circuit of an account does to its books.

use jiff::Timestamp;

use crate::model::{Account, Denial, Mode};

use super::books::{Books, Want};
use super::circuit::Circuit;
use super::clock::Moment;
use super::health::{CircuitState, Event, Health};
use super::in_use::Slot;

impl<W> Books<W> {
    /// Why an arriving call is refused before the quota is asked, if it is.
    pub(super) fn gate(&mut self, account: &Account, mode: Mode, now: Moment) -> Option<Denial> {
        if !self.plan.circuit.windows.is_empty() {
            self.look_at_windows(account, now, Timestamp::now());
        }
        self.turn_circuit(now);
        self.circuit.as_mut()?.gate(mode, now)
    }

    /// What those are told who wait, if they wait in vain.
    pub(super) fn turned_away(&self, now: Moment) -> Option<Denial> {
        self.circuit.as_ref()?.turned_away(now)
    }

    /// What a call is told whose wait ends while others go to see whether kintone serves.
    pub(super) fn held_back(&self) -> Option<Denial> {
        self.circuit.as_ref()?.held_back()
    }

    /// Whether this call could go now if nothing waited and the rate allowed it.
    pub(super) fn has_room(&self, want: Want, now: Moment) -> bool {
        let room = self.room(now);
        self.circuit_admits(now)
            && self
                .queue
                .may_start(want.tenant, want.priority, (want.permits, want.term), &room)
    }

    /// Whether one more call may go, as far as the circuit goes.
    pub(super) fn circuit_admits(&self, now: Moment) -> bool {
        self.circuit
            .as_ref()
            .is_none_or(|circuit| circuit.admits(now))
    }

    /// Whether fewer calls may go than there are permits.
    pub(super) fn is_restrained(&self) -> bool {
        let circuit = self.circuit.as_ref();
        circuit.is_some_and(|circuit| circuit.is_restraining())
    }

    /// What the answer to this call says about the account.
    pub(super) fn heard(&mut self, slot: Slot, health: Health, now: Moment) -> Option<Event> {
        if self.circuit.is_none() && matches!(health, Health::Serving | Health::Unclear) {
            return None;
        }
        let sent = (self.in_use.sending(slot).number, self.in_use.sent());
        let settings = self.plan.circuit.settings;
        let event = self.circuit().answered(health, sent, &settings, now);
        self.turn_circuit(now);
        event
    }

    /// Closes or opens the account by what is announced for it.
    pub(super) fn look_at_windows(&mut self, account: &Account, now: Moment, today: Timestamp) {
        let Some(end) = self.plan.circuit.planned_end(account, today) else {
            if let Some(circuit) = &mut self.circuit {
                circuit.unplan(now);
            }
            return;
        };
        let left = end.duration_since(today).unsigned_abs();
        let (sent, settings) = (self.in_use.sent(), self.plan.circuit.settings);
        self.circuit().plan(now.after(left), sent, &settings);
    }

    /// Closes the account until somebody confirms it.
    pub(super) fn close_unknown(&mut self) {
        self.circuit().close_unknown();
    }

    /// Somebody has confirmed the account.
    pub(super) fn confirm(&mut self, now: Moment) {
        self.circuit().confirm();
        self.turn_circuit(now);
    }

    /// What the circuit is like.
    pub(super) fn circuit_state(&mut self, now: Moment) -> CircuitState {
        self.turn_circuit(now);
        let circuit = self.circuit.as_ref();
        circuit.map_or(CircuitState::Closed, |circuit| circuit.state(now))
    }

    /// A permit comes back.
    pub(super) fn leave_circuit(&mut self, slot: Slot) {
        if let Some(circuit) = &mut self.circuit {
            circuit.left(slot);
        }
    }

    fn circuit(&mut self) -> &mut Circuit {
        self.circuit.get_or_insert_with(|| Box::new(Circuit::new()))
    }

    fn turn_circuit(&mut self, now: Moment) {
        let allowed = self.allowed();
        let is_over = |circuit: &mut Box<Circuit>| circuit.is_over(allowed, now);
        if self.circuit.as_mut().is_some_and(is_over) {
            self.circuit = None;
        }
    }
}
