//! One request's stay: its line in the ledger and its place in the account, both ended together, whatever the end.

use std::sync::Arc;

use crate::fault::FaultKind;
use crate::ledger::{Book, Execution, Line};
use crate::tenant::Slot;
use crate::wire::{Order, Wire};
use crate::world::World;

/// Ends when it is completed, abandoned or dropped; its place goes back at that moment.
pub(crate) struct Visit {
    world: Arc<World>,
    wire: Arc<Wire>,
    line: Line,
    method: Method,
    slot: Option<Slot>,
    ended: Ended,
}

/// Whether the answer has a body on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Head,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    NotYet,
    Yes,
}

impl Visit {
    pub(crate) fn new(world: Arc<World>, wire: Arc<Wire>, line: Line, method: Method) -> Self {
        Self {
            world,
            wire,
            line,
            method,
            slot: None,
            ended: Ended::NotYet,
        }
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    pub(crate) fn admit(&mut self, slot: Slot) {
        self.slot = Some(slot);
        self.book().note(self.line, |totals, execution| {
            totals.admitted += 1;
            if let Some(execution) = execution {
                execution.admitted = true;
            }
        });
    }

    pub(crate) fn hit(&self, fault: &FaultKind) {
        self.book().note(self.line, |totals, execution| {
            totals.faults += 1;
            if let Some(execution) = execution {
                execution.fault = Some(fault.name());
            }
        });
    }

    pub(crate) fn executed(&self) {
        self.book().note(self.line, |totals, execution| {
            totals.executed += 1;
            if let Some(execution) = execution {
                execution.executed = true;
            }
        });
    }

    pub(crate) fn note(&self, note: impl FnOnce(&mut Execution)) {
        if self.line.is_none() {
            return;
        }
        self.book().note(self.line, |_, execution| {
            if let Some(execution) = execution {
                note(execution);
            }
        });
    }

    /// The last piece of the answer is about to be handed over.
    pub(crate) fn complete(mut self) {
        self.end();
        self.wire.answer_complete(self.line);
    }

    /// There is no answer; the connection ends in this way.
    pub(crate) fn end_connection(mut self, order: Order) {
        self.end();
        self.wire.order(order);
    }

    /// All of the answer has been handed over, but its end never comes.
    pub(crate) fn stall(&self) {
        self.wire.order(Order::Stall);
    }

    /// The client has gone.
    pub(crate) fn abandon(self) {}

    fn end(&mut self) {
        self.ended = Ended::Yes;
        // The place goes back first: whoever sees the end in the ledger finds the place free.
        self.slot = None;
        let end = self.book().stamp();
        self.note(|execution| execution.end = Some(end));
    }

    fn book(&self) -> &Book {
        &self.world.book
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if self.ended == Ended::NotYet {
            self.end();
            self.world.book.left(self.line);
        }
    }
}
