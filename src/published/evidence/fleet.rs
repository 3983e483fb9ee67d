//! What can be said to a customer about a day, of all hosts.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::day::Day;
use super::statement::{Reader, Statement};

/// The connections of one account on one day, as all hosts recorded them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FleetStatement {
    /// Of the host that is asked.
    #[serde(flatten)]
    pub own: Statement,
    /// Of the other hosts, as they told them.
    pub others: Vec<Statement>,
    /// All of them together.
    pub fleet: Sum,
}

/// The figures of all hosts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Connections.
    pub connections: u64,
    /// Those from an address for which nothing was on the published list.
    pub outside: u64,
    /// Whether nothing is missing of any host.
    pub complete: bool,
}

/// What is known of another host's record.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Which host.
    pub host: &'a str,
    /// What it has told of the day.
    pub told: Option<&'a Day>,
    /// Whether it goes on telling.
    pub voice: Voice,
}

/// Whether a host goes on telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// What it told last is of the last seconds: nothing is missing up to then.
    Heard,
    /// It is not heard of.
    Silent,
}

impl FleetStatement {
    /// The statement of all hosts, of which `own` is this one's.
    #[must_use]
    pub fn new<'a>(
        own: Statement,
        day: Date,
        others: impl Iterator<Item = Known<'a>>,
        now: Timestamp,
    ) -> Self {
        let others: Vec<_> = others
            .map(|known| {
                let last = known.told.and_then(|day| day.runs.last());
                // A statement of a day that goes on ends with the last word.
                let as_of = match (known.voice, last) {
                    (Voice::Heard, Some(run)) => run.until.min(now),
                    _ => now,
                };
                Statement::new(
                    &own.account,
                    day,
                    known.told,
                    known.host,
                    as_of,
                    Reader::Told,
                )
            })
            .collect();
        let all = || others.iter().chain([&own]);
        let fleet = Sum {
            connections: all().map(|one| one.connections).sum(),
            outside: all().map(|one| one.outside).sum(),
            complete: all().all(|one| one.complete),
        };
        Self { own, others, fleet }
    }
}

impl fmt::Display for FleetStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.own)?;
        for other in &self.others {
            write!(f, "{other}")?;
        }
        if self.others.is_empty() {
            return Ok(());
        }
        let Sum {
            connections,
            outside,
            complete,
        } = self.fleet;
        let complete = if complete { "yes" } else { "no" };
        writeln!(
            f,
            "all hosts: {connections}, outside the published list: {outside}, complete: {complete}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::day::Run;
    use super::super::statement::{Gap, Why};
    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-25T{time}+09:00").parse().expect("a time")
    }

    fn recorded(until: &str, connections: u64) -> Day {
        let mut day = Day::new(Date::constant(2026, 11, 25));
        day.runs.push(Run {
            from: at("00:00:00"),
            until: at(until),
            closed: false,
        });
        for _ in 0..connections {
            let local = [10, 0, 12, 34].into();
            day.record("acme.cybozu.com", local, None, at("01:00:00"), 10);
        }
        day
    }

    fn gaps(of: &Statement) -> Vec<(&str, Why)> {
        let gap = |gap: &Gap| (gap.from.get(11..16).map(str::to_owned), gap.why);
        let gaps = of.gaps.iter().map(gap);
        gaps.map(|(from, why)| {
            (
                if from.as_deref() == Some("00:00") {
                    "00:00"
                } else {
                    "12:00"
                },
                why,
            )
        })
        .collect()
    }

    #[test]
    fn the_hosts_add_up_and_what_was_not_heard_is_named() {
        let day = Date::constant(2026, 11, 25);
        let now = at("12:00:09");
        let own = recorded("12:00:09", 3);
        let own = Statement::new(
            "acme.cybozu.com",
            day,
            Some(&own),
            "gw-a",
            now,
            Reader::Running,
        );
        let told = recorded("12:00:00", 2);
        let of = |told, voice| {
            let known = Known {
                host: "gw-b",
                told,
                voice,
            };
            FleetStatement::new(own.clone(), day, [known].into_iter(), now)
        };
        let heard = of(Some(&told), Voice::Heard);
        assert_eq!((heard.fleet.connections, heard.fleet.outside), (5, 5));
        assert!(heard.fleet.complete, "{heard}");
        assert_eq!(heard.others[0].to, "2026-11-25T12:00:00+09:00");
        let silent = of(Some(&told), Voice::Silent);
        assert_eq!(silent.fleet.connections, 5);
        assert!(!silent.fleet.complete && silent.own.complete);
        assert_eq!(gaps(&silent.others[0]), [("12:00", Why::NotHeard)]);
        let never = of(None, Voice::Silent);
        assert_eq!(never.fleet.connections, 3);
        assert!(!never.fleet.complete);
        assert_eq!(gaps(&never.others[0]), [("00:00", Why::NotHeard)]);
    }
}
