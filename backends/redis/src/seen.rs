//! Whose sessions this node has seen lately.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use steadfast_core::{Principal, RecordId};

/// Whose sessions the last loads found, so that a sign-out, which comes after a load, names the key of
/// the index that it takes the session off. Advice: the server checks it, and says whose it is if it
/// was another one's.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<RecordId, Principal>,
    old: HashMap<RecordId, Principal>,
}

impl Seen {
    pub(crate) fn remember(&self, id: RecordId, principal: Option<&Principal>) {
        let Some(principal) = principal else {
            return;
        };
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= KEPT {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(id, principal.clone());
    }

    pub(crate) fn principal(&self, id: RecordId) -> Option<Principal> {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.get(&id).or_else(|| generations.old.get(&id)).cloned()
    }
}

/// Sessions of a generation; there are two.
const KEPT: usize = 1_024;

#[cfg(test)]
mod tests {
    use steadfast_core::Realm;

    use super::*;

    #[test]
    fn the_latest_are_remembered_and_no_more_than_two_generations() {
        let seen = Seen::default();
        let id = |n: usize| RecordId::from_bytes((n as u128).to_be_bytes());
        let alice = Principal::new(Realm::default(), "alice").unwrap();
        for n in 0..10 * KEPT {
            seen.remember(id(n), Some(&alice));
            assert!(seen.principal(id(n)).is_some());
        }
        assert_eq!(seen.principal(id(0)), None);
        assert!((0..10 * KEPT).filter(|n| seen.principal(id(*n)).is_some()).count() <= 2 * KEPT);
    }
}
