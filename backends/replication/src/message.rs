//! Messages between nodes about records, delivered in order and once for each pair (see `paths`).

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::{Change, RecordId, Timestamp};

use crate::call::{Done, Reply, Request};
use crate::member::Boot;
use crate::record::{Delta, Entry, Held, Kept, List, ListChange, Revision};
use crate::replicas::{Digest, Inspection, Page};
use crate::slots::{Slot, SlotSet};

/// A message between two members of one epoch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Message {
    /// Asks the owner of a record.
    Call {
        /// The id of the call, together with the sender's boot.
        number: u64,
        /// The lowest number of a call of the sender that is still open.
        open: u64,
        /// The time that the caller waits for the answer.
        within: Duration,
        /// The request.
        request: Request,
    },
    /// Answers a call.
    Reply {
        /// The id of the call.
        number: u64,
        /// The answer.
        reply: Box<Reply>,
    },
    /// The lowest number of a call of the sender that is still open.
    Open(u64),
    /// The receiver is to hold a write, tentatively.
    Replicate {
        /// The record.
        id: RecordId,
        /// The write.
        revision: Revision,
        /// The change.
        write: Box<Write>,
        /// The calls whose repetition has to be known.
        done: Vec<Done>,
    },
    /// The sender holds a write.
    Acknowledge {
        /// The record.
        id: RecordId,
        /// The write.
        revision: Revision,
    },
    /// These writes may be shown.
    Confirm(Vec<(RecordId, Revision)>),
    /// The ends of sessions, or empty lists, that need not be remembered any more.
    Forget(Vec<(RecordId, Revision)>),
    /// The sender does not have what a write changes, and wants the record whole.
    Lacks {
        /// The record.
        id: RecordId,
        /// The write.
        revision: Revision,
    },
    /// The receiver's part in the last epochs of these slots is wanted.
    Inspect(SlotSet),
    /// The sender's part in them.
    Inspected(Vec<(Slot, Inspection)>),
    /// A new owner wants to know what a holder has of a slot, from an id on.
    Pull {
        /// The slot.
        slot: Slot,
        /// Excludes copies that owners sent before this epoch: those are not evidence (T5).
        since: Option<u64>,
        /// The last id that is known already.
        after: Option<RecordId>,
    },
    /// A part of what the sender has of a slot.
    Page {
        /// The slot.
        slot: Slot,
        /// Its records, in order.
        page: Page,
    },
    /// A new owner wants these records of a holder.
    Fetch {
        /// The slot.
        slot: Slot,
        /// Their ids.
        ids: Vec<RecordId>,
    },
    /// A holder wants these records of the page that its owner sent, and the next one.
    Want {
        /// The slot.
        slot: Slot,
        /// Their ids.
        ids: Vec<RecordId>,
        /// The end of the page; `None` for the last one.
        next: Option<RecordId>,
    },
    /// Records that were wanted.
    Records {
        /// Their slot.
        slot: Slot,
        /// Each with its id.
        records: Vec<(RecordId, Held)>,
        /// True if everything requested is included.
        is_last: bool,
    },
    /// The digests of these slots at the sender, their owner, at this place of its stream.
    Compare(Vec<(Slot, Digest)>),
    /// The compared slots that are equal here.
    Compared {
        /// Those that are.
        equal: SlotSet,
        /// Those that are not.
        differing: SlotSet,
    },
    /// The receiver has everything of these slots.
    Complete(SlotSet),
    /// The sender noted that it has.
    Noted(SlotSet),
    /// The sender serves these slots no more; other nodes may read them for so long.
    Withdrawn {
        /// The slots.
        slots: SlotSet,
        /// Nodes with a read lease, and how long each still runs.
        readers: Vec<(Boot, Duration)>,
    },
    /// A holder asks for a read lease; the time is that of its own clock, and comes back.
    AskReadLease(Duration),
    /// The receiver may answer reads of these slots.
    ReadLease {
        /// The slots.
        slots: SlotSet,
        /// The time that it asked with.
        asked: Duration,
        /// The time for which the lease runs after that.
        length: Duration,
    },
    /// The receiver's wall clock is wanted.
    AskClock {
        /// The time of the sender's monotonic clock, which comes back.
        asked: Duration,
        /// Its wall clock.
        wall: Timestamp,
    },
    /// The sender's wall clock.
    Clock {
        /// The time that it was asked with.
        asked: Duration,
        /// Its reading.
        wall: Timestamp,
    },
    /// The sender has listeners: it wants to hear of all changes.
    Listen,
    /// The sender tells the receiver of all changes from here on.
    Telling,
    /// Something happened to a record of the sender's.
    Changed(Change),
    /// Every holder of these slots is complete: other nodes need not keep them.
    Free(SlotSet),
    /// Records that a side of a split wrote by itself, for their owner to merge (D1).
    Merge {
        /// Their slot.
        slot: Slot,
        /// Each with its id; only what is confirmed counts.
        records: Vec<(RecordId, Held)>,
        /// True if these are the last ones of the slot.
        is_last: bool,
    },
    /// The sender merged what the receiver handed over of a slot.
    Merged(Slot),
    /// The sender rebuilds the lists in these slots, and wants to know which of the receiver's sessions are on
    /// them (Q2).
    AskNames(SlotSet),
    /// The sender's sessions, as parts of lists.
    Names {
        /// The slots of the lists.
        slots: SlotSet,
        /// Each list with its id; only what is confirmed counts.
        lists: Vec<(RecordId, Held)>,
        /// True if these are the last ones.
        is_last: bool,
    },
    /// A part of a list that is too long for one message. The rest is in the next one that has the list whole.
    Part {
        /// The record.
        id: RecordId,
        /// The write before it.
        revision: Revision,
        /// The part.
        list: List,
    },
    /// Several messages of one step, in order. None of them is a bundle.
    Bundle(Vec<Message>),
    /// A message of a later version of the protocol: it is ignored.
    Unknown,
}

