//! The sessions of one principal, in the order in which a cap ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use steadfast_core::{Record, RecordId, Timestamp};

use crate::slot::Slot;

/// The position of a session among those of its principal, ordered by the time of authentication,
/// oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    authenticated: Timestamp,
    pub(crate) id: RecordId,
}

impl Rank {
    pub(crate) fn of(id: RecordId, record: &Record) -> Self {
        Self { authenticated: record.authenticated.unwrap_or(Timestamp::MIN), id }
    }
}

/// The sessions of a principal by rank. The list may contain a session that ended or changed its
/// principal, until the index settles. The rank always matches the record.
#[derive(Debug)]
pub(crate) enum List {
    /// A sorted vector, scanned linearly. Most principals have one or two sessions.
    Few(Vec<(Rank, Arc<Slot>)>),
    /// Used above [`FEW`] sessions.
    Many(Box<Many>),
}

#[derive(Debug, Default)]
pub(crate) struct Many {
    by_rank: BTreeMap<Rank, Listed>,
    /// Each session once, by a lower bound of its deadline.
    by_bound: BTreeSet<(Timestamp, Rank)>,
}

#[derive(Debug)]
struct Listed {
    slot: Arc<Slot>,
    bound: Timestamp,
}

impl List {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.by_rank.len(),
        }
    }

    /// Adds a session that expires at `deadline`, or later if it is touched.
    pub(crate) fn insert(&mut self, rank: Rank, slot: &Arc<Slot>, deadline: Timestamp) {
        match self {
            Self::Few(few) => {
                let listed = (rank, Arc::clone(slot));
                match few.binary_search_by_key(&rank, |(rank, _)| *rank) {
                    Ok(at) => few[at] = listed,
                    Err(at) => few.insert(at, listed),
                }
            }
            Self::Many(many) => many.insert(rank, Arc::clone(slot), deadline),
        }
        self.fit();
    }

    /// Removes the slot if it has this rank.
    pub(crate) fn remove(&mut self, rank: Rank, slot: &Arc<Slot>) {
        match self {
            Self::Few(few) => {
                few.retain(|(known, other)| *known != rank || !Arc::ptr_eq(other, slot));
            }
            Self::Many(many) => many.remove(rank, slot),
        }
        self.fit();
    }

    /// Removes sessions that have expired at `now`. It calls `deadline` only for sessions whose
    /// lower bound has passed since they were last checked.
    pub(crate) fn drop_expired(
        &mut self,
        now: Timestamp,
        mut deadline: impl FnMut(&Slot) -> Option<Timestamp>,
    ) {
        match self {
            Self::Few(few) => few.retain(|(_, slot)| deadline(slot).is_some_and(|end| end > now)),
            Self::Many(many) => many.drop_expired(now, deadline),
        }
        self.fit();
    }

    /// Returns the session with the lowest rank, `rank` excluded.
    pub(crate) fn first_but(&self, rank: Rank) -> Option<(Rank, Arc<Slot>)> {
        let first = match self {
            Self::Few(few) => {
                few.iter().map(|(rank, slot)| (rank, slot)).find(|(r, _)| **r != rank)
            }
            Self::Many(many) => {
                let mut listed = many.by_rank.iter().map(|(rank, listed)| (rank, &listed.slot));
                listed.find(|(r, _)| **r != rank)
            }
        };
        first.map(|(rank, slot)| (*rank, Arc::clone(slot)))
    }

    pub(crate) fn for_each(&self, mut visit: impl FnMut(Rank, &Arc<Slot>)) {
        match self {
            Self::Few(few) => few.iter().for_each(|(rank, slot)| visit(*rank, slot)),
            Self::Many(many) => {
                many.by_rank.iter().for_each(|(rank, listed)| visit(*rank, &listed.slot));
            }
        }
    }

    /// Switches the representation. The thresholds differ by direction, so that a list at a
    /// threshold does not switch back and forth.
    fn fit(&mut self) {
        match self {
            Self::Few(few) if few.len() > FEW => {
                let mut many = Many::default();
                for (rank, slot) in few.drain(..) {
                    // The deadline would need the slot's lock. `MIN` defers it to the next check
                    // for expired sessions.
                    many.insert(rank, slot, Timestamp::MIN);
                }
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) if many.by_rank.len() <= FEW / 2 => {
                let listed = std::mem::take(&mut many.by_rank);
                *self = Self::Few(listed.into_iter().map(|(rank, it)| (rank, it.slot)).collect());
            }
            Self::Few(_) | Self::Many(_) => {}
        }
    }
}

