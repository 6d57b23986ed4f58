//! Eviction: sessions that end early, so that the memory of a node stays bounded.
//!
//! All copies on a node count, its own and those for others, but it only ends records that it owns:
//! the others do the same, so each keeps its own memory within bounds. Which session was quiet for
//! longest is found out by looking at a few, since an order of all of them would cost memory.

use steadfast_core::RecordId;

use crate::budget::{Budgets, Class};
use crate::context::View;
use crate::member::Boot;
use crate::record::Copy;
use crate::replicas::Replicas;
use crate::rules::{Rule, Rules};
use crate::slots::{SLOTS, Slot};

/// The budgets of a node, and its choice of sessions to end.
#[derive(Debug)]
pub struct Eviction {
    budgets: Budgets,
    /// State of the random numbers by which sessions are looked at.
    random: u64,
    /// The classes in which no session could end: they are searched again with the next tick.
    found_none: [bool; 2],
    /// True if sessions could end with a lease.
    waits: bool,
}

/// The conditions under which a session may end now.
pub trait Evictable {
    /// Returns true if this node may answer for a slot.
    fn serves(&self, slot: Slot) -> bool;
    /// Returns true if a call or a write of a record is under way.
    fn is_busy(&self, id: RecordId) -> bool;
}

impl Eviction {
    /// Chooses by random numbers that depend on the boot.
    pub fn new(budgets: Budgets, boot: Boot) -> Self {
        // Xorshift stands still at 0.
        let random = u128::from_be_bytes(boot.to_bytes()) as u64 | 1;
        Self { budgets, random, found_none: [false; 2], waits: false }
    }

    /// The time passed: sessions are looked for again.
    pub fn tick(&mut self) {
        (self.found_none, self.waits) = ([false; 2], false);
    }

    /// True if sessions could end with a lease.
    pub fn waits_for_lease(&self) -> bool {
        self.waits
    }

    /// A session that is to end, since there are too many of its class, or they are too large.
    pub fn choose(
        &mut self,
        class: Class,
        (view, replicas): (&View, &Replicas),
        state: &impl Evictable,
        rules: Rules,
    ) -> Option<RecordId> {
        let is_over = replicas.totals().is_over(self.budgets.of(class), class);
        if !is_over || self.found_none[class as usize] {
            return None;
        }
        let is_of_class = |copy: &Copy| Class::of(&copy.record) == class || !rules.keep(Rule::B2);
        let found = self.quietest(is_of_class, (view, replicas), state);
        self.found_none[class as usize] = found.is_none();
        found
    }

    /// Returns the session that was quiet for longest, of a few that may end. The session that grew
    /// last is the one that was used last: it stays, however large it is.
    fn quietest(
        &mut self,
        is_of_class: impl Fn(&Copy) -> bool,
        (view, replicas): (&View, &Replicas),
        state: &impl Evictable,
    ) -> Option<RecordId> {
        let (first, id) = (self.draw() as usize, self.draw_id());
        let own = (0..SLOTS).map(|n| Slot::at((first % SLOTS) + n));
        let own = own.filter(|slot| view.owns(*slot) && !replicas.is_empty(*slot));
        let mut waits = false;
        let served = own.filter(|slot| {
            let is_served = state.serves(*slot);
            waits |= !is_served;
            is_served
        });
        let sessions = served.flat_map(|slot| replicas.sessions_around(slot, id));
        let may_end = |(id, copy): &(RecordId, &Copy)| {
            let is_free = replicas.tentative(*id).is_none() && !state.is_busy(*id);
            is_of_class(copy) && is_free && replicas.grown() != Some(*id)
        };
        let few = sessions.take(LOOKED_AT).filter(may_end).take(SAMPLED);
        let quietest = few.map(|(id, copy)| (copy.record.idle_deadline, id)).min();
        self.waits |= waits && quietest.is_none();
        quietest.map(|(_, id)| id)
    }

    fn draw_id(&mut self) -> RecordId {
        let halves = [self.draw(), self.draw()].map(u64::to_be_bytes);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&halves.concat());
        RecordId::from_bytes(bytes)
    }

    /// Marsaglia's xorshift: good enough to spread what is looked at.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Sessions of which the quietest one ends.
const SAMPLED: usize = 16;

