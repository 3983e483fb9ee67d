//! kintone's day: an app's calls are counted from 09:00 to 09:00 Japan time, which is from midnight
//! to midnight UTC
//! (<https://cybozu.dev/ja/kintone/tips/best-practices/performance/kintone-api-request-limit-exceeded-guide>).
//! Japan has no summer time, so every day has the same length.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// A day, by the date on which it begins. It is the same date in Japan and UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

/// How long a day is, in seconds.
const LENGTH_S: i64 = 86_400;

/// 9999-12-30: later ones have no end that can be told.
const LAST: u32 = 2_932_895;

impl Day {
    /// The day of that moment.
    #[must_use]
    pub fn of(moment: Timestamp) -> Self {
        let days = moment.as_second().div_euclid(LENGTH_S);
        Self(u32::try_from(days).unwrap_or_default().min(LAST))
    }

    /// The day of that number; `None`: there is none.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        if number <= LAST {
            Some(Self(number))
        } else {
            None
        }
    }

    /// Reads a date such as `2026-11-25`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let date: Date = text.parse().ok().filter(|_| is_plain)?;
        let begin = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
        let day = Self::of(begin);
        (day.begins() == begin).then_some(day)
    }

    /// Days since 1970-01-01.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// 09:00 Japan time of its date.
    #[must_use]
    pub fn begins(self) -> Timestamp {
        Timestamp::from_second(i64::from(self.0) * LENGTH_S).unwrap_or(Timestamp::MAX)
    }

    /// 09:00 Japan time of the next date, when counting starts anew.
    #[must_use]
    pub fn ends(self) -> Timestamp {
        self.after(1).begins()
    }

    /// So many days later.
    #[must_use]
    pub const fn after(self, days: u32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// So many days earlier, at the earliest 1970-01-01.
    #[must_use]
    pub const fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = TimeZone::UTC.to_datetime(self.begins()).date();
        fmt::Display::fmt(&date, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn it_turns_at_nine_in_japan() {
        let before = Day::of(at("2026-11-25T08:59:59.999+09:00"));
        let after = Day::of(at("2026-11-25T09:00:00+09:00"));
        assert_eq!(before.to_string(), "2026-11-24");
        assert_eq!(after.to_string(), "2026-11-25");
        assert_eq!(before.after(1), after);
        assert_eq!(after.before(1), before);
        assert_eq!(before.ends(), at("2026-11-25T09:00:00+09:00"));
        assert_eq!(after.begins(), before.ends());
    }

    #[test]
    fn a_date_is_read_as_it_is_written() {
        for date in ["1970-01-01", "2024-02-29", "2026-11-25", "2027-01-01"] {
            assert_eq!(Day::parse(date).unwrap().to_string(), date);
        }
        for no in [
            "",
            "2026-11-31",
            "2026-1-1",
            "20261125",
            "2026-11-25T00:00",
            "2026-11-25 ",
            "+02026-11-25",
            "1969-12-31",
            "9999-12-31",
        ] {
            assert_eq!(Day::parse(no), None, "{no:?}");
        }
    }

    #[test]
    fn numbers_are_read_back() {
        let day = Day::parse("2026-11-25").unwrap();
        assert_eq!(Day::from_number(day.number()), Some(day));
        assert_eq!(Day::from_number(u32::MAX), None);
        assert_eq!(Day::from_number(LAST).unwrap().to_string(), "9999-12-30");
    }
}
