//! What there is to say about the addresses at one moment.

use tokio::time::Instant;

use super::verify::{Seen, Verification};
use crate::config::AddressState;
use crate::model::{Bind, Published};

/// Whether a bind address is on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    /// A socket can be bound to it.
    Up,
    /// It cannot: the address has left, or never came.
    Absent,
}

/// What there is to say about one address with a bind on this host.
#[derive(Clone, Debug)]
pub struct AddressSnapshot {
    /// What customers see.
    pub published: Published,
    /// What is bound on this host.
    pub bind: Bind,
    /// Whether it is in use, as published at this moment.
    pub state: AddressState,
    /// Whether it is on this host.
    pub presence: Presence,
    /// Since when.
    pub since: Instant,
    /// What echoes say of it; `None` without `[verify]`.
    pub verification: Option<Verification>,
    /// Connections to kintone that are open, idle ones included. Each uses one local port.
    pub open: usize,
    /// Those of them that are idle.
    pub pooled: usize,
}

impl AddressSnapshot {
    /// Whether it is in use and on this host.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.state == AddressState::Active && self.presence == Presence::Up
    }

    /// Whether calls can leave from it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let seen = self.verification.as_ref().map(|it| it.seen);
        self.is_wanted() && seen.is_none_or(|seen| seen == Seen::Published)
    }
}
