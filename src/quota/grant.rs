//! What a permit is granted for, and what its call is at.

use crate::model::Priority;

use super::clock::Moment;
use super::record::Line;
use super::share::Term;
use super::tenant::TenantId;

/// What a permit was granted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    /// Whose it is.
    pub(super) tenant: TenantId,
    /// How urgent its call is.
    pub(super) priority: Priority,
    /// How many permits it is; zero in a vacant slot.
    pub(super) permits: u32,
    /// How long it may be held.
    pub(super) term: Term,
    /// Since when it is held.
    pub(super) granted_at: Moment,
    /// Where its call is written down, once it is sent.
    pub(super) line: Option<Line>,
}

/// What a running call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One call.
    Call,
    /// A tunnel, in which calls come and go.
    Tunnel(Owes),
}

/// What kintone owes a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owes {
    /// The caller's byte was the last: an answer.
    Answer,
    /// kintone's byte was the last: nothing.
    Nothing,
}

/// When a call was sent, as kintone's counter may show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sending {
    /// Its number in the order of sending.
    pub(super) number: u64,
    /// Live permits then, its own among them.
    pub(super) live: u32,
    /// The fewest permits live at any time since, while calls settle.
    pub(super) fewest: u32,
}
