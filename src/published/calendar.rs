//! Days in Japan, where a date of the configuration begins at 00:00 JST.

use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

/// Japan has no summer time.
const JST: Offset = Offset::constant(9);

/// The day that it is in Japan.
#[must_use]
pub fn day(at: Timestamp) -> Date {
    JST.to_datetime(at).date()
}

/// 00:00 JST of a day; the last instant that can be told, for the last day there is.
#[must_use]
pub fn midnight(day: Date) -> Timestamp {
    JST.to_timestamp(day.to_datetime(jiff::civil::Time::midnight()))
        .unwrap_or(Timestamp::MAX)
}

/// The first day of which every hour lies at least so many days after `at`.
#[must_use]
pub fn day_after(at: Timestamp, days: u16) -> Date {
    if days == 0 {
        return day(at);
    }
    let begun = day(at);
    let is_midnight = midnight(begun) == at;
    let days = i64::from(days) + i64::from(!is_midnight);
    begun.saturating_add(Span::new().days(days))
}

/// When the next day begins.
#[must_use]
pub fn next_midnight(at: Timestamp) -> Timestamp {
    midnight(day(at).saturating_add(Span::new().days(1)))
}

/// The instant as Japan's clocks show it, with `+09:00`.
#[must_use]
pub fn in_japan(at: Timestamp) -> String {
    let zoned = at.to_zoned(TimeZone::fixed(JST));
    zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_begins_at_midnight_in_japan() {
        let last = at("2026-11-30T14:59:59Z");
        let first = at("2026-11-30T15:00:00Z");
        assert_eq!(day(last).to_string(), "2026-11-30");
        assert_eq!(day(first).to_string(), "2026-12-01");
        assert_eq!(midnight(day(first)), first);
        assert_eq!(next_midnight(last), first);
        assert_eq!(next_midnight(first), at("2026-12-01T15:00:00Z"));
        assert_eq!(in_japan(first), "2026-12-01T00:00:00+09:00");
    }

    #[test]
    fn days_of_notice_are_whole_ones() {
        let midnight = at("2026-11-30T15:00:00Z");
        let later = at("2026-11-30T15:00:01Z");
        assert_eq!(day_after(midnight, 30).to_string(), "2026-12-31");
        assert_eq!(day_after(later, 30).to_string(), "2027-01-01");
        assert_eq!(day_after(later, 0).to_string(), "2026-12-01");
        assert_eq!(day_after(Timestamp::MAX, 3650), Date::MAX);
    }
}
