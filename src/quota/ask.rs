//! What a call asks of the quota.

use std::time::Duration;

use crate::model::{Account, CallerName, Mode, Priority, Tenant};

/// A call that wants to go to kintone.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Where to.
    pub account: &'a Account,
    /// By which way in.
    pub mode: Mode,
    /// On whose behalf; `None`: its caller's.
    pub tenant: Option<&'a Tenant>,
    /// Who calls.
    pub caller: &'a CallerName,
    /// How urgent it is.
    pub priority: Priority,
    /// The caller's longest wait, if it has one of its own.
    pub caller_wait: Option<Duration>,
    /// The longest wait that the call itself names; zero: it does not wait.
    pub call_wait: Option<Duration>,
    /// Permits wanted: 1, or what a tunnel that offers h2 takes.
    pub weight: u32,
}
