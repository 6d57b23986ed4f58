//! Checks of the versions in answers.

use std::collections::BTreeMap;
use std::time::Duration;

use steadfast_core::Version;

use super::{Asked, Call, History, State, Told};

/// Checks that versions order the states of a session, and that no two states share one.
pub(super) fn check(history: &History, session: usize) -> Result<(), String> {
    let calls: Vec<_> = history.of_session(session).collect();
    states_differ_in_version(&calls)?;
    writes_have_versions_of_their_own(&calls)?;
    versions_grow(&calls)?;
    reads_follow_what_is_carried(&calls)?;
    writes_show(&calls)
}

fn states_differ_in_version(calls: &[&Call]) -> Result<(), String> {
    let mut states = BTreeMap::<Version, &State>::new();
    for call in calls {
        let Told::Found(state) = &call.told else {
            continue;
        };
        let known = states.entry(state.version).or_insert(state);
        if *known != state {
            return Err(format!("V1: two states have one version: {known:?} and {state:?}"));
        }
    }
    Ok(())
}

fn writes_have_versions_of_their_own(calls: &[&Call]) -> Result<(), String> {
    let mut writes = BTreeMap::new();
    for call in calls.iter().filter(|call| call.asked.is_write()) {
        let Told::Applied { version, .. } = &call.told else {
            continue;
        };
        if let Some(other) = writes.insert(*version, *call) {
            return Err(format!("V1: two writes have one version: {other:?} and {call:?}"));
        }
    }
    Ok(())
}

/// Checks that a write that begins after the answer to another one has a higher version.
fn versions_grow(calls: &[&Call]) -> Result<(), String> {
    let writes = calls.iter().filter(|call| call.asked.is_write());
    let mut answered: Vec<_> =
        writes.clone().filter_map(|call| Some((call.end, call.version()?))).collect();
    answered.sort_unstable();
    let highest = highest_until(&answered);
    for call in writes {
        let Some(version) = call.version() else {
            continue;
        };
        if highest(call.begin).is_some_and(|highest| highest >= version) {
            return Err(format!("a later write has a lower version: {call:?}"));
        }
    }
    Ok(())
}

/// Returns the highest version in the answers before a time.
fn highest_until(answered: &[(Duration, Version)]) -> impl Fn(Duration) -> Option<Version> {
    let mut highest = Vec::with_capacity(answered.len());
    for (at, version) in answered {
        let before = highest.last().map_or(*version, |(_, before): &(Duration, Version)| *before);
        highest.push((*at, before.max(*version)));
    }
    move |time| {
        let count = highest.partition_point(|(at, _)| *at < time);
        count.checked_sub(1).map(|last| highest[last].1)
    }
}

fn reads_follow_what_is_carried(calls: &[&Call]) -> Result<(), String> {
    for call in calls {
        if let (Asked::Load { carried: Some(carried), .. }, Told::Found(state)) =
            (&call.asked, &call.told)
            && state.version < *carried
        {
            return Err(format!("a read shows what is older than its client knows: {call:?}"));
        }
    }
    Ok(())
}

/// Checks that a state contains the write of its version.
fn writes_show(calls: &[&Call]) -> Result<(), String> {
    let mut states = BTreeMap::new();
    for call in calls {
        if let Told::Found(state) = &call.told {
            states.insert(state.version, state);
        }
    }
    for call in calls {
        let shown = call.version().and_then(|version| states.get(&version));
        if let Some(state) = shown.filter(|state| !call.shows_in(state)) {
            return Err(format!("a write does not show in its version: {call:?}, {state:?}"));
        }
    }
    Ok(())
}

impl Asked {
    /// Returns true if the call creates a version.
    fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Put(..)
                | Self::Remove(_)
                | Self::Clear
                | Self::Swap(..)
                | Self::Add
                | Self::Rotate(..)
        )
    }
}

impl Call {
    fn shows_in(&self, state: &State) -> bool {
        let Told::Applied { counter, .. } = &self.told else {
            return true;
        };
        match self.asked {
            Asked::Put(key, number) | Asked::Swap(key, _, number) => {
                state.keys[key as usize] == number
            }
            Asked::Remove(key) => state.keys[key as usize] == 0,
            Asked::Clear => state.keys == [0, 0],
            Asked::Add => counter.is_none_or(|counter| state.counter == counter),
            Asked::Rotate(_, secret) | Asked::Create { secret, .. } => state.secret == secret,
            _ => true,
        }
    }
}
