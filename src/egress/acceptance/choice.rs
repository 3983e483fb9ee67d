//! Which address an account's call leaves from, where the account does not take every one. Pure.

use super::standing::{Standing, State};
use crate::egress::source::Source;
use crate::model::{Denial, HostName, Published, Refusing};

/// Where a call leaves from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// From this host, by that address.
    Here(Source),
    /// From that host of the fleet, which has the address that the account takes.
    Elsewhere(HostName),
}

/// A published address in use, and an account there.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    pub(super) published: Published,
    pub(super) standing: Standing,
    pub(super) place: Place<'a>,
    /// Its refusal is so old that it is worth another try, where the call fails otherwise.
    pub(super) is_stale: bool,
}

/// Who can use an address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// This host.
    Here(Source),
    /// These hosts; at least one.
    Elsewhere(&'a [HostName]),
    /// Nobody: it is this host's alone and has left.
    Nowhere,
}

/// What there is to choose.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// That way.
    Way(Way),
    /// No address is better than another.
    Any,
    /// None that can be used.
    Denied(Denial),
}

/// How good a candidate is, the best first; `None`: it is refused.
fn rank(candidate: &Candidate<'_>) -> Option<u8> {
    let is_here = match candidate.place {
        Place::Here(_) => true,
        Place::Elsewhere(_) => false,
        Place::Nowhere => return None,
    };
    match (candidate.standing.state(), is_here) {
        (State::Accepted, true) => Some(0),
        (State::Accepted, false) => Some(1),
        (State::Refused, true) if candidate.standing.wavers() => Some(2),
        (State::Unknown, true) => Some(3),
        (State::Unknown, false) => Some(4),
        (State::Refused, true) if candidate.is_stale => Some(5),
        (State::Refused, _) => None,
    }
}

/// The best way among `candidates`; equals take turns.
pub(super) fn choose(candidates: &[Candidate<'_>], turn: usize) -> Choice {
    let Some(best) = candidates.iter().filter_map(rank).min() else {
        return none(candidates);
    };
    let equals: Vec<_> = candidates
        .iter()
        .filter(|candidate| rank(candidate) == Some(best))
        .collect();
    match equals[turn % equals.len()].place {
        Place::Here(source) => Choice::Way(Way::Here(source)),
        Place::Elsewhere(hosts) => Choice::Way(Way::Elsewhere(hosts[turn % hosts.len()].clone())),
        Place::Nowhere => Choice::Any,
    }
}

/// No candidate is accepted or may be. Where one was that cannot be used now, the call is refused here
/// rather than by kintone: a refusal there would say nothing of what is wrong.
fn none(candidates: &[Candidate<'_>]) -> Choice {
    let down = candidates.iter().find(|candidate| {
        candidate.standing.state() == State::Accepted && matches!(candidate.place, Place::Nowhere)
    });
    let missing = candidates
        .iter()
        .find(|candidate| matches!(candidate.place, Place::Here(_)));
    match (down, missing) {
        (Some(down), Some(missing)) => Choice::Denied(Denial::AddressRefused(Refusing {
            accepted: down.published,
            missing: missing.published,
        })),
        (Some(_) | None, _) => Choice::Any,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use jiff::Timestamp;

    use super::super::standing::Taken;
    use super::*;
    use crate::model::Bind;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn source(of: Ipv4Addr) -> Source {
        Source {
            published: Published(of),
            bind: Bind(of),
        }
    }

    fn candidate<'a>(of: Ipv4Addr, taken: &[Taken], place: Place<'a>) -> Candidate<'a> {
        let mut standing = Standing::default();
        for (minute, taken) in taken.iter().enumerate() {
            let second = i64::try_from(minute * 600).unwrap();
            standing.see(*taken, Timestamp::from_second(second).unwrap());
        }
        Candidate {
            published: Published(of),
            standing,
            place,
            is_stale: false,
        }
    }

    fn here(of: Ipv4Addr, taken: &[Taken]) -> Candidate<'static> {
        candidate(of, taken, Place::Here(source(of)))
    }

    fn chosen(candidates: &[Candidate<'_>]) -> Vec<Choice> {
        (0..4).map(|turn| choose(candidates, turn)).collect()
    }

    #[test]
    fn the_accepted_one_wins_and_equals_take_turns() {
        use Taken::{Accepted, Refused};
        let by = |of| Choice::Way(Way::Here(source(of)));
        let all_by = |of| [by(of), by(of), by(of), by(of)];
        let accepted = [here(A, &[Accepted]), here(B, &[Refused])];
        assert_eq!(chosen(&accepted), all_by(A));
        let unknown = [here(A, &[Refused]), here(B, &[])];
        assert_eq!(chosen(&unknown), all_by(B));
        let both = [here(A, &[Refused, Accepted]), here(B, &[Accepted])];
        assert_eq!(chosen(&both), [by(A), by(B), by(A), by(B)]);
        let mut neither = [here(A, &[Accepted, Refused]), here(B, &[Refused])];
        assert_eq!(choose(&neither, 0), Choice::Any);
        neither[1].is_stale = true;
        assert_eq!(chosen(&neither), all_by(B));
    }

    #[test]
    fn a_host_that_has_the_accepted_one_is_better_than_an_unknown_one_here() {
        let hosts = [HostName::new("gw-b"), HostName::new("gw-c")];
        let there = |taken| candidate(A, taken, Place::Elsewhere(&hosts));
        let accepted = [there(&[Taken::Accepted]), here(B, &[])];
        let to = |host: &HostName| Choice::Way(Way::Elsewhere(host.clone()));
        let [first, second] = &hosts;
        assert_eq!(
            chosen(&accepted),
            [to(first), to(second), to(first), to(second)]
        );
        let unknown = [there(&[]), here(B, &[Taken::Refused])];
        assert_eq!(choose(&unknown, 0), to(first));
        let refused = [there(&[Taken::Refused]), here(B, &[Taken::Refused])];
        assert_eq!(choose(&refused, 0), Choice::Any);
    }

    #[test]
    fn where_the_accepted_one_cannot_be_used_the_missing_one_is_named() {
        let down = || candidate(A, &[Taken::Accepted], Place::Nowhere);
        let denied = Choice::Denied(Denial::AddressRefused(Refusing {
            accepted: Published(A),
            missing: Published(B),
        }));
        assert_eq!(choose(&[down(), here(B, &[Taken::Refused])], 0), denied);
        let untried = Choice::Way(Way::Here(source(B)));
        assert_eq!(choose(&[down(), here(B, &[])], 0), untried);
        let refused = candidate(A, &[Taken::Refused], Place::Nowhere);
        assert_eq!(
            choose(&[refused, here(B, &[Taken::Refused])], 0),
            Choice::Any
        );
        assert_eq!(choose(&[down()], 0), Choice::Any);
    }
}