impl Default for List {
    /// Has capacity for one session.
    fn default() -> Self {
        Self::Few(Vec::with_capacity(1))
    }
}

impl Many {
    fn insert(&mut self, rank: Rank, slot: Arc<Slot>, bound: Timestamp) {
        if let Some(before) = self.by_rank.insert(rank, Listed { slot, bound }) {
            self.by_bound.remove(&(before.bound, rank));
        }
        self.by_bound.insert((bound, rank));
    }

    fn remove(&mut self, rank: Rank, slot: &Arc<Slot>) {
        let is_it = |listed: &&Listed| Arc::ptr_eq(&listed.slot, slot);
        if let Some(bound) = self.by_rank.get(&rank).filter(is_it).map(|listed| listed.bound) {
            self.by_rank.remove(&rank);
            self.by_bound.remove(&(bound, rank));
        }
    }

    fn drop_expired(
        &mut self,
        now: Timestamp,
        mut deadline: impl FnMut(&Slot) -> Option<Timestamp>,
    ) {
        while let Some((bound, rank)) = self.by_bound.first().copied().filter(|(b, _)| *b <= now) {
            self.by_bound.remove(&(bound, rank));
            let listed = self.by_rank.get_mut(&rank).expect("what has a bound has a rank");
            match deadline(&listed.slot).filter(|end| *end > now) {
                Some(end) => {
                    listed.bound = end;
                    self.by_bound.insert((end, rank));
                }
                None => drop(self.by_rank.remove(&rank)),
            }
        }
    }
}

/// The highest number of sessions that a list scans linearly.
const FEW: usize = 16;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use steadfast_core::{KeyId, SecretHash};

    use super::*;

    #[test]
    fn sessions_come_in_the_order_of_authentication() {
        let mut list = List::default();
        for n in [3, 1, 40, 2].into_iter().chain(4..40) {
            insert(&mut list, n, 1_000);
        }
        for n in 1..40 {
            let (rank, slot) = list.first_but(self::rank(100)).unwrap();
            assert_eq!(rank, self::rank(n));
            list.remove(rank, &slot);
        }
        assert_eq!((list.len(), list.first_but(self::rank(40)).is_none()), (1, true));
    }

    #[test]
    fn another_slot_of_the_same_rank_stays() {
        for count in [1, 30] {
            let mut list = List::default();
            (0..count).for_each(|n| insert(&mut list, n, 1_000));
            list.remove(rank(0), &slot());
            assert_eq!(list.len(), count as usize);
        }
    }

    #[test]
    fn what_cannot_have_expired_is_not_asked_about() {
        let mut list = List::default();
        (0..1_000).for_each(|n| insert(&mut list, n, 1_000 + n));
        let asked = |list: &mut List, now, end: i64| {
            let mut asked = 0;
            list.drop_expired(at(now), |_| {
                asked += 1;
                Some(at(end))
            });
            asked
        };
        // The sessions inserted before the switch have no bound yet and are each checked once.
        assert_eq!(asked(&mut list, 500, 3_000), FEW + 1);
        assert_eq!(asked(&mut list, 999, 3_000), 0);
        assert_eq!(asked(&mut list, 1_500, 3_000), 500 - FEW);
        assert_eq!(asked(&mut list, 1_500, 3_000), 0);
        assert_eq!((asked(&mut list, 2_500, 3_000), list.len()), (499, 1_000));
        assert_eq!((asked(&mut list, 3_000, 3_000), list.len()), (1_000, 0));
    }

    #[test]
    fn a_list_shrinks_with_its_sessions() {
        let mut list = List::default();
        (0..17).for_each(|n| insert(&mut list, n, 1_000));
        assert!(matches!(list, List::Many(_)));
        for n in 0..16 {
            let (rank, slot) = list.first_but(self::rank(100)).unwrap();
            assert_eq!(rank, self::rank(n));
            list.remove(rank, &slot);
        }
        assert!(matches!(&list, List::Few(few) if few.len() == 1));
        assert_eq!(size_of::<List>(), size_of::<Vec<()>>());
    }

    fn insert(list: &mut List, n: i64, deadline: i64) {
        list.insert(rank(n), &slot(), at(deadline));
    }

    fn rank(n: i64) -> Rank {
        Rank { authenticated: at(n), id: RecordId::from_bytes([0; 16]) }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + Duration::from_secs(second.unsigned_abs())
    }

    fn slot() -> Arc<Slot> {
        let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
        let (start, end) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        Arc::new(Slot::new(Record::new(hash, start, end, end)))
    }
}
