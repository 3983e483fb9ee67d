//! What holds in every state, and that no rule can be spared.

use std::time::Instant;

use crate::explore::{explore, roam};
use crate::fleet::ledger::Rule;
use crate::world::{Count, Memory, Scope};

const PLAIN: Scope = Scope {
    total: 2,
    lends: 1,
    beats: [2, 3],
    restarts: [0, 0],
    memory: Memory::Kept,
    workers: 0,
    count: Count::Ignored,
    broken: None,
};

/// The scopes that are gone through whole, and at random much deeper.
const SCOPES: [Scope; 7] = [
    PLAIN,
    Scope {
        restarts: [0, 1],
        beats: [2, 2],
        ..PLAIN
    },
    Scope {
        restarts: [1, 0],
        beats: [2, 2],
        ..PLAIN
    },
    Scope {
        restarts: [1, 0],
        memory: Memory::Lost,
        beats: [2, 2],
        ..PLAIN
    },
    Scope {
        workers: 1,
        beats: [2, 2],
        ..PLAIN
    },
    Scope {
        count: Count::Seen,
        beats: [2, 2],
        ..PLAIN
    },
    Scope {
        total: 4,
        lends: 2,
        beats: [2, 2],
        ..PLAIN
    },
];

/// How much more is done than in CI.
pub fn effort() -> usize {
    let effort = std::env::var("MODEL_EFFORT").ok();
    effort.and_then(|effort| effort.parse().ok()).unwrap_or(1)
}

/// Looks at every state of a scope; without more time than in CI, at as many as there is time for.
fn look_at_every_state(scope: Scope) {
    let begun = Instant::now();
    let found = explore(scope, 450_000 * effort());
    println!(
        "{scope:?}: {} states, whole: {}, {:?}",
        found.states,
        found.is_whole,
        begun.elapsed()
    );
    assert_eq!(found.violation, None, "{scope:?}");
    assert!(
        found.is_whole || effort() < 10,
        "{scope:?}: {}",
        found.states
    );
}

#[test]
fn no_state_passes_the_limit_with_loans() {
    look_at_every_state(SCOPES[0]);
}

#[test]
fn no_state_passes_the_limit_with_a_borrower_that_starts_again() {
    look_at_every_state(SCOPES[1]);
}

#[test]
fn no_state_passes_the_limit_with_a_lender_that_starts_again() {
    look_at_every_state(SCOPES[2]);
}

#[test]
fn no_state_passes_the_limit_with_a_lender_that_has_forgotten() {
    look_at_every_state(SCOPES[3]);
}

#[test]
fn no_state_passes_the_limit_with_a_thread_that_is_stopped() {
    look_at_every_state(SCOPES[4]);
}

#[test]
fn no_state_passes_the_limit_with_a_look_at_kintones_count() {
    look_at_every_state(SCOPES[5]);
}

#[test]
fn no_state_passes_the_limit_with_larger_loans() {
    look_at_every_state(SCOPES[6]);
}

#[test]
fn no_walk_passes_the_limit() {
    for (seed, scope) in (0..).zip(SCOPES) {
        let restarts = scope.restarts.map(|starts| starts * 2);
        let deep = Scope {
            beats: [9, 9],
            restarts,
            ..scope
        };
        let found = roam(deep, seed, 1_000_000 * effort());
        assert_eq!(found.violation, None, "{scope:?}");
    }
}

/// Where a broken rule shows, if a model can show it.
fn place_of(rule: Rule) -> Option<Scope> {
    let base = Scope {
        beats: [8, 8],
        broken: Some(rule),
        ..PLAIN
    };
    let scope = match rule {
        Rule::DeductFirst
        | Rule::KeepAway
        | Rule::CountFromBeat
        | Rule::TakeOnce
        | Rule::ReturnDrained
        | Rule::ListExpired
        | Rule::SeenFirst => base,
        Rule::OwnStart | Rule::AwaitOrphans => Scope {
            restarts: [0, 1],
            ..base
        },
        Rule::InOrder | Rule::Inherit => Scope {
            restarts: [1, 0],
            ..base
        },
        Rule::CoverThreads => Scope {
            workers: 1,
            total: 1,
            ..base
        },
        Rule::CountAfterEnd => Scope {
            count: Count::Seen,
            ..base
        },
        // Tests of the ledger break these.
        Rule::Stretch
        | Rule::KnowBeat
        | Rule::StayDead
        | Rule::ShrinkFirst
        | Rule::AwaitEvicted
        | Rule::SmallestPart
        | Rule::SmallestTotal => return None,
    };
    Some(scope)
}

#[test]
fn every_broken_rule_shows() {
    for rule in Rule::ALL {
        let Some(scope) = place_of(rule) else {
            continue;
        };
        let found = (0..16).find_map(|seed| roam(scope, seed, 1_000_000).violation);
        println!("{rule:?}: {:?}", found.as_ref().map(Vec::len));
        assert!(
            found.is_some(),
            "{rule:?} can be broken and nothing shows it"
        );
    }
    let lost = Scope {
        memory: Memory::Lost,
        ..place_of(Rule::Inherit).unwrap()
    };
    assert!(roam(lost, 1, 4_000_000).violation.is_some());
}
