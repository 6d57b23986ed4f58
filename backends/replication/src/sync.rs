//! Synchronization: brings the other holders of a slot to the state of its owner.
//!
//! The owner compares digests at a place in its stream of messages. Where they differ, it lists its
//! records page by page; the holder drops what is not listed, and asks for what differs.

use std::collections::{BTreeMap, BTreeSet};

use steadfast_core::RecordId;

use crate::context::Context;
use crate::member::Boot;
use crate::message::Message;
use crate::record::{Entry, Held, Revision};
use crate::replicas::{Digest, Page, Replicas, Summary};
use crate::rules::Rule;
use crate::slots::{Slot, SlotSet};

/// The progress of the other holders, as their owner sees it. Every epoch begins with nothing
/// known.
#[derive(Debug, Default)]
pub struct Sync {
    holders: BTreeMap<Boot, Progress>,
}

/// The progress of one holder.
#[derive(Debug, Default)]
struct Progress {
    /// The slots to compare.
    due: SlotSet,
    /// A comparison is under way.
    compared: SlotSet,
    /// They differ, and wait for their turn.
    differing: BTreeSet<Slot>,
    /// Their records are being listed.
    listed: BTreeSet<Slot>,
    /// The holder knows that it has everything.
    told: SlotSet,
    /// It knows that.
    noted: SlotSet,
}

impl Sync {
    /// Begins with these slots of a holder.
    pub fn begin(&mut self, holder: Boot, slots: &SlotSet) {
        self.holders.entry(holder).or_default().due.insert_all(slots);
    }

    /// Returns true if a holder has the owner's state of a slot, including the messages on their
    /// way.
    pub fn is_equal(&self, holder: Boot, slot: Slot) -> bool {
        let told = |progress: &Progress| progress.told.contains(slot);
        self.holders.get(&holder).is_some_and(told)
    }

    /// Returns true if a holder knows that it has everything of a slot.
    pub fn is_complete(&self, holder: Boot, slot: Slot) -> bool {
        let noted = |progress: &Progress| progress.noted.contains(slot);
        self.holders.get(&holder).is_some_and(noted)
    }

    /// Returns the number of slots of all holders that differ or may differ.
    pub fn open(&self) -> usize {
        let open = |progress: &Progress| {
            progress.due.len()
                + progress.compared.len()
                + progress.differing.len()
                + progress.listed.len()
        };
        self.holders.values().map(open).sum()
    }

    /// Compares slots that are due and lists those that differ, within the window of each holder.
    pub fn go_on(&mut self, replicas: &Replicas) -> Vec<(Boot, Message)> {
        let mut sends = Vec::new();
        for (holder, progress) in &mut self.holders {
            let due: Vec<_> = progress.due.iter().take(COMPARED).collect();
            if !due.is_empty() {
                due.iter().for_each(|slot| progress.due.remove(*slot));
                progress.compared.insert_all(&due.iter().copied().collect());
                let digest = |slot: &Slot| (*slot, replicas.digest(*slot));
                sends.push((*holder, Message::Compare(due.iter().map(digest).collect())));
            }
            while progress.listed.len() < LISTED
                && let Some(slot) = progress.differing.pop_first()
            {
                progress.listed.insert(slot);
                sends.push((*holder, list(slot, None, replicas)));
            }
        }
        sends
    }

    /// A holder compared slots. Those that are equal stay so: every change follows in the same stream.
    pub fn on_compared(
        &mut self,
        from: Boot,
        equal: &SlotSet,
        differing: &SlotSet,
    ) -> Option<Message> {
        let progress = self.holders.get_mut(&from)?;
        let asked = |slot: &Slot| progress.compared.contains(*slot);
        let equal: SlotSet = equal.iter().filter(asked).collect();
        let differing: BTreeSet<Slot> = differing.iter().filter(asked).collect();
        progress.compared.remove_all(&equal);
        progress.compared.remove_all(&differing.iter().copied().collect());
        progress.differing.extend(differing);
        progress.told.insert_all(&equal);
        (!equal.is_empty()).then_some(Message::Complete(equal))
    }

    /// A holder noted that it has everything.
    pub fn on_noted(&mut self, from: Boot, slots: &SlotSet) {
        if let Some(progress) = self.holders.get_mut(&from) {
            progress
                .noted
                .insert_all(&slots.iter().filter(|s| progress.told.contains(*s)).collect());
        }
    }

    /// A holder took a page, and wants records of it; the next page follows them, or another comparison.
    pub fn on_want(
        &mut self,
        from: Boot,
        slot: Slot,
        (ids, next): (&[RecordId], Option<RecordId>),
        replicas: &Replicas,
    ) -> Vec<Message> {
        let Some(progress) = self.holders.get_mut(&from).filter(|p| p.listed.contains(&slot))
        else {
            return Vec::new();
        };
        let mut messages = records(slot, ids, replicas);
        if next.is_some() {
            messages.push(list(slot, next, replicas));
        } else {
            progress.listed.remove(&slot);
            progress.due.insert(slot);
        }
        messages
    }
}

fn list(slot: Slot, after: Option<RecordId>, replicas: &Replicas) -> Message {
    Message::Page { slot, page: replicas.page_within(slot, after, LISTING, LISTED_BYTES) }
}

