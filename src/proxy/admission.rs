//! How a call on its way comes to its permit.

use super::budget;
use super::exchange::Head;
use super::journey::{End, Journey};
use super::reply::{After, Reason};
use crate::model::Denial;
use crate::quota::{Ask, Permit, Term};
use crate::telemetry::live::Phase;

impl Journey<'_> {
    /// Waits for the permit, within the call's wait.
    pub(super) async fn admit(&mut self) -> Result<Permit, End> {
        self.foresee().map_err(budget::used_up)?;
        self.exchange.phase(Phase::Waiting);
        let admitted = {
            let term = self.term();
            let ask = Ask {
                term,
                ..self.call.ask(1)
            };
            tokio::select! {
                biased;
                admitted = self.shared.quotas.admit(ask) => Some(admitted),
                () = self.call.connection.caller_gone() => None,
            }
        };
        let permit = self.admitted(admitted)?;
        self.take_place().await?;
        Ok(permit)
    }

    /// The loan on which the call would have gone has ended before its first byte: it waits again.
    pub(super) async fn renew(&mut self, lapsed: Permit) -> Result<Permit, End> {
        self.exchange.phase(Phase::Waiting);
        let renewed = tokio::select! {
            biased;
            renewed = lapsed.renew() => Some(renewed),
            () = self.call.connection.caller_gone() => None,
        };
        self.admitted(renewed)
    }

    /// How long the call may take: a file, a new cursor or a body too long to be kept may take long.
    fn term(&self) -> Term {
        let is_kept = self.upload.as_ref().is_none_or(|upload| upload.is_short());
        let is_file = self.meaning.path.ends_with("/file.json");
        if is_kept && !is_file && !self.meaning.makes_cursor {
            Term::Short
        } else {
            Term::Long
        }
    }

    #[expect(
        clippy::result_large_err,
        reason = "made and taken apart once a call, never kept"
    )]
    fn admitted(&mut self, admitted: Option<Result<Permit, Denial>>) -> Result<Permit, End> {
        match admitted {
            Some(Ok(permit)) => {
                let queued = &mut self.exchange.record().queued;
                *queued = Some(queued.unwrap_or_default() + permit.waited());
                Ok(permit)
            }
            Some(Err(denial)) => {
                self.exchange.waited(denial);
                Err(End::Refuse(Reason::Denied(denial), After::Keep))
            }
            None => {
                self.exchange.abandoned(Head::Withheld);
                Err(End::Left)
            }
        }
    }
}
