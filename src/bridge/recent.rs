//! A bounded map that forgets the oldest entries first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most recent notes by key. Beyond the bound, the oldest are dropped.
pub(super) struct Recent<K, V> {
    bound: usize,
    notes: Mutex<Notes<K, V>>,
}

struct Notes<K, V> {
    by_key: HashMap<K, V>,
    /// The keys, the oldest first.
    order: VecDeque<K>,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn new(bound: usize) -> Self {
        let notes = Notes { by_key: HashMap::new(), order: VecDeque::new() };
        Self { bound, notes: Mutex::new(notes) }
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.lock().by_key.get(key).cloned()
    }

    pub(super) fn insert(&self, key: K, value: V) {
        let mut notes = self.lock();
        if notes.by_key.insert(key.clone(), value).is_none() {
            notes.order.push_back(key);
        }
        if notes.order.len() > self.bound
            && let Some(oldest) = notes.order.pop_front()
        {
            notes.by_key.remove(&oldest);
        }
    }

    pub(super) fn take(&self, key: &K) -> Option<V> {
        let mut notes = self.lock();
        let value = notes.by_key.remove(key)?;
        notes.order.retain(|known| known != key);
        Some(value)
    }

    fn lock(&self) -> MutexGuard<'_, Notes<K, V>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_notes_go_first() {
        let recent = Recent::new(2);
        for n in 0..3 {
            recent.insert(n, n);
        }
        assert_eq!((recent.get(&0), recent.get(&1), recent.get(&2)), (None, Some(1), Some(2)));
    }

    #[test]
    fn a_note_is_taken_once() {
        let recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("a", 2);
        assert_eq!((recent.take(&"a"), recent.take(&"a")), (Some(2), None));
    }
}
