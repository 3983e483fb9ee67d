//! Time as one host's clock shows it.

use std::time::Duration;

#[cfg(test)]
#[allow(unused_imports, reason = "only the model checker asks for it")]
pub(crate) use relative::see_from;

/// A reading of this host's clock that goes on while the host is suspended (`CLOCK_BOOTTIME`), in
/// nanoseconds since it booted. Those of different hosts are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So long after the boot.
    #[must_use]
    pub const fn from_boot(span: Duration) -> Self {
        Self(nanos(span))
    }

    /// How long after the boot this is.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This and `span` later, at most the end of time.
    #[must_use]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// A span in nanoseconds, at most 584 years.
const fn nanos(span: Duration) -> u64 {
    let nanos = span.as_nanos();
    if nanos > u64::MAX as u128 {
        u64::MAX
    } else {
        nanos as u64
    }
}

/// Moments as a model checker tells them apart: by how far they are from its present, and those long
/// past not at all.
#[cfg(test)]
mod relative {
    use std::cell::Cell;
    use std::hash::{Hash, Hasher};

    use super::Moment;

    thread_local! {
        static PRESENT: Cell<(u64, u64)> = const { Cell::new((0, u64::MAX)) };
    }

    /// From here on this thread sees moments from `present`, and as one those that are further back
    /// than `horizon` nanoseconds.
    #[allow(dead_code, reason = "only the model checker asks for it")]
    pub(crate) fn see_from(present: Moment, horizon: u64) {
        PRESENT.set((present.0, horizon));
    }

    impl Hash for Moment {
        fn hash<H: Hasher>(&self, state: &mut H) {
            let (present, horizon) = PRESENT.get();
            let oldest = present.saturating_sub(horizon);
            (self.0.max(oldest)).wrapping_sub(present).hash(state);
        }
    }
}
