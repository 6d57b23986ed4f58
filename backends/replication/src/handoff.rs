//! The hand-over after a split: records that one side wrote by itself go to the owners of the side
//! that it joins (D1).
//!
//! A node that joins hands over every record that was written since the sides parted. The owner merges each
//! of them before it answers the next call of the record, and says when a slot is through. Until then the
//! node that joins keeps the records, over epochs, and lets its own calls for the slot wait.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_core::RecordId;

use crate::context::View;
use crate::epoch::{Epoch, EpochId, PartitionPolicy};
use crate::member::{Boot, Role};
use crate::message::Message;
use crate::record::{Entry, Held, Kept};
use crate::replicas::Replicas;
use crate::slots::Slot;

/// The slots that this node has to hand over, and those that others handed over to it.
#[derive(Debug, Default)]
pub struct Handoff {
    given: BTreeMap<Slot, Vec<(RecordId, Entry)>>,
    /// The slots of these that are on their way in this epoch.
    sent: BTreeSet<Slot>,
    taken: BTreeSet<(Boot, Slot)>,
}

/// A node's way to an epoch other than the next one of its own side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// It goes on.
    None,
    /// It joins others that went on without it from this epoch number on, with what it has of later.
    With(u64),
    /// The same, with nothing.
    Without(u64),
}

impl Crossing {
    /// The way from one epoch to another; `born` is the first epoch that listed the node.
    pub fn of(before: &Epoch, after: &Epoch, me: Boot, born: EpochId) -> Self {
        let role = |epoch: &Epoch| epoch.member(me).map(|member| member.role);
        let is_aside = role(after) == Some(Role::Aside);
        let is_lax = before.policy() == PartitionPolicy::Degrade;
        if before.id().lineage == after.id().lineage {
            let is_put_aside = is_aside && role(before) != Some(Role::Aside) && is_lax;
            return if is_put_aside { Self::With(before.id().number) } else { Self::None };
        }
        if after.descends_from(before.id()) && !is_aside {
            return Self::None;
        }
        let Some(parted) = after.common_ancestor(before) else {
            return Self::Without(0);
        };
        // A node that the others listed when they parted, and had to admit again, was away for longer than
        // they remember ends.
        let follows = |epoch: EpochId| epoch.lineage == born.lineage && epoch.number >= born.number;
        let ancestors = after.ancestry().iter().map(|ancestor| ancestor.epoch);
        let was_listed = ancestors.chain([parted]).any(follows);
        let was_removed = was_listed && role(after) == Some(Role::Joining);
        match is_lax && !was_removed {
            true => Self::With(parted.number),
            false => Self::Without(parted.number),
        }
    }
}

impl Handoff {
    /// Takes what this node has of an epoch or later ones, and everything of the slots that the others gave
    /// up since.
    pub fn pack(&mut self, replicas: &Replicas, since: u64, after: &Epoch) {
        for slot in Slot::all().filter(|slot| !replicas.is_empty(*slot)) {
            let is_given_up = after.given_up_in(slot).is_some_and(|number| number > since);
            let is_wanted =
                |(_, entry): &(RecordId, &Entry)| is_given_up || entry.revision.epoch >= since;
            let latest = replicas.of(slot).filter_map(|(id, held)| Some((id, held.latest()?)));
            let wanted = latest.filter(is_wanted).map(|(id, entry)| (id, packed(entry)));
            let wanted: Vec<_> = wanted.collect();
            if !wanted.is_empty() {
                self.given.entry(slot).or_default().extend(wanted);
            }
        }
    }

    /// Another epoch: what was not merged is handed over again.
    pub fn on_epoch(&mut self) {
        self.sent.clear();
        self.taken.clear();
    }

    /// Returns the records to hand over now, with their owners.
    pub fn go_on(&mut self, view: &View) -> Vec<(Boot, Message)> {
        let mut sends = Vec::new();
        for (slot, records) in &self.given {
            if self.sent.len() >= SENT {
                break;
            }
            if let Some(owner) = view.owner(*slot).filter(|_| self.sent.insert(*slot)) {
                sends.extend(batches(*slot, records).into_iter().map(|message| (owner, message)));
            }
        }
        sends
    }

    /// An owner merged a slot.
    pub fn on_merged(&mut self, slot: Slot) {
        if self.sent.remove(&slot) {
            self.given.remove(&slot);
        }
    }

    /// Returns true if calls of this node have to wait, because the owner of a slot lacks records
    /// that this node has shown.
    pub fn waits(&self, slot: Slot) -> bool {
        self.given.contains_key(&slot)
    }

    /// Returns true if everything was handed over.
    pub fn is_over(&self) -> bool {
        self.given.is_empty()
    }

    /// Notes that all of a slot arrived here.
    pub fn take(&mut self, from: Boot, slot: Slot) {
        self.taken.insert((from, slot));
    }

    /// The slots that were merged here, and whom to tell.
    pub fn merged(&mut self, is_merging: impl Fn(Slot) -> bool) -> Vec<(Boot, Slot)> {
        let over = self.taken.iter().filter(|(_, slot)| !is_merging(*slot)).copied();
        let over: Vec<_> = over.collect();
        self.taken.retain(|taken| !over.contains(taken));
        over
    }
}

