//! The borrower's side: what may be used of loans, and what is given back.

use std::time::Duration;

use crate::fleet::moment::Moment;

use super::beat::Urgency;
use super::entry::Entry;
use super::lend::Plan;
use super::rules::Rule;
use super::standing::Access;
use super::state::Ledger;

/// For so long permits that nobody else wants are kept without need.
const KEPT: Duration = Duration::from_secs(10);

impl Ledger {
    /// Decides how many calls may start on each loan: all but what its lender wants back, what others
    /// miss more, and what was not needed for a while.
    pub(super) fn borrow(&self, entry: &mut Entry, plan: &Plan, now: Moment) {
        if entry.held.is_empty() {
            return;
        }
        if entry.demand() > entry.own() {
            entry.needed_at = now;
        }
        let is_covered = entry.own() >= self.terms.workers || !self.rules.hold(Rule::CoverThreads);
        let is_idle = now.since(entry.needed_at) >= KEPT;
        let is_open = self.standing.access == Access::Open;
        let mut surplus = plan.surplus(entry);
        for held in &mut entry.held {
            let is_gone = self.standing.is_evicted(held.lender);
            if !is_open || !is_covered || is_idle || is_gone {
                held.usable = 0;
                continue;
            }
            let recalled = held.recalled.min(held.permits);
            let more = surplus.min(held.permits - recalled);
            held.usable = held.permits - recalled - more;
            surplus -= more;
        }
    }

    /// Lists no more of the loans than calls need: those that run, and those that may start.
    pub(super) fn give_back(&self, entry: &mut Entry, in_use: u32, now: Moment) -> Urgency {
        let needed = in_use.max(entry.usable(now)).saturating_sub(entry.own());
        let mut excess = match self.rules.hold(Rule::ReturnDrained) {
            true => entry.listed().saturating_sub(needed),
            false => u32::MAX,
        };
        let before = entry.listed();
        for held in &mut entry.held {
            let usable = if now < held.until { held.usable } else { 0 };
            if usable == 0 && now >= held.until && !self.rules.hold(Rule::ListExpired) {
                held.permits = 0;
            }
            let back = (held.permits.saturating_sub(usable)).min(excess);
            held.permits -= back;
            held.recalled = held.recalled.min(held.permits);
            excess -= back;
        }
        entry.held.retain(|held| held.permits > 0);
        if entry.listed() < before {
            Urgency::Nudge
        } else {
            Urgency::None
        }
    }
}
