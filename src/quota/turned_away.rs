//! A call that cannot go at once: it waits, or it is refused and told why.

use std::time::Duration;

use crate::model::Denial;

use super::account::{Answer, Answers, Receiver, Waiter};
use super::books::{Books, Want};
use super::clock::Moment;
use super::entrant::Entrant;
use super::forecast::{Forecast, Reason};
use super::queue::Place;
use super::sync::oneshot;
use super::tenant::Ticket;

impl Books<Waiter> {
    /// Lets an entrant wait, unless it is known that its turn cannot come in time or too many wait.
    pub(super) fn line_up(
        &mut self,
        entrant: &Entrant<'_>,
        want: Want,
        deadline: Moment,
        now: Moment,
        answers: &mut Answers,
    ) -> Result<(Ticket, Receiver), Denial> {
        if !self.may_overtake(want, now) {
            let waited = now.since(entrant.asked_at);
            let forecast = self.forecast(want, entrant.place, now);
            if let Some(reason) = forecast.verdict(deadline.since(now)) {
                return Err(refusal(self, reason, waited, &forecast));
            }
            let is_full = self.queue.len() >= self.plan.quota.queue;
            if is_full && entrant.place == Place::Back {
                let Some(victim) = self.queue.displaced(want.tenant, want.priority) else {
                    return Err(refusal(self, Reason::Full, waited, &forecast));
                };
                answers.extend(displace(self, victim, now));
            }
        }
        let (sender, receiver) = oneshot::channel();
        let waiter = Waiter {
            caller: entrant.caller.clone(),
            asked_at: entrant.asked_at,
            answer: sender,
        };
        Ok((self.wait(want, entrant.place, waiter), receiver))
    }
}

/// Counts a refusal, and says why with the figures.
pub(super) fn refusal(
    books: &mut Books<Waiter>,
    reason: Reason,
    waited: Duration,
    forecast: &Forecast,
) -> Denial {
    if let Some(denial) = books.held_back() {
        return denial;
    }
    let figures = books.figures(waited, forecast);
    match reason {
        Reason::Rate => {
            books.counts.rate_limited += 1;
            Denial::RateLimited(figures)
        }
        Reason::Full => {
            books.counts.queue_full += 1;
            Denial::QueueFull(figures)
        }
        Reason::Wait => {
            books.counts.wait_exceeded += 1;
            Denial::WaitExceeded(figures)
        }
    }
}

fn displace(books: &mut Books<Waiter>, victim: Ticket, now: Moment) -> Option<Answer> {
    let waiting = books.queue.remove(victim)?;
    let want = Want {
        tenant: victim.tenant,
        priority: victim.priority,
        permits: waiting.permits,
        term: waiting.term,
    };
    let forecast = books.forecast(want, Place::Back, now);
    let waited = now.since(waiting.waiter.asked_at);
    let denial = refusal(books, Reason::Full, waited, &forecast);
    Some((waiting.waiter.answer, Err(denial)))
}
