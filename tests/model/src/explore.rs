//! Goes through every state that can be reached, depth first.

use std::collections::HashSet;
use std::time::Instant;

use foldhash::fast::FixedState;

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

mod tests {
    use super::*;
    use crate::world::{Count, Memory};

    const PLAIN: Scope = Scope {
        total: 2,
        beats: [3, 3],
        restarts: [0, 0],
        memory: Memory::Kept,
        workers: 0,
        count: Count::Ignored,
        broken: None,
    };

    #[test]
    fn probe() {
        for scope in [
            Scope { beats: [2, 2], ..PLAIN },
            PLAIN,
        ] {
            let begun = Instant::now();
            let found = explore(scope, 1_000_000);
            println!("{scope:?}: {found:?} in {:?}", begun.elapsed());
        }
    }
}