/// Records of a slot, in messages that are not much longer than 64 KiB.
pub fn records(slot: Slot, ids: &[RecordId], replicas: &Replicas) -> Vec<Message> {
    let mut messages = Vec::new();
    let (mut batch, mut size) = (Vec::new(), 0);
    for id in ids {
        let held = replicas.get(*id).cloned().unwrap_or_default();
        size += held.latest().map_or(0, Entry::size);
        batch.push((*id, held));
        if size >= RECORDS {
            let records = std::mem::take(&mut batch);
            messages.push(Message::Records { slot, records, is_last: false });
            size = 0;
        }
    }
    messages.push(Message::Records { slot, records: batch, is_last: true });
    messages
}

/// Compares what an owner has with what is here, at the same place of its stream.
pub fn compare(slots: &[(Slot, Digest)], replicas: &Replicas) -> Message {
    let is_equal = |(slot, digest): &&(Slot, _)| replicas.digest(*slot) == *digest;
    let of = |slots: &mut dyn Iterator<Item = &(Slot, Digest)>| {
        slots.map(|(slot, _)| *slot).collect::<SlotSet>()
    };
    let equal = of(&mut slots.iter().filter(is_equal));
    let differing = of(&mut slots.iter().filter(|slot| !is_equal(slot)));
    Message::Compared { equal, differing }
}

/// Takes a page of the owner's: drops what it does not list, and wants what differs.
pub fn on_page(slot: Slot, page: &Page, cx: &mut Context<'_>) -> Message {
    let (epoch, replicas, rules) = (cx.view.number(), &mut *cx.replicas, cx.rules);
    let listed: BTreeMap<RecordId, &Summary> =
        page.summaries.iter().map(|summary| (summary.id, summary)).collect();
    let confirmed = |id: &RecordId| listed.get(id).and_then(|summary| summary.confirmed);
    if rules.keep(Rule::Y1) {
        let own = replicas.ids(slot, page);
        let is_unlisted = |id: &RecordId| confirmed(id).is_none();
        own.into_iter().filter(is_unlisted).for_each(|id| replicas.remove_confirmed(id, epoch));
    }
    let differs = |summary: &&Summary| {
        let own = replicas.get(summary.id).map(|held| replicas.summary(summary.id, held));
        summary.confirmed.is_some() && own.and_then(|own| own.confirmed) != summary.confirmed
    };
    let ids = page.summaries.iter().filter(differs).map(|summary| summary.id).collect();
    Message::Want { slot, ids, next: page.next }
}

/// Takes confirmed records of the owner's. A tentative write that the owner sent since stays.
pub fn on_records(records: Vec<(RecordId, Held)>, cx: &mut Context<'_>) {
    let (epoch, replicas) = (cx.view.number(), &mut *cx.replicas);
    for (id, held) in records {
        let confirmed = held.confirmed.as_ref().map(|entry| entry.revision);
        let own = replicas.tentative(id).cloned();
        let is_new = |revision: Revision| revision.epoch >= epoch && Some(revision) > confirmed;
        let tentative = own.filter(|entry| is_new(entry.revision)).map(Box::new);
        replicas.put(id, Held { confirmed: held.confirmed, tentative, told_in: epoch });
    }
}

/// The number of slots compared in one message.
const COMPARED: usize = 512;

/// The number of slots of a holder that are listed at a time.
const LISTED: usize = 8;

/// The highest number of records in a page.
pub const LISTING: usize = 512;

/// The bytes of records from which on a page ends: a holder wants 256 KiB at a time at most, so that calls do
/// not wait.
const LISTED_BYTES: usize = (256 << 10) / LISTED;

/// The size from which on records go in another message.
const RECORDS: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::tests::{boot, key};
    use crate::replicas::tests::{confirmed, id};

    #[test]
    fn a_holder_gets_a_bounded_batch() {
        let mut replicas = Replicas::new(key());
        let ids = (0..4_000_000).map(id).filter(|id| Slot::of(*id, &key()).index() < 20);
        ids.for_each(|id| replicas.put(id, confirmed(5, 1)));
        let mut sync = Sync::default();
        sync.begin(boot(1), &(0..20).map(Slot::at).collect());
        let mut sends = sync.go_on(&replicas);
        let Some((_, Message::Compare(slots))) = sends.pop() else { panic!("it compares") };
        let differing = slots.iter().map(|(slot, _)| *slot).collect();
        assert!(sync.on_compared(boot(1), &SlotSet::new(), &differing).is_none());
        let (mut open, mut sent) = (sync.go_on(&replicas), BTreeSet::new());
        while !open.is_empty() {
            let mut bytes = 0;
            let mut next = Vec::new();
            for (_, message) in open {
                let Message::Page { slot, page } = message else { continue };
                let ids: Vec<_> = page.summaries.iter().map(|summary| summary.id).collect();
                let records = sync.on_want(boot(1), slot, (&ids, page.next), &replicas);
                let is_content = |message: &&Message| matches!(message, Message::Records { .. });
                bytes += records.iter().filter(is_content).map(Message::size).sum::<usize>();
                sent.extend(ids);
                next.extend(records.into_iter().map(|message| (boot(1), message)));
            }
            assert!(bytes < 300 << 10, "{bytes}");
            next.extend(sync.go_on(&replicas));
            open = next;
        }
        let all: usize = (0..20).map(|n| replicas.len(Slot::at(n))).sum();
        assert_eq!(sent.len(), all);
    }
}
