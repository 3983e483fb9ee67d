//! What a call counts for among its apps' calls of the day, and whether their budgets have room.
//!
//! Where only the body says which app a call is about, its beginning is read before the first byte
//! goes to kintone, up to `replay` bytes; a body that expects a 100 is not. What is not known by
//! then is counted under `unknown` and, once the rest of the body has said it, moved.

use std::sync::Arc;

use smallvec::smallvec;
use tokio::time::Instant;

use super::call::Call;
use super::exchange::{Exchange, Head};
use super::fault::Fault;
use super::journey::{End, Journey};
use super::reply::{After, Reason};
use super::shared::Shared;
use crate::egress::Witness;
use crate::kintone::call::{Apps, Counted, Knowledge, Subject};
use crate::model::{CountedApp, DailyFigures, Denial, Detail};
use crate::quota::{Budget, Charge, Payer, Times};

/// A charge for a call, of which nothing is counted yet.
pub(crate) fn charge(
    shared: &Shared,
    call: &Call,
    counted: Counted,
    exchange: &Exchange,
) -> Option<Arc<Charge>> {
    if counted == Counted::No {
        return None;
    }
    let account = &call.destination.account;
    let budget = Budget::of(&call.rules.config, account);
    let record = exchange.known();
    let payer = Payer {
        account: account.clone(),
        tenant: record.tenant.clone(),
        purpose: record.purpose.clone(),
    };
    Some(shared.days.charge(payer, budget))
}

impl Journey<'_> {
    /// Whether the call's apps have room in their budgets, before it waits for a permit.
    pub(super) fn foresee(&self) -> Result<(), DailyFigures> {
        let Some(charge) = self.charge.as_ref().filter(|charge| charge.is_bounded()) else {
            return Ok(());
        };
        charge.foresee(&self.times(), self.call.ask(1).priority)
    }

    /// Takes the call's place in the budgets of its apps, for the next try.
    pub(super) async fn take_place(&mut self) -> Result<(), End> {
        let Some(charge) = self.charge.clone() else {
            return Ok(());
        };
        self.read_ahead().await?;
        let times = self.times();
        charge.resolve(&times);
        let placed = charge.reserve(&times, self.call.ask(1).priority);
        placed.map_err(used_up)
    }

    /// Which apps it is about is known by now, if it ever will be.
    pub(super) fn settle_charge(&self) {
        if let Some(charge) = &self.charge {
            charge.resolve(&self.times());
        }
    }

    /// kintone has not counted this try.
    pub(super) fn not_counted(&self) {
        if let Some(charge) = &self.charge {
            charge.take_back();
        }
    }

    /// Reads what the body says of the call, where its head does not.
    async fn read_ahead(&mut self) -> Result<(), End> {
        let Some(upload) = self.upload.as_ref().filter(|_| !self.expects_continue) else {
            return Ok(());
        };
        if self.meaning.app().is_some() || upload.has_said_all() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = upload.read_ahead() => {}
            () = self.call.connection.caller_gone() => {
                self.exchange.abandoned(Head::Withheld);
                return Err(End::Left);
            }
        }
        let detail = match upload.fault() {
            None => return Ok(()),
            Some(_) if self.call.connection.is_caller_gone() => {
                self.exchange.abandoned(Head::Withheld);
                return Err(End::Left);
            }
            Some(Fault::Cut) => Detail::RequestBodyCut,
            Some(Fault::Stalled) => Detail::CallerStalled,
        };
        let reason = Reason::Denied(Denial::bad_request(detail));
        Err(End::Refuse(reason, After::Keep))
    }

    /// How often the call counts for which apps, as far as is known.
    fn times(&self) -> Times {
        let unknown = || smallvec![(CountedApp::Unknown, 1)];
        if self.meaning.counted == Counted::Unknown {
            return unknown();
        }
        let subject = match &self.upload {
            // Half of what a body says is not what it says.
            Some(upload) if self.meaning.app().is_none() && !upload.has_said_all() => {
                return unknown();
            }
            Some(upload) => upload.subject(&self.meaning),
            None => self.meaning.subject(None),
        };
        match subject {
            Subject::Apps(apps) => times_of(&apps, self.meaning.counted),
            Subject::Cursor(id) => {
                let (cursors, account) = (&self.shared.cursors, &self.call.destination.account);
                match cursors.app(account, &id, Instant::now().into_std()) {
                    Some(app) => smallvec![(CountedApp::Known(app), 1)],
                    None => unknown(),
                }
            }
        }
    }
}

/// Each app once; in a bulk request once for each of its requests. Where a call names several apps
/// and it is not clear which it means, it counts for all of them.
fn times_of(apps: &Apps, counted: Counted) -> Times {
    let mut times: Times = apps
        .iter()
        .map(|(app, times)| match counted {
            Counted::Inner => (CountedApp::Known(app), times),
            Counted::Yes | Counted::No | Counted::Unknown => (CountedApp::Known(app), 1),
        })
        .collect();
    let has_more = apps.knowledge() == Knowledge::Part;
    if has_more && (times.is_empty() || counted == Counted::Inner) {
        times.push((CountedApp::Unknown, 1));
    }
    times
}

/// Where the journey of a call ends that has no room in a budget.
pub(super) const fn used_up(figures: DailyFigures) -> End {
    let reason = Reason::Denied(Denial::DailyBudget(Some(figures)));
    End::Refuse(reason, After::Keep)
}

impl Witness for Charge {
    fn begin(&self) {
        Self::begin(self);
    }

    fn begun(&self) {
        Self::begun(self);
    }

    fn not_begun(&self) {
        Self::not_begun(self);
    }
}
