//! What a round of answers means. Pure.

use std::net::Ipv4Addr;

use super::echo::Trouble;

/// What one echo said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It saw this address.
    Saw(Ipv4Addr),
    /// It said nothing that can be used.
    Nothing(Trouble),
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The internet sees the address as published.
    Published,
    /// It sees this one instead.
    Other(Ipv4Addr),
    /// No echo gave a usable answer.
    Nothing,
}

/// What the answers mean, as soon as those still to come cannot change it; `None`: they can. One place
/// an echo, `None` where it has not answered yet.
///
/// More than half of the usable answers must name `published`. So a dead echo changes nothing, one that
/// lies is outvoted where two others answer, and where as many say so as say otherwise, nothing leaves:
/// a call from a wrong address cannot be taken back, a refused one can be repeated.
#[must_use]
pub(super) fn judge(published: Ipv4Addr, answers: &[Option<Answer>]) -> Option<Finding> {
    let mut others: Vec<Ipv4Addr> = Vec::new();
    let (mut right, mut open) = (0, 0);
    for answer in answers {
        match answer {
            Some(Answer::Saw(seen)) if *seen == published => right += 1,
            Some(Answer::Saw(seen)) => others.push(*seen),
            Some(Answer::Nothing(_)) => {}
            None => open += 1,
        }
    }
    let wrong = others.len();
    if right > wrong + open {
        Some(Finding::Published)
    } else if wrong > 0 && wrong >= right + open {
        let told = |seen: &Ipv4Addr| others.iter().filter(|other| *other == seen).count();
        let most = others.iter().copied().max_by_key(told);
        most.map(Finding::Other)
    } else {
        (open == 0).then_some(Finding::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: Ipv4Addr = Ipv4Addr::new(18, 177, 83, 94);
    const RIGHT: Option<Answer> = Some(Answer::Saw(PUBLISHED));
    const OTHER: Ipv4Addr = Ipv4Addr::new(52, 0, 0, 1);
    const WRONG: Option<Answer> = Some(Answer::Saw(OTHER));
    const DEAD: Option<Answer> = Some(Answer::Nothing(Trouble::Timeout));

    #[test]
    fn more_than_half_of_the_usable_answers_decide() {
        let right = Some(Finding::Published);
        let wrong = Some(Finding::Other(OTHER));
        for (answers, expected) in [
            (&[RIGHT][..], right),
            (&[WRONG], wrong),
            (&[DEAD], Some(Finding::Nothing)),
            (&[], Some(Finding::Nothing)),
            (&[DEAD, DEAD, DEAD], Some(Finding::Nothing)),
            (&[DEAD, RIGHT, DEAD], right),
            (&[DEAD, WRONG, DEAD], wrong),
            (&[RIGHT, WRONG], wrong),
            (&[WRONG, RIGHT, RIGHT], right),
            (&[WRONG, RIGHT, WRONG], wrong),
            // One lies, another is dead, and nobody knows which of the two others does.
            (&[WRONG, DEAD, RIGHT], wrong),
            (&[WRONG, DEAD, RIGHT, RIGHT], right),
        ] {
            assert_eq!(judge(PUBLISHED, answers), expected, "{answers:?}");
        }
    }

    #[test]
    fn an_answer_that_decides_is_not_kept_waiting_by_others() {
        assert_eq!(judge(PUBLISHED, &[None]), None);
        assert_eq!(judge(PUBLISHED, &[RIGHT, None]), None);
        assert_eq!(
            judge(PUBLISHED, &[RIGHT, RIGHT, None]),
            Some(Finding::Published)
        );
        assert_eq!(
            judge(PUBLISHED, &[WRONG, None]),
            Some(Finding::Other(OTHER))
        );
        assert_eq!(judge(PUBLISHED, &[WRONG, None, None]), None);
        assert_eq!(judge(PUBLISHED, &[RIGHT, DEAD, None]), None);
        assert_eq!(judge(PUBLISHED, &[DEAD, None]), None);
    }

    #[test]
    fn whatever_comes_later_changes_no_verdict() {
        let all = [RIGHT, WRONG, DEAD, None];
        for code in 0..all.len().pow(4) {
            let answers: Vec<_> = (0..4)
                .map(|at| all[code / all.len().pow(at) % all.len()])
                .collect();
            let Some(early) = judge(PUBLISHED, &answers) else {
                continue;
            };
            for filler in [RIGHT, WRONG, DEAD] {
                let complete: Vec<_> = answers.iter().map(|answer| answer.or(filler)).collect();
                assert_eq!(
                    judge(PUBLISHED, &complete),
                    Some(early),
                    "{answers:?} then {filler:?}"
                );
            }
        }
    }

    #[test]
    fn the_address_seen_most_often_is_named() {
        let third = Some(Answer::Saw(Ipv4Addr::new(52, 0, 0, 2)));
        assert_eq!(
            judge(PUBLISHED, &[third, WRONG, WRONG]),
            Some(Finding::Other(OTHER))
        );
    }
}
