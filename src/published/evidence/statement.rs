//! What can be said to a customer about a day.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;

use super::day::{Day, Seen};
use crate::published::calendar::{in_japan, midnight, next_midnight};

/// The connections of one account on one day, as one host recorded them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The account.
    pub account: String,
    /// The day.
    pub day: Date,
    /// Its first instant, and the one after its last or that of the statement, RFC 3339 with +09:00.
    pub from: String,
    /// See `from`.
    pub to: String,
    /// The host that recorded; other hosts have their own.
    pub host: String,
    /// Connections by local address.
    pub addresses: Vec<Line>,
    /// All of them.
    pub connections: u64,
    /// Those from an address for which nothing was on the published list.
    pub outside: u64,
    /// When nothing could be recorded.
    pub gaps: Vec<Gap>,
    /// Connections of that day whose account was not written down for want of room.
    pub unrecorded: u64,
    /// Whether nothing is missing: no gap but those in which no gateway ran, and nothing unrecorded.
    pub complete: bool,
}

/// Connections from one local address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What was published for it, if anything.
    pub published: Option<String>,
    /// The local address of the sockets, as the kernel gave it.
    pub local: String,
    /// How many connections.
    pub connections: u64,
    /// The first one, RFC 3339 with +09:00.
    pub first: String,
    /// The last one.
    pub last: String,
}

/// A time of which nothing is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// From here, RFC 3339 with +09:00.
    pub from: String,
    /// Until here.
    pub to: String,
    /// Why.
    pub why: Why,
}

/// Why nothing is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The gateway had ended: it made no connection.
    Stopped,
    /// The gateway ended without a word: connections of the time before it did may be missing.
    Lost,
    /// There is no record of it: no gateway ran here, or its record is gone.
    NoRecord,
    /// The running gateway has not written it down yet; or it ended without a word.
    NotWritten,
    /// Nothing was heard of that host: what it recorded then is known there.
    NotHeard,
}

/// Where the days come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The running gateway, which knows all until now.
    Running,
    /// The files, which may lie behind.
    Files,
    /// What another host has told.
    Told,
}

impl Statement {
    /// The statement about `account` on `day`, of which `recorded` is known, as of `now`.
    #[must_use]
    pub fn new(
        account: &str,
        day: Date,
        recorded: Option<&Day>,
        host: &str,
        now: Timestamp,
        reader: Reader,
    ) -> Self {
        let begin = midnight(day);
        let end = next_midnight(begin).min(now.max(begin));
        let is_over = next_midnight(begin) <= now;
        let seen = recorded.and_then(|day| day.accounts.get(account));
        let seen: &[Seen] = seen.map_or(&[], Vec::as_slice);
        let count = |seen: &mut dyn Iterator<Item = &Seen>| seen.map(|one| one.connections).sum();
        let gaps = gaps(recorded, begin, end, is_over, reader);
        let unrecorded = recorded.map_or(0, |day| day.unrecorded);
        let complete = unrecorded == 0 && gaps.iter().all(|gap| gap.why == Why::Stopped);
        Self {
            account: account.to_owned(),
            day,
            from: in_japan(begin),
            to: in_japan(end),
            host: host.to_owned(),
            addresses: seen.iter().map(Line::from).collect(),
            connections: count(&mut seen.iter()),
            outside: count(&mut seen.iter().filter(|one| one.published.is_none())),
            gaps,
            unrecorded,
            complete,
        }
    }
}

fn gaps(
    recorded: Option<&Day>,
    begin: Timestamp,
    end: Timestamp,
    is_over: bool,
    reader: Reader,
) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut add = |from: Timestamp, to: Timestamp, why| {
        if from < to {
            gaps.push(Gap {
                from: in_japan(from),
                to: in_japan(to),
                why,
            });
        }
    };
    let (mut at, mut why) = (begin, Why::NoRecord);
    for run in recorded.iter().flat_map(|day| &day.runs) {
        add(at, run.from.min(end), why);
        at = at.max(run.until);
        why = if run.closed { Why::Stopped } else { Why::Lost };
    }
    let is_unknown = recorded.is_none_or(|day| day.runs.is_empty());
    let why = match (why, is_over, reader) {
        (Why::Lost, false, Reader::Files) => Why::NotWritten,
        (Why::Lost, _, Reader::Told) => Why::NotHeard,
        (Why::NoRecord, _, Reader::Told) if is_unknown => Why::NotHeard,
        _ => why,
    };
    add(at, end, why);
    gaps
}

impl From<&Seen> for Line {
    fn from(seen: &Seen) -> Self {
        Self {
            published: seen.published.map(|address| address.to_string()),
            local: seen.local.to_string(),
            connections: seen.connections,
            first: in_japan(seen.first),
            last: in_japan(seen.last),
        }
    }
}

impl Why {
    const fn words(self) -> &'static str {
        match self {
            Self::Stopped => "the gateway was not running",
            Self::Lost => {
                "the gateway ended without a word; connections before that may be missing"
            }
            Self::NoRecord => "no gateway ran here, or its record is gone",
            Self::NotWritten => "not written down yet, or the gateway ended without a word",
            Self::NotHeard => "nothing was heard of this host; what it recorded is known there",
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: connections on {} ({} to {}), host {}",
            self.account, self.day, self.from, self.to, self.host
        )?;
        for line in &self.addresses {
            let published = line.published.as_deref().unwrap_or("NOT PUBLISHED");
            writeln!(
                f,
                "  {published} (socket {}): {}, first {}, last {}",
                line.local, line.connections, line.first, line.last
            )?;
        }
        writeln!(f, "  all: {}", self.connections)?;
        writeln!(f, "  outside the published list: {}", self.outside)?;
        for gap in &self.gaps {
            writeln!(f, "  gap: {} to {}: {}", gap.from, gap.to, gap.why.words())?;
        }
        if self.unrecorded > 0 {
            writeln!(
                f,
                "  connections of that day whose account was not written down: {}",
                self.unrecorded
            )?;
        }
        let complete = if self.complete { "yes" } else { "no" };
        writeln!(f, "  complete: {complete}")
    }
}
