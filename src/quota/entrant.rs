//! A call at the door of its account.

use std::time::Duration;

use crate::model::{CallerName, Mode, Priority, Tenant};

use super::clock::Moment;
use super::queue::Place;
use super::share::Term;

/// A call at the door.
#[derive(Debug)]
pub(super) struct Entrant<'a> {
    pub(super) tenant: &'a str,
    pub(super) caller: &'a CallerName,
    pub(super) mode: Mode,
    pub(super) priority: Priority,
    pub(super) permits: u32,
    pub(super) term: Term,
    pub(super) place: Place,
    pub(super) asked_at: Moment,
    /// When its wait ends.
    pub(super) deadline: Deadline,
}

/// When a wait ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Deadline {
    /// After the shortest of these and the account's.
    Of {
        /// The caller's wait.
        caller: Option<Duration>,
        /// The call's own.
        call: Option<Duration>,
    },
    /// Then.
    At(Moment),
}

impl Entrant<'_> {
    /// The tenant of a call: the one it names, else its caller.
    pub(super) fn tenant_of<'a>(tenant: Option<&'a Tenant>, caller: &'a CallerName) -> &'a str {
        tenant.map_or_else(|| caller.as_str(), Tenant::as_str)
    }
}