/// Sessions that are looked at for them at most.
const LOOKED_AT: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use steadfast_core::{Budget, KeyId, Principal, Realm, Record, SecretHash, Timestamp};

    use super::*;
    use crate::epoch::tests::{boot, grown};
    use crate::record::{Entry, Held, Kept, Revision, Stamp};

    #[test]
    fn the_quietest_session_ends() {
        let mut node = Node::new(1, 9);
        (0..10).for_each(|n| node.create(n, 100 - n, None));
        assert_eq!(node.choose(Class::Visitors), Some(id(8)), "the last one is in use");
        node.busy.insert(id(8));
        assert_eq!(node.choose(Class::Visitors), Some(id(7)));
    }

    #[test]
    fn nothing_ends_within_the_budget() {
        let mut node = Node::new(1, 9);
        (0..9).for_each(|n| node.create(n, n, None));
        assert_eq!(node.choose(Class::Visitors), None);
        node.create(9, 9, Some(alice()));
        assert_eq!(node.choose(Class::Visitors), None, "a user's session is of another class");
    }

    #[test]
    fn visitors_end_no_session_of_a_user() {
        let mut node = Node::new(1, 1);
        node.create(0, 1, Some(alice()));
        (1..4).for_each(|n| node.create(n, 100, None));
        let chosen = node.choose(Class::Visitors);
        assert!(chosen.is_some() && chosen != Some(id(0)), "{chosen:?}");
        node.rules = Rules::without(Rule::B2);
        assert_eq!(node.choose(Class::Visitors), Some(id(0)), "without the rule");
    }

    #[test]
    fn only_what_is_owned_and_served_ends() {
        let mut node = Node::new(3, 0);
        (0..60).for_each(|n| node.create(n, 60 - n, None));
        let chosen = node.choose(Class::Visitors).unwrap();
        assert!(node.view.owns(node.replicas.slot_of(chosen)));
        node.serves = false;
        assert_eq!(node.choose(Class::Visitors), None);
        assert!(node.eviction.waits_for_lease());
        node.serves = true;
        assert_eq!(node.choose(Class::Visitors), None, "it is not looked for again");
        node.eviction.tick();
        assert!(node.choose(Class::Visitors).is_some() && !node.eviction.waits_for_lease());
    }

    #[test]
    fn all_sessions_have_their_turn() {
        let mut node = Node::new(1, 0);
        (0..200).for_each(|n| node.create(n, 0, None));
        let chosen: BTreeSet<_> = (0..400).filter_map(|_| node.choose(Class::Visitors)).collect();
        assert!(chosen.len() > 20, "{}", chosen.len());
    }

    /// A member that holds sessions.
    struct Node {
        view: View,
        replicas: Replicas,
        eviction: Eviction,
        busy: BTreeSet<RecordId>,
        serves: bool,
        rules: Rules,
    }

    struct State<'n>(&'n BTreeSet<RecordId>, bool);

    impl Evictable for State<'_> {
        fn serves(&self, _: Slot) -> bool {
            self.1
        }

        fn is_busy(&self, id: RecordId) -> bool {
            self.0.contains(&id)
        }
    }

    impl Node {
        fn new(members: usize, records: u64) -> Self {
            let epoch = Arc::new(grown(members));
            let visitors = Budget { records, bytes: u64::MAX };
            let budgets = Budgets { visitors, ..Budgets::default() };
            let replicas = Replicas::new(*epoch.key());
            let (view, eviction) = (View::new(boot(0), epoch), Eviction::new(budgets, boot(0)));
            let (busy, rules) = (BTreeSet::new(), Rules::default());
            Self { view, replicas, eviction, busy, serves: true, rules }
        }

        fn create(&mut self, n: u8, idle: u8, principal: Option<Principal>) {
            let hash = SecretHash::from_parts(KeyId::NONE, [0; 32]);
            let start = Timestamp::UNIX_EPOCH;
            let idle = start + Duration::from_secs(u64::from(idle));
            let record = Record { principal, ..Record::new(hash, start, idle, Timestamp::MAX) };
            let kept = Kept::Live(Copy::new(record, Stamp::ZERO));
            let entry = Entry { revision: Revision::default(), kept, done: Vec::new() };
            let held = Held { confirmed: Some(entry), ..Held::default() };
            self.replicas.put(id(n), held);
        }

        fn choose(&mut self, class: Class) -> Option<RecordId> {
            let state = State(&self.busy, self.serves);
            self.eviction.choose(class, (&self.view, &self.replicas), &state, self.rules)
        }
    }

    fn id(n: u8) -> RecordId {
        RecordId::from_bytes([n; 16])
    }

    fn alice() -> Principal {
        Principal::new(Realm::default(), "alice").unwrap()
    }
}