/// A record as it is handed over: whether the sessions of a list live is to be asked.
fn packed(entry: &Entry) -> Entry {
    match &entry.kept {
        Kept::List(list) => Entry { kept: Kept::List(list.unsettled()), ..entry.clone() },
        Kept::Live(_) | Kept::Ended(_) => entry.clone(),
    }
}

fn batches(slot: Slot, records: &[(RecordId, Entry)]) -> Vec<Message> {
    let mut batches = vec![Vec::new()];
    let mut size = 0;
    for (id, entry) in records {
        if size >= BATCH {
            batches.push(Vec::new());
            size = 0;
        }
        size += entry.size();
        let held = Held { confirmed: Some(entry.clone()), ..Held::default() };
        batches.last_mut().expect("there is one always").push((*id, held));
    }
    let last = batches.len() - 1;
    let merge = |(n, records)| Message::Merge { slot, records, is_last: n == last };
    batches.into_iter().enumerate().map(merge).collect()
}

/// The number of slots that are handed over at a time.
const SENT: usize = 64;

/// The size from which on records go in another message, in bytes.
const BATCH: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, full, grown, key, lineage, next};
    use crate::epoch::{Change, Lineage};
    use crate::replicas::tests::{confirmed, id};
    use crate::slots::SlotSet;

    #[test]
    fn the_smaller_side_joins_with_what_it_wrote() {
        let two = grown(2);
        let (mine, theirs) = (side(&two, 1), side(&two, 0));
        assert_eq!(crossing(&mine, &theirs, 1), Crossing::With(two.id().number));
        assert_eq!(crossing(&two, &mine, 1), Crossing::None, "it goes on");
        assert_eq!(crossing(&two, &theirs, 1), Crossing::With(two.id().number), "it is cut off");
        let back = next(&theirs, &[Change::ComeBack(boot(1))]).unwrap();
        assert_eq!(crossing(&theirs, &back, 1), Crossing::None);
    }

    #[test]
    fn members_return_from_aside_with_their_writes() {
        let two = grown(2);
        let aside = next(&two, &[Change::SetAside(boot(1))]).unwrap();
        assert_eq!(crossing(&two, &aside, 1), Crossing::With(two.id().number));
        assert_eq!(crossing(&two, &aside, 0), Crossing::None);
        let three = grown(3);
        let aside = next(&three, &[Change::SetAside(boot(1))]).unwrap();
        assert_eq!(crossing(&three, &aside, 1), Crossing::None, "under `Fail`");
    }

    #[test]
    fn a_straggler_joins_with_nothing() {
        let three = grown(3);
        let again = three.found_again(Lineage::new([5; 16]), full(0).name, vec![full(0)]);
        let joined = next(&again, &[Change::Join(full(1))]).unwrap();
        let later = next(&three, &[]).unwrap();
        assert_eq!(crossing(&later, &joined, 1), Crossing::None, "every slot was given up");
        let mine = side(&grown(2), 1);
        let theirs = next(&side(&grown(2), 0), &[Change::Leave(boot(1))]).unwrap();
        let theirs = next(&theirs, &[Change::Join(full(1))]).unwrap();
        let number = grown(2).id().number;
        assert_eq!(crossing(&mine, &theirs, 1), Crossing::Without(number), "it was removed");
    }

    #[test]
    fn records_since_the_sides_parted_are_handed_over() {
        let mut replicas = Replicas::new(key());
        for n in 0..6 {
            replicas.put(id(n), confirmed(n, 1));
        }
        let two = grown(2);
        let mut handoff = Handoff::default();
        handoff.pack(&replicas, 4, &two);
        assert_eq!(handoff.given.values().flatten().count(), 2);
        let slots = SlotSet::from_iter([replicas.slot_of(id(1))]);
        let given_up = next(&two, &[Change::GiveUp(slots, Default::default())]).unwrap();
        let mut handoff = Handoff::default();
        handoff.pack(&replicas, 2, &given_up);
        assert_eq!(handoff.given.values().flatten().count(), 5, "what others gave up goes, too");
    }

    #[test]
    fn unmerged_records_are_handed_over_again() {
        let mut replicas = Replicas::new(key());
        replicas.put(id(1), confirmed(5, 1));
        let slot = replicas.slot_of(id(1));
        let mut handoff = Handoff::default();
        handoff.pack(&replicas, 5, &grown(2));
        let view = View::new(boot(1), grown(2).into());
        assert_eq!(handoff.go_on(&view).len(), 1);
        assert_eq!(handoff.go_on(&view).len(), 0);
        handoff.on_epoch();
        handoff.on_merged(slot);
        assert!(handoff.waits(slot), "it was of an earlier epoch");
        assert_eq!(handoff.go_on(&view).len(), 1);
        handoff.on_merged(slot);
        assert!(handoff.is_over());
    }

    fn crossing(before: &Epoch, after: &Epoch, n: usize) -> Crossing {
        Crossing::of(before, after, boot(n), EpochId { lineage: lineage(), number: 2 })
    }

    fn side(of: &Epoch, n: usize) -> Epoch {
        of.split(Lineage::new([n as u8; 16]), full(n).name, &[boot(n)].into())
    }
}
