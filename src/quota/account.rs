//! One account: its books behind a lock, and those who hold or await its permits.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;

use crate::model::outcome::QuotaFigures;
use crate::model::{Account, CallerName, Denial, Priority};

use super::books::{Books, Want};
use super::clock::{Clock, Moment};
use super::closures::{Closure, Closures};
use super::entrant::{Deadline, Entrant};
use super::forecast::Reason;
use super::health::Event;
use super::in_use::Slot;
use super::queue::Place;
use super::share::{Standing, Term};
use super::sync::{Mutex, MutexGuard, oneshot, timeout_at};
use super::tenant::Ticket;
use super::turned_away::refusal;
use super::wakes::Wakes;

/// One account.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) account: Account,
    pub(super) clock: Clock,
    number: u64,
    wakes: Arc<Wakes<Weak<Self>>>,
    closures: Arc<Closures>,
    /// Held for the length of one step, never across an await.
    books: Mutex<Books<Waiter>>,
}

/// Who waits for a permit.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Its caller.
    pub(super) caller: CallerName,
    /// When it was first asked for.
    pub(super) asked_at: Moment,
    pub(super) answer: Sender,
}

/// A permit, as the books count it. Dropped, it goes back: at once if nothing was sent, else when
/// kintone is certain to have ended.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) cell: Arc<Cell>,
    pub(super) slot: Slot,
    pub(super) granted_at: Moment,
    is_open: bool,
}

/// What became of an entrant.
#[derive(Debug)]
pub(super) enum Entered {
    /// It has its permit.
    Granted(Held, Moment),
    /// It waits.
    Queued(Queued),
}

/// A waiting call. Dropped, it leaves the queue.
#[derive(Debug)]
pub(super) struct Queued {
    cell: Arc<Cell>,
    ticket: Ticket,
    want: Want,
    asked_at: Moment,
    deadline: Moment,
    answer: Receiver,
    is_waiting: bool,
}

/// The ends of the way on which a waiting call is answered.
pub(super) type Sender = oneshot::Sender<Result<Held, Denial>>;
pub(super) type Receiver = oneshot::Receiver<Result<Held, Denial>>;

/// An answer to a waiting call.
pub(super) type Answer = (Sender, Result<Held, Denial>);

/// Answers that are sent after the lock is released.
pub(super) type Answers = Vec<Answer>;

impl Cell {
    /// An account with these books.
    pub(super) fn new(
        account: Account,
        number: u64,
        clock: Clock,
        wakes: Arc<Wakes<Weak<Self>>>,
        closures: Arc<Closures>,
        books: Books<Waiter>,
    ) -> Self {
        Self {
            account,
            clock,
            number,
            wakes,
            closures,
            books: Mutex::new(books),
        }
    }

