//! Whether a connection carries another call, and whether a call reached kintone on it.

use super::line::Arrival;

/// Which connections a call may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Any idle one: the call is safe to repeat.
    Any,
    /// One that was idle for less than a second, so that kintone hardly closes it at this moment.
    Fresh,
    /// A new one.
    Never,
}

/// The error of [`Checkout::send`](super::Checkout::send).
#[derive(Debug)]
pub struct SendError {
    /// What happened; nothing where the connection had ended before.
    pub error: Option<hyper::Error>,
    /// Whether kintone can have seen the call.
    pub arrival: Arrival,
}

/// What became of a connection that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It waits for the next call.
    Pooled,
    /// As many wait for its host name as may (`pool_per_host`): it was closed.
    HostFull,
    /// As many wait in all as may (`pool_total`): it was closed.
    PoolFull,
    /// It cannot carry another call: it was closed.
    Closed,
}
