//! What there is to tell.

/// What a content is about. Whoever writes one decides about its form and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What the published list remembers.
    Published,
    /// Failures that people are told of.
    Episodes,
    /// The calls of the day.
    Days,
    /// Which accounts take which address.
    Acceptance,
    /// Where connections left from.
    Evidence,
}

impl Topic {
    /// All, in the order in which they get their place in a row.
    pub const ALL: [Self; 5] = [
        Self::Published,
        Self::Episodes,
        Self::Days,
        Self::Acceptance,
        Self::Evidence,
    ];

    /// Its name, as people read it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Episodes => "episodes",
            Self::Days => "days",
            Self::Acceptance => "acceptance",
            Self::Evidence => "evidence",
        }
    }

    /// Its number in a row. It never changes.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Days => 1,
            Self::Acceptance => 2,
            Self::Evidence => 3,
            Self::Published => 4,
            Self::Episodes => 5,
        }
    }
}
