//! Visits every state of a model, breadth first, so that the trace of a violation is as short as
//! possible.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// A state machine to explore.
pub trait Model {
    /// Should be small, because a whole generation of states is kept.
    type State: Clone + Hash;

    /// Returns the initial state.
    fn first(&mut self) -> Self::State;

    /// Adds every possible next step. Steps get names if `tells` is true.
    fn steps(&mut self, state: &Self::State, tells: bool, steps: &mut Steps<Self::State>);
}

/// The steps from one state.
pub type Steps<S> = Vec<Step<S>>;

/// A step to a next state.
#[derive(Debug)]
pub struct Step<S> {
    /// A description for traces.
    pub name: String,
    /// The relative probability with which a walk takes it.
    pub weight: u32,
    /// The next state, or the property that the step violates.
    pub to: Result<S, String>,
}

/// The result of an exploration.
#[derive(Debug, Default)]
pub struct Explored {
    /// The number of different states. Two states with the same 64-bit fingerprint count as one.
    pub states: usize,
    /// The number of steps between them.
    pub transitions: u64,
    /// The greatest distance of a state from the initial one.
    pub depth: usize,
    /// True if the model has no further states within its bounds.
    pub is_exhausted: bool,
    /// The violation, if one was found.
    pub violation: Option<Violation>,
}

/// A violated property.
#[derive(Debug)]
pub struct Violation {
    /// The property.
    pub what: String,
    /// The steps that lead to the violation.
    pub trace: Vec<String>,
}

/// Explores a model until a property is violated, every state was visited, or the limit of states
/// is reached.
pub fn explore<M: Model>(model: &mut M, most: usize) -> Explored {
    let first = model.first();
    let mut parents = Parents::default();
    parents.insert(fingerprint(&first), 0);
    let (mut generation, mut steps) = (vec![first], Vec::new());
    let mut explored = Explored::default();
    while !generation.is_empty() {
        let mut next = Vec::new();
        for state in &generation {
            let from = fingerprint(state);
            model.steps(state, false, &mut steps);
            for Step { to, .. } in steps.drain(..) {
                explored.transitions += 1;
                match to {
                    Err(what) => {
                        let trace = retrace(model, &parents, from, &what);
                        explored.violation = Some(Violation { what, trace });
                        explored.states = parents.len();
                        return explored;
                    }
                    Ok(state) => {
                        if let std::collections::hash_map::Entry::Vacant(entry) =
                            parents.entry(fingerprint(&state))
                        {
                            entry.insert(from);
                            next.push(state);
                        }
                    }
                }
            }
            if parents.len() >= most {
                explored.states = parents.len();
                return explored;
            }
        }
        explored.depth += usize::from(!next.is_empty());
        generation = next;
    }
    explored.states = parents.len();
    explored.is_exhausted = true;
    explored
}

/// Takes random steps, chosen by a seed. Returns the trace if they violate a property.
pub fn walk<M: Model>(model: &mut M, seed: u64, longest: usize) -> Option<Violation> {
    let what = go(model, seed, longest, &mut None)?;
    // Names are built only when they are needed.
    let mut trace = Some(Vec::new());
    go(model, seed, longest, &mut trace);
    Some(Violation { what, trace: trace.unwrap_or_default() })
}

fn go<M: Model>(
    model: &mut M,
    seed: u64,
    longest: usize,
    trace: &mut Option<Vec<String>>,
) -> Option<String> {
    let (mut state, mut steps) = (model.first(), Vec::new());
    for n in 0..longest {
        model.steps(&state, trace.is_some(), &mut steps);
        if steps.is_empty() {
            return None;
        }
        let Step { name, to, .. } = draw(&mut steps, fingerprint(&(seed, n as u64)));
        if let Some(trace) = trace {
            trace.push(name);
        }
        match to {
            Ok(next) => state = next,
            Err(what) => return Some(what),
        }
    }
    None
}