/// The change that a write makes.
#[derive(Clone, Debug)]
pub enum Write {
    /// Parts of a session, as this earlier write left it.
    Patch(Revision, Delta),
    /// A part of a list, as this earlier write left it.
    List(Revision, ListChange),
    /// Everything.
    Whole(Kept),
}

impl Message {
    /// Removes the calls with these numbers from a message that is not sent yet, or will be resent.
    pub fn retract(&mut self, numbers: &BTreeSet<u64>, lowest_open: u64) {
        match self {
            Self::Call { number, .. } if numbers.contains(number) => {
                *self = Self::Open(lowest_open);
            }
            Self::Bundle(messages) => {
                messages.iter_mut().for_each(|message| message.retract(numbers, lowest_open));
            }
            _ => {}
        }
    }

    /// The bytes that it takes in a queue, about.
    pub fn size(&self) -> usize {
        const BASE: usize = 64;
        BASE + match self {
            Self::Replicate { write, done, .. } => write.size() + done.len() * 64,
            Self::Records { records, .. }
            | Self::Merge { records, .. }
            | Self::Names { lists: records, .. } => {
                records.iter().filter_map(|(_, held)| held.latest()).map(Entry::size).sum()
            }
            Self::Page { page, .. } => page.summaries.len() * 48,
            Self::Want { ids, .. } => ids.len() * 16,
            Self::Compare(slots) => slots.len() * 18,
            Self::Inspected(slots) => slots.len() * 32,
            Self::Confirm(writes) | Self::Forget(writes) => writes.len() * 32,
            Self::Call { request, .. } => request.size(),
            Self::Reply { reply, .. } => reply.size(),
            Self::Part { list, .. } => list.memory(),
            Self::Bundle(messages) => messages.iter().map(Self::size).sum(),
            Self::Inspect(_)
            | Self::Compared { .. }
            | Self::ReadLease { .. }
            | Self::Complete(_)
            | Self::Noted(_)
            | Self::Withdrawn { .. }
            | Self::Free(_) => 512,
            _ => 32,
        }
    }
}

impl Write {
    fn size(&self) -> usize {
        match self {
            Self::Patch(_, delta) => {
                let value = |value: &Option<Box<[u8]>>| value.as_deref().map_or(0, <[u8]>::len);
                delta.ops.iter().map(|(key, json)| key.len() + value(json)).sum()
            }
            Self::List(_, change) => change.size(),
            Self::Whole(kept) => kept.size(),
        }
    }
}
