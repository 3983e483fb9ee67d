//! Durations and sizes as the file writes them: `250ms`, `1m30s`, `64KiB`.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads `250ms`, `10s`, `5m`, `1h` or a sum such as `1m30s`; `None` if it is anything else or
/// longer than a `u64` of milliseconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut total_ms = 0_u64;
    let mut rest = text;
    while !rest.is_empty() || total_ms == 0 && rest.as_ptr() == text.as_ptr() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, tail) = rest.split_at(digits);
        let letters = tail.len()
            - tail
                .trim_start_matches(|c: char| c.is_ascii_lowercase())
                .len();
        let (unit, tail) = tail.split_at(letters);
        let (_, unit_ms) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        let part_ms = count.parse::<u64>().ok()?.checked_mul(*unit_ms)?;
        total_ms = total_ms.checked_add(part_ms)?;
        rest = tail;
    }
    Some(Duration::from_millis(total_ms))
}

/// Reads a size in bytes: `64KiB`, `1MiB`, `512B`; `None` if it is anything else.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (count, unit) = text.split_at(digits);
    let (_, unit_bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?;
    count.parse::<u64>().ok()?.checked_mul(*unit_bytes)
}

/// Spells a duration as [`parse_duration`] reads it, in the largest unit that is exact; parts of a
/// millisecond are dropped.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    spell(ms, &DURATION_UNITS)
}

/// Spells a size in bytes as [`parse_size`] reads it, in the largest unit that is exact.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    spell(bytes, &SIZE_UNITS)
}

fn spell(value: u64, units: &[(&str, u64)]) -> String {
    let exact = units
        .iter()
        .find(|(_, unit)| value != 0 && value.is_multiple_of(*unit));
    let (name, unit) = exact.or_else(|| units.last()).copied().unwrap_or(("", 1));
    format!("{}{name}", value / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_sums_of_counts_with_units() {
        let ms = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(ms("250ms"), Some(250));
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("1h"), Some(3_600_000));
        assert_eq!(ms("0s"), Some(0));
        assert_eq!(ms("0s5ms"), Some(5));
        for bad in [
            "",
            "10",
            "s",
            "10 s",
            "-1s",
            "1.5s",
            "10S",
            "1d",
            "10s5",
            "99999999999999999999s",
        ] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
        assert_eq!(ms(&format!("{}h", u64::MAX)), None);
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("1MiB"), Some(1 << 20));
        assert_eq!(parse_size("0B"), Some(0));
        for bad in [
            "",
            "64",
            "64KB",
            "64 KiB",
            "KiB",
            "-1B",
            "18446744073709551615GiB",
        ] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_back(value in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(value);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(value)), Some(value));
        }
    }
}
