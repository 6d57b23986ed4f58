//! Hints about recently seen sessions, which save a script a round trip to ask for keys. The script
//! verifies them, and asks if they are wrong.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steadfast_core::{Principal, RecordId};

/// The principals of recently loaded sessions. A sign-out follows a load, and can thus name the key
/// of the index from which it removes the session.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Generations<RecordId, Principal>>);

impl Seen {
    pub(crate) fn remember(&self, id: RecordId, principal: Option<&Principal>) {
        if let Some(principal) = principal {
            lock(&self.0).insert(id, principal.clone());
        }
    }

    pub(crate) fn principal(&self, id: RecordId) -> Option<Principal> {
        lock(&self.0).get(&id).cloned()
    }
}

/// The sessions that end next at the cap, by principal, as the server last reported them. A login
/// names the keys of the first ones.
#[derive(Debug, Default)]
pub(crate) struct Oldest(Mutex<Generations<String, Vec<RecordId>>>);

impl Oldest {
    pub(crate) fn first(&self, name: &str) -> Vec<RecordId> {
        let generations = lock(&self.0);
        let known = generations.get(name).map_or(&[][..], Vec::as_slice);
        known[..known.len().min(NAMED)].to_vec()
    }

    pub(crate) fn learn(&self, name: &str, oldest: &[RecordId]) {
        lock(&self.0).insert(name.to_owned(), oldest.to_vec());
    }

    /// Updates the hint after a login that ended these sessions. If it ended none, the principal is
    /// below the cap, and the hint is dropped.
    pub(crate) fn follow(&self, name: &str, ended: &[RecordId]) {
        let mut generations = lock(&self.0);
        let Some(known) = generations.get(name) else { return };
        let left: Vec<_> = known.iter().filter(|id| !ended.contains(id)).copied().collect();
        if ended.is_empty() || left.is_empty() {
            generations.remove(name);
        } else {
            generations.insert(name.to_owned(), left);
        }
    }
}

/// A cache of two generations. When the young one is full, it replaces the old one.
#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn remove<Q>(&mut self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.young.remove(key);
        self.old.remove(key);
    }
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of entries per generation.
const KEPT: usize = 1_024;

/// The number of session keys that a login names before it is asked for them.
const NAMED: usize = 2;

#[cfg(test)]
mod tests {
    use steadfast_core::Realm;

    use super::*;

    #[test]
    fn only_two_generations_are_remembered() {
        let seen = Seen::default();
        let alice = Principal::new(Realm::default(), "alice").unwrap();
        for n in 0..10 * KEPT {
            seen.remember(id(n), Some(&alice));
            assert!(seen.principal(id(n)).is_some());
        }
        assert_eq!(seen.principal(id(0)), None);
        assert!((0..10 * KEPT).filter(|n| seen.principal(id(*n)).is_some()).count() <= 2 * KEPT);
    }

    #[test]
    fn hints_are_dropped_below_the_cap() {
        let oldest = Oldest::default();
        assert_eq!(oldest.first("alice"), []);
        oldest.learn("alice", &[id(1), id(2), id(3)]);
        assert_eq!(oldest.first("alice"), [id(1), id(2)]);
        oldest.follow("alice", &[id(1)]);
        assert_eq!(oldest.first("alice"), [id(2), id(3)]);
        oldest.follow("alice", &[]);
        assert_eq!(oldest.first("alice"), []);
        oldest.learn("bob", &[id(1)]);
        oldest.follow("bob", &[id(1)]);
        assert_eq!(oldest.first("bob"), []);
    }

    fn id(n: usize) -> RecordId {
        RecordId::from_bytes((n as u128).to_be_bytes())
    }
}
