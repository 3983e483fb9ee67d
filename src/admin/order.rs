//! What operators can tell the gateway to do.

use tokio::sync::oneshot;

use crate::model::Account;

/// An order, and where its result goes.
#[derive(Debug)]
pub struct Command {
    /// What to do.
    pub order: Order,
    /// To be answered when it is done; for a drain, when it has begun.
    pub answer: oneshot::Sender<Result<Carried, Refusal>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Read the configuration again.
    Reload,
    /// Take the host out of rotation.
    Drain(AfterDrain),
    /// Take it into rotation again.
    Undrain,
    /// Let calls go again to an account that was closed because kintone did not know it.
    Confirm(Account),
}

/// What follows a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterDrain {
    /// The process ends, as on SIGTERM.
    Exit,
    /// It stays, out of rotation, until it is told otherwise.
    Stay,
}

/// An order was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Carried {
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Keys whose change takes effect at the next start.
    pub needs_restart: Vec<String>,
}

/// An order was refused, and nothing was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Why; for a reload the faults of the file, one each.
    pub faults: Vec<String>,
}
