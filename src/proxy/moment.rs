//! Moments as callers are told them: in Japan's time, RFC 3339.

use std::time::Duration;

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

/// So long from now on, whole seconds rounded up.
pub(crate) fn instant_in(after: Duration) -> String {
    in_japan(Timestamp::now() + Duration::from_secs(whole_seconds(after)))
}

/// That moment.
pub(crate) fn in_japan(at: Timestamp) -> String {
    let japan = TimeZone::fixed(Offset::constant(9));
    Zoned::new(at, japan)
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string()
}

/// Whole seconds, rounded up, at least 1.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}