/// Removes one of the steps at random, by weight, and clears the rest.
fn draw<S>(steps: &mut Steps<S>, random: u64) -> Step<S> {
    let sum: u64 = steps.iter().map(|step| u64::from(step.weight)).sum();
    let mut left = random % sum;
    let is_it = |step: &Step<S>| match left.checked_sub(step.weight.into()) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    };
    let drawn = steps.iter().position(is_it).expect("it is less than the sum");
    let step = steps.swap_remove(drawn);
    steps.clear();
    step
}

/// The parent of each state: the state from which it was first reached.
type Parents = HashMap<u64, u64, BuildHasherDefault<Identity>>;

/// Repeats the path to a state, to name its steps.
fn retrace<M: Model>(model: &mut M, parents: &Parents, last: u64, what: &str) -> Vec<String> {
    let mut way = vec![last];
    while let Some(parent) = parents.get(way.last().expect("it begins with one"))
        && *parent != 0
    {
        way.push(*parent);
    }
    let mut state = model.first();
    let (mut trace, mut steps) = (Vec::new(), Vec::new());
    for next in way.iter().rev().skip(1) {
        model.steps(&state, true, &mut steps);
        let leads_there = |step: Step<M::State>| {
            let to = step.to.ok().filter(|state| fingerprint(state) == *next);
            to.map(|state| (step.name, state))
        };
        let (name, there) = steps.drain(..).find_map(leads_there).expect("it was gone before");
        trace.push(name);
        state = there;
    }
    model.steps(&state, true, &mut steps);
    let breaks_it = |step: &Step<M::State>| step.to.as_ref().err().is_some_and(|e| e == what);
    trace.extend(steps.drain(..).find(breaks_it).map(|step| step.name));
    trace
}

fn fingerprint(state: &impl Hash) -> u64 {
    BuildHasherDefault::<Mixer>::default().hash_one(state).max(1)
}

/// A fast 64-bit hash for values that no adversary chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

/// A pass-through hasher. Its keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters. A rule forbids that both reach three.
    struct Counters {
        breaks: bool,
    }

    impl Model for Counters {
        type State = (u8, u8);

        fn first(&mut self) -> (u8, u8) {
            (0, 0)
        }

        fn steps(&mut self, &(a, b): &(u8, u8), _: bool, steps: &mut Steps<(u8, u8)>) {
            for (name, next) in [("a", (a + 1, b)), ("b", (a, b + 1))] {
                let is_broken = self.breaks && next == (3, 3);
                if next.0 <= 5 && next.1 <= 5 {
                    let to = if is_broken { Err("they meet".to_owned()) } else { Ok(next) };
                    steps.push(Step { name: name.to_owned(), weight: 1, to });
                }
            }
        }
    }

    #[test]
    fn every_state_is_reached_once() {
        let explored = explore(&mut Counters { breaks: false }, usize::MAX);
        assert!(explored.is_exhausted && explored.violation.is_none());
        assert_eq!((explored.states, explored.transitions, explored.depth), (36, 60, 10));
    }

    #[test]
    fn a_violation_comes_with_a_shortest_trace() {
        let explored = explore(&mut Counters { breaks: true }, usize::MAX);
        let violation = explored.violation.unwrap();
        assert_eq!(violation.what, "they meet");
        assert_eq!(violation.trace.len(), 6);
    }

    #[test]
    fn a_walk_stumbles_over_a_violation() {
        let found = |seed| walk(&mut Counters { breaks: true }, seed, 10);
        let violations: Vec<_> = (0..100).filter_map(found).collect();
        assert!((10..60).contains(&violations.len()), "20 of 64 ways lead there");
        assert!(violations.iter().all(|violation| violation.trace.len() == 6));
        assert!(walk(&mut Counters { breaks: false }, 1, 10).is_none());
    }

    #[test]
    fn a_bound_is_no_proof() {
        let explored = explore(&mut Counters { breaks: false }, 20);
        assert!(!explored.is_exhausted);
    }
}
