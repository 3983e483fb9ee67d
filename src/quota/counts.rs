//! What an account has counted.

/// Running totals of one account.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    /// Permits granted.
    pub(super) acquired: u64,
    /// Permits given back.
    pub(super) released: u64,
    /// Calls refused because of the rate.
    pub(super) rate_limited: u64,
    /// Calls refused because too many wait.
    pub(super) queue_full: u64,
    /// Calls refused because no permit comes in time.
    pub(super) wait_exceeded: u64,
}
