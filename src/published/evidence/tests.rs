//! A host through its days.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use jiff::civil::Date;

use super::{Gap, Reader, Recorder, Statement, Why, read_day};
use crate::config::Evidence;

const ACME: &str = "acme.cybozu.com";
const BIND: Ipv4Addr = Ipv4Addr::new(10, 0, 12, 34);
const PUBLISHED: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 94);
const STRAY: Ipv4Addr = Ipv4Addr::new(10, 0, 12, 99);

/// An instant of 2026-11-25 and after in Japan, by day and time.
fn at(day: u8, time: &str) -> Timestamp {
    format!("2026-11-{day:02}T{time}+09:00").parse().unwrap()
}

fn date(day: i8) -> Date {
    Date::constant(2026, 11, day)
}

fn recorder(dir: &tempfile::TempDir, now: Timestamp) -> Recorder {
    Recorder::open(dir.path(), &Evidence::default(), now)
}

fn statement(dir: &tempfile::TempDir, day: i8, now: Timestamp) -> Statement {
    let recorded = read_day(dir.path(), date(day)).unwrap();
    Statement::new(
        ACME,
        date(day),
        recorded.as_ref(),
        "gw-a",
        now,
        Reader::Files,
    )
}

fn gap(from: &str, to: &str, why: Why) -> Gap {
    let full = |time: &str| match time.split_once(' ') {
        Some((day, time)) => format!("2026-11-{day}T{time}:00+09:00"),
        None => format!("2026-11-25T{time}:00+09:00"),
    };
    Gap {
        from: full(from),
        to: full(to),
        why,
    }
}

#[test]
fn a_day_says_what_left_and_when_nobody_looked() {
    let dir = tempfile::tempdir().unwrap();
    let first = recorder(&dir, at(25, "01:00:00"));
    first.record(ACME, BIND, Some(PUBLISHED), at(25, "02:00:00"));
    first.record(ACME, BIND, Some(PUBLISHED), at(25, "03:00:00"));
    first.record(
        "other.cybozu.com",
        BIND,
        Some(PUBLISHED),
        at(25, "03:00:00"),
    );
    first.close(at(25, "04:00:00"));
    // The next one is killed some time after its last word.
    let second = recorder(&dir, at(25, "05:00:00"));
    second.record(ACME, STRAY, None, at(25, "05:30:00"));
    second.save(at(25, "06:00:00"));
    second.record(ACME, BIND, Some(PUBLISHED), at(25, "06:30:00"));
    drop(second);
    let third = recorder(&dir, at(25, "07:00:00"));
    third.save(at(26, "08:00:00"));

    let of = statement(&dir, 25, at(27, "00:00:00"));
    assert_eq!((of.connections, of.outside, of.unrecorded), (3, 1, 0));
    let lines: Vec<_> = of
        .addresses
        .iter()
        .map(|line| {
            (
                line.published.as_deref(),
                line.local.as_str(),
                line.connections,
            )
        })
        .collect();
    let expected = [
        (Some("18.177.83.94"), "10.0.12.34", 2),
        (None, "10.0.12.99", 1),
    ];
    assert_eq!(lines, expected);
    assert_eq!(of.addresses[0].first, "2026-11-25T02:00:00+09:00");
    assert_eq!(of.addresses[0].last, "2026-11-25T03:00:00+09:00");
    let gaps = [
        gap("00:00", "01:00", Why::NoRecord),
        gap("04:00", "05:00", Why::Stopped),
        gap("06:00", "07:00", Why::Lost),
    ];
    assert_eq!(of.gaps, gaps);
    assert!(!of.complete);
    let text = of.to_string();
    assert!(
        text.contains("NOT PUBLISHED (socket 10.0.12.99): 1"),
        "{text}"
    );
    assert!(text.contains("outside the published list: 1"), "{text}");
}