    /// Its books. A panic elsewhere leaves them whole: steps are short and do not call out.
    pub(super) fn books(&self) -> MutexGuard<'_, Books<Waiter>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for a step that learns or forecasts.
    fn books_at(&self, now: Moment) -> MutexGuard<'_, Books<Waiter>> {
        let mut books = self.books();
        books.awake_since = self.wakes.pulse.awake_since(now);
        books
    }

    /// Grants a permit, refuses it, or lets the call wait.
    pub(super) fn enter(
        self: &Arc<Self>,
        entrant: &Entrant<'_>,
        now: Moment,
    ) -> Result<Entered, Denial> {
        let mut books = self.books_at(now);
        if let Some(denial) = books.gate(&self.account, entrant.mode, now) {
            return Err(denial);
        }
        let deadline = match entrant.deadline {
            Deadline::At(deadline) => deadline,
            Deadline::Of { caller, call } => {
                now.after(books.plan.wait(entrant.priority, caller, call))
            }
        };
        let most = books.most(entrant.term);
        let want = Want {
            tenant: books.tenant(entrant.tenant),
            priority: entrant.priority,
            permits: entrant.permits.clamp(1, most.max(1)),
            term: entrant.term,
        };
        if let Some(slot) = books.start(want, now) {
            drop(books);
            return Ok(Entered::Granted(self.held(slot, now), deadline));
        }
        self.queue(books, entrant, want, deadline, now)
            .map(Entered::Queued)
    }

    /// Refuses a call that came back from kintone when its wait was over.
    pub(super) fn out_of_time(&self, tenant: &str, priority: Priority, waited: Duration) -> Denial {
        let now = self.clock.moment();
        let mut books = self.books_at(now);
        let want = Want {
            tenant: books.tenant(tenant),
            priority,
            permits: 1,
            term: Term::Short,
        };
        let forecast = books.forecast(want, Place::Front, now);
        refusal(&mut books, Reason::Wait, waited, &forecast)
    }

    /// Does a step on the books, then grants what has become free.
    pub(super) fn step<R>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Books<Waiter>, Moment) -> R,
    ) -> R {
        let now = self.clock.moment();
        let mut books = self.books_at(now);
        let result = act(&mut books, now);
        let answers = self.grant(&mut books, now);
        drop(books);
        deliver(answers);
        result
    }

    /// Acts on what an answer has shown.
    pub(super) fn learn(self: &Arc<Self>, event: Event) {
        let account = &self.account;
        match event {
            Event::Opened => {
                tracing::warn!(%account, "kintone is in maintenance: calls are refused");
            }
            Event::Recovered => tracing::info!(%account, "kintone serves again"),
            Event::Unknown(answers) => self.close_unknown(answers),
        }
    }

    /// Looks what is announced for the account.
    pub(super) fn look_at_windows(self: &Arc<Self>, today: Timestamp) {
        self.step(|books, now| books.look_at_windows(&self.account, now, today));
    }

    fn close_unknown(self: &Arc<Self>, answers: u32) {
        let account = &self.account;
        let plan = Arc::clone(&self.books().plan);
        let closure = Closure {
            account: account.to_string(),
            closed_at: Timestamp::now(),
            answers,
            table: plan.circuit.tables.get(account).cloned(),
        };
        if self
            .closures
            .close(closure, plan.circuit.settings.unknown_per_hour)
        {
            tracing::error!(
                %account,
                answers,
                "kintone does not know this domain: calls are refused until somebody confirms it"
            );
            self.step(|books, _| books.close_unknown());
        } else {
            tracing::warn!(
                %account,
                answers,
                "kintone does not know this domain; it stays open, for too many were closed within \
                 the hour: kintone itself may err"
            );
        }
    }

    /// What the clockwork does when the account's time has come.
    pub(super) fn tick(self: &Arc<Self>) {
        self.step(|books, now| {
            books.wake = None;
            books.tick(now);
        });
    }

    /// For how long it has been idle, if nothing would be lost with it.
    pub(super) fn idle(&self, now: Moment) -> Option<Duration> {
        let books = self.books();
        let is_idle = books.is_forgettable(now);
        is_idle.then(|| now.since(books.used_at()))
    }

    /// Gives back memory that a rush has left.
    pub(super) fn shrink_memory(&self) {
        self.books().shrink_memory();
    }

    fn queue(
        self: &Arc<Self>,
        mut books: MutexGuard<'_, Books<Waiter>>,
        entrant: &Entrant<'_>,
        want: Want,
        deadline: Moment,
        now: Moment,
    ) -> Result<Queued, Denial> {
        let mut answers = self.grant(&mut books, now);
        let queued = books.line_up(entrant, want, deadline, now, &mut answers);
        answers.extend(self.grant(&mut books, now));
        let is_pressed = books.queue.len() == 1 && !matches!(books.standing, Standing::Fixed);
        // Answers may hold permits: none of them may be dropped under the lock.
        drop(books);
        if is_pressed {
            self.wakes.pressed.notify_one();
        }
        deliver(answers);
        let (ticket, answer) = queued?;
        Ok(Queued {
            cell: Arc::clone(self),
            ticket,
            want,
            asked_at: entrant.asked_at,
            deadline,
            answer,
            is_waiting: true,
        })
    }

    fn grant(self: &Arc<Self>, books: &mut Books<Waiter>, now: Moment) -> Answers {
        if books.is_settled() {
            return Answers::new();
        }
        if let Some(denial) = books.turned_away(now) {
            let waiting = books.queue.drain().into_iter();
            return waiting.map(|waiter| (waiter.answer, Err(denial))).collect();
        }
        let mut granted = Vec::new();
        books.pump(now, &mut granted);
        if let Some(wake) = books.next_wake(now) {
            let is_sooner = books.wake.is_none_or(|old| old <= now || wake < old);
            if is_sooner {
                let entry = (wake, Arc::downgrade(self));
                self.wakes.reschedule(self.number, books.wake, Some(entry));
                books.wake = Some(wake);
            }
        }
        let answer = |(waiter, slot): (Waiter, Slot)| (waiter.answer, Ok(self.held(slot, now)));
        granted.into_iter().map(answer).collect()
    }

    fn held(self: &Arc<Self>, slot: Slot, now: Moment) -> Held {
        Held {
            cell: Arc::clone(self),
            slot,
            granted_at: now,
            is_open: true,
        }
    }
}

impl Held {
    /// Ends the permit by a step that gives it back.
    pub(super) fn close<R>(mut self, act: impl FnOnce(&mut Books<Waiter>, Slot, Moment) -> R) -> R {
        self.is_open = false;
        self.cell.step(|books, now| act(books, self.slot, now))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_open {
            self.cell.step(|books, now| books.abandon(self.slot, now));
        }
    }
}

impl Queued {
    /// Waits for the permit until the deadline.
    pub(super) async fn outcome(mut self) -> Result<(Held, Moment), Denial> {
        let until = self.cell.clock.instant(self.deadline);
        let answered = match timeout_at(until, &mut self.answer).await {
            Ok(answered) => answered,
            Err(_elapsed) => match self.give_up() {
                Some(denial) => return Err(denial),
                // It was granted or refused in this very moment.
                None => (&mut self.answer).await,
            },
        };
        self.is_waiting = false;
        // The sender is dropped unused only if this call is taken out of the queue, by itself.
        let held = answered.unwrap_or(Err(Denial::WaitExceeded(QuotaFigures::default())))?;
        Ok((held, self.deadline))
    }

    fn give_up(&mut self) -> Option<Denial> {
        self.cell.step(|books, now| {
            books.queue.remove(self.ticket)?;
            let forecast = books.forecast(self.want, Place::Back, now);
            let reason = match forecast.verdict(Duration::ZERO) {
                Some(Reason::Rate) => Reason::Rate,
                Some(Reason::Full | Reason::Wait) | None => Reason::Wait,
            };
            let waited = now.since(self.asked_at);
            Some(refusal(books, reason, waited, &forecast))
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.is_waiting {
            self.cell.step(|books, _| books.queue.remove(self.ticket));
        }
    }
}

/// Sends the answers. A permit whose taker has just left comes back here and is dropped, which gives
/// it back; so no lock may be held.
fn deliver(answers: Answers) {
    for (sender, answer) in answers {
        drop(sender.send(answer));
    }
}
