//! The rules that keep the hosts together within the limit.

/// A rule of the protocol. Each answers a fault; a test breaks each and must find the limit passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A lender takes the permits away from itself, looks at what is in use in the same step, and
    /// lends only what is free then. *Answers:* a call that starts while a loan is made.
    DeductFirst,
    /// What was lent stays away until the loan and every call on it are over by the lender's clock.
    /// *Answers:* a borrower that dies or is cut off with calls at kintone.
    KeepAway,
    /// Spans that another host's clock measures are stretched. *Answers:* clocks of unequal speed.
    Stretch,
    /// A loan's time is counted from the borrower's own beat that the lender saw, never from when the
    /// loan arrived. *Answers:* a row that is delivered late.
    CountFromBeat,
    /// A loan counted from a beat that is not remembered is refused. *Answers:* a row so late that its
    /// beat is of another time.
    KnowBeat,
    /// Each loan is taken or refused once. *Answers:* a row that comes again after its loan was given
    /// back.
    TakeOnce,
    /// A row that is older than the last one taken into account is not looked at. *Answers:* rows out
    /// of order, a store rolled back, the loans of an earlier start of their lender above all.
    InOrder,
    /// A loan to an earlier start of this host is not taken. *Answers:* a row from before a restart.
    OwnStart,
    /// A borrower gives back what it has no calls on: it lists fewer permits only if those in use fit
    /// into what remains. *Answers:* a lender that re-uses permits under running calls.
    ReturnDrained,
    /// A loan that is over is listed until it is drained. *Answers:* the same, after an expiry.
    ListExpired,
    /// A loan that its borrower does not list is over only if the borrower has seen it. *Answers:* a
    /// row that was written before the loan arrived.
    SeenFirst,
    /// A loan to a host that has started again stays away until every call of its earlier start is
    /// over. *Answers:* a borrower that is killed and forgets its loans.
    AwaitOrphans,
    /// What an earlier start of this host has lent stays away until it is over, or until every host
    /// has answered this start and lists no more than that. *Answers:* a lender that is killed.
    Inherit,
    /// A host borrows only while its own permits cover its threads. *Answers:* a process stopped
    /// between the look at the clock and the first byte, and woken late.
    CoverThreads,
    /// kintone's count shows how many calls can be left on a loan only once none can begin on it any
    /// more. *Answers:* a call that begins after kintone counted.
    CountAfterEnd,
    /// A loan that was taken back by kintone's count lives on no more. *Answers:* a borrower that
    /// wakes up and lists it again.
    StayDead,
    /// A host has a larger part of evictions and admissions only when every other one has answered
    /// this start, knows the same and uses no more than that leaves it. *Answers:* words that arrive
    /// at different times.
    ShrinkFirst,
    /// An evicted host's part is used only when it was not heard of for as long as its calls can
    /// last. *Answers:* an operator in a hurry.
    AwaitEvicted,
    /// Where hosts have different lists of hosts, the smallest part counts. *Answers:* a fleet that
    /// grows, host by host.
    SmallestPart,
    /// Where hosts have different limits, the smallest counts. *Answers:* a limit that is changed, host
    /// by host.
    SmallestTotal,
}

/// Which rules hold: all of them, but in tests that break one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Rules(Option<Rule>);

impl Rule {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::DeductFirst,
        Self::KeepAway,
        Self::Stretch,
        Self::CountFromBeat,
        Self::KnowBeat,
        Self::TakeOnce,
        Self::InOrder,
        Self::OwnStart,
        Self::ReturnDrained,
        Self::ListExpired,
        Self::SeenFirst,
        Self::AwaitOrphans,
        Self::Inherit,
        Self::CoverThreads,
        Self::CountAfterEnd,
        Self::StayDead,
        Self::ShrinkFirst,
        Self::AwaitEvicted,
        Self::SmallestPart,
        Self::SmallestTotal,
    ];
}

impl Rules {
    /// All but one.
    #[cfg(test)]
    pub(super) const fn without(rule: Rule) -> Self {
        Self(Some(rule))
    }

    /// Whether a rule holds.
    pub(super) fn hold(self, rule: Rule) -> bool {
        self.0 != Some(rule)
    }
}
