//! What was found, line by line.

use std::fmt;

/// What was looked at, in order.
#[derive(Debug, Default)]
pub struct Report(Vec<Line>);

#[derive(Debug)]
struct Line {
    grade: Grade,
    what: String,
    said: String,
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    /// As it should be.
    Well,
    /// To be known; nothing is wrong.
    Note,
    /// Somebody must act.
    Finding,
}

impl Report {
    /// How many things somebody must act upon.
    #[must_use]
    pub fn findings(&self) -> usize {
        let findings = self.0.iter().filter(|line| line.grade == Grade::Finding);
        findings.count()
    }

    pub(super) fn well(&mut self, what: impl fmt::Display, said: impl fmt::Display) {
        self.add(Grade::Well, what, said);
    }

    pub(super) fn note(&mut self, what: impl fmt::Display, said: impl fmt::Display) {
        self.add(Grade::Note, what, said);
    }

    pub(super) fn finding(&mut self, what: impl fmt::Display, said: impl fmt::Display) {
        self.add(Grade::Finding, what, said);
    }

    fn add(&mut self, grade: Grade, what: impl fmt::Display, said: impl fmt::Display) {
        self.0.push(Line {
            grade,
            what: what.to_string(),
            said: said.to_string(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { grade, what, said } in &self.0 {
            writeln!(f, "{grade:<8}{what}: {said}")?;
        }
        match self.findings() {
            0 => writeln!(f, "all well"),
            1 => writeln!(f, "1 finding"),
            findings => writeln!(f, "{findings} findings"),
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Well => "ok",
            Self::Note => "note",
            Self::Finding => "FINDING",
        })
    }
}
