//! The clock by which loans end.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How long the machine has been up, suspensions included (`CLOCK_BOOTTIME`, clock_gettime(2)).
/// tokio's clock stands still while the machine is suspended, and other hosts do not wait for it.
#[must_use]
pub fn since_boot() -> Duration {
    // It fails only where the kernel has no such clock. Then every loan has ended.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}
