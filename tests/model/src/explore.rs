//! Goes through every state that can be reached, depth first.

use std::collections::HashSet;

use foldhash::fast::FixedState;

use crate::dice::Dice;
use crate::world::{Scope, Step, World};

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// States seen.
    pub states: usize,
    /// The way to a state in which the limit is passed.
    pub violation: Option<Vec<Step>>,
    /// Whether there are no further states.
    pub is_whole: bool,
}

/// Looks at every state of a scope, up to so many.
pub fn explore(scope: Scope, most: usize) -> Found {
    let seeds = [1, 2].map(FixedState::with_seed);
    let mut seen = HashSet::with_hasher(FixedState::default());
    let start = World::new(scope);
    seen.insert(start.fingerprint(&seeds));
    let mut path: Vec<Step> = Vec::new();
    let mut stack = vec![(start.steps(), start)];
    while let Some((steps, world)) = stack.last_mut() {
        let Some(step) = steps.pop() else {
            stack.pop();
            path.pop();
            continue;
        };
        let mut next = world.clone();
        next.take(step);
        if !seen.insert(next.fingerprint(&seeds)) {
            continue;
        }
        path.push(step);
        if next.excess() > 0 {
            return Found {
                states: seen.len(),
                violation: Some(path),
                is_whole: false,
            };
        }
        if seen.len() >= most {
            return Found {
                states: seen.len(),
                violation: None,
                is_whole: false,
            };
        }
        stack.push((next.steps(), next));
    }
    Found {
        states: seen.len(),
        violation: None,
        is_whole: true,
    }
}

/// Walks through a scope at random, so many steps together; tells the first way on which the limit was
/// passed. It finds what lies deep, where [`explore`] has no time to go.
pub fn roam(scope: Scope, seed: u64, steps: usize) -> Found {
    let mut dice = Dice::new(seed);
    let mut taken = 0;
    while taken < steps {
        let mut world = World::new(scope);
        let mut path = Vec::new();
        while path.len() < LONGEST {
            let step = choose(&world.steps(), &mut dice);
            world.take(step);
            path.push(step);
            if world.excess() > 0 {
                return Found {
                    states: taken + path.len(),
                    violation: Some(path),
                    is_whole: false,
                };
            }
        }
        taken += path.len();
    }
    Found {
        states: taken,
        violation: None,
        is_whole: false,
    }
}

/// Steps of one walk.
const LONGEST: usize = 40;

/// Chooses what kind of step comes first, then which: few ticks, many beats, mostly the newest row.
fn choose(steps: &[Step], dice: &mut Dice) -> Step {
    let is_beat = |step: &Step| matches!(step, Step::Beat(..));
    let beats: Vec<Step> = steps.iter().copied().filter(is_beat).collect();
    let others: Vec<Step> = steps
        .iter()
        .copied()
        .filter(|step| !is_beat(step) && *step != Step::Tick)
        .collect();
    let kind = match dice.below(8) {
        0 => None,
        1..=4 => dice.pick(&beats),
        _ => dice.pick(&others),
    };
    match kind {
        Some(Step::Beat(host, row, will)) if dice.once_in(2) => {
            let newest = beats.iter().filter_map(|step| step.row_of(host)).max();
            Step::Beat(host, newest.or(row), will)
        }
        Some(step) => step,
        None => Step::Tick,
    }
}