#[test]
fn days_follow_each_other_without_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(&dir, at(25, "00:00:00"));
    assert_eq!(recorder.trouble(), None);
    recorder.record(ACME, BIND, Some(PUBLISHED), at(25, "23:59:59"));
    recorder.record(ACME, BIND, Some(PUBLISHED), at(26, "00:00:00"));
    recorder.save(at(26, "12:00:00"));
    for day in [25, 26] {
        let of = statement(&dir, day, at(26, "12:00:00"));
        assert_eq!((of.connections, of.gaps.len()), (1, 0), "{day}");
        assert!(of.complete);
    }
    // What the file lacks is said; the running gateway knows it.
    let of = statement(&dir, 26, at(26, "12:01:00"));
    assert_eq!(of.gaps, [gap("26 12:00", "26 12:01", Why::NotWritten)]);
    let live = recorder.today(date(26), at(26, "12:01:00")).unwrap();
    let now = at(26, "12:01:00");
    let of = Statement::new(ACME, date(26), Some(&live), "gw-a", now, Reader::Running);
    assert_eq!((of.gaps.len(), of.complete), (0, true));
    assert_eq!(recorder.today(date(25), now), None);
    // A clock that goes back for a moment loses nothing.
    recorder.record(ACME, BIND, Some(PUBLISHED), at(25, "12:00:00"));
    let live = recorder.today(date(26), now).unwrap();
    assert_eq!(live.accounts[ACME][0].connections, 2);
}

#[test]
fn of_a_day_without_a_record_nothing_is_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let of = statement(&dir, 25, at(26, "12:00:00"));
    assert_eq!((of.connections, of.complete), (0, false));
    assert_eq!(of.gaps, [gap("00:00", "26 00:00", Why::NoRecord)]);
    // A day that is still to come.
    assert_eq!(statement(&dir, 27, at(26, "12:00:00")).gaps, []);
    let folder = dir.path().join("evidence");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("2026-11-25.json"), "{").unwrap();
    assert!(read_day(dir.path(), date(25)).is_err());
    let recorder = recorder(&dir, at(25, "10:00:00"));
    recorder.close(at(25, "11:00:00"));
    assert!(folder.join("2026-11-25.damaged").exists());
    let gaps = statement(&dir, 25, at(25, "11:00:00")).gaps;
    assert_eq!(gaps, [gap("00:00", "10:00", Why::NoRecord)]);
}

#[test]
fn accounts_and_days_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Evidence {
        keep_days: 2,
        accounts: 2,
    };
    let recorder = Recorder::open(dir.path(), &settings, at(20, "00:00:00"));
    for account in ["a.cybozu.com", "b.cybozu.com", ACME, ACME] {
        recorder.record(account, BIND, Some(PUBLISHED), at(20, "01:00:00"));
    }
    recorder.save(at(20, "02:00:00"));
    let of = statement(&dir, 20, at(20, "02:00:00"));
    assert_eq!((of.connections, of.unrecorded, of.complete), (0, 2, false));
    for day in 21..=25 {
        recorder.save(at(day, "02:00:00"));
    }
    std::fs::write(dir.path().join("evidence/notes.txt"), "mine").unwrap();
    recorder.close(at(25, "03:00:00"));
    let mut names: Vec<_> = std::fs::read_dir(dir.path().join("evidence"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "2026-11-23.json",
        "2026-11-24.json",
        "2026-11-25.json",
        "notes.txt",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_gateway_that_is_killed_at_once_is_not_taken_for_one_that_did_not_run() {
    let dir = tempfile::tempdir().unwrap();
    recorder(&dir, at(25, "00:00:00")).close(at(25, "01:00:00"));
    let killed = recorder(&dir, at(25, "02:00:00"));
    killed.record(ACME, BIND, Some(PUBLISHED), at(25, "02:00:01"));
    drop(killed);
    let gaps = statement(&dir, 25, at(26, "00:00:00")).gaps;
    let expected = [
        gap("01:00", "02:00", Why::Stopped),
        gap("02:00", "26 00:00", Why::Lost),
    ];
    assert_eq!(gaps, expected);
}

#[test]
fn a_disk_that_takes_nothing_is_told_and_loses_only_what_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "no directory").unwrap();
    let recorder = Recorder::open(&state, &Evidence::default(), at(20, "00:00:00"));
    assert!(recorder.trouble().is_some());
    for day in 20..=27 {
        recorder.record(ACME, BIND, Some(PUBLISHED), at(day, "01:00:00"));
        recorder.save(at(day, "02:00:00"));
    }
    std::fs::remove_file(&state).unwrap();
    recorder.save(at(27, "03:00:00"));
    assert_eq!(recorder.trouble(), None);
    let there = |day| read_day(&state, date(day)).unwrap().is_some();
    assert!(there(24) && there(25) && there(26) && there(27));
    assert!(!there(23));
}
