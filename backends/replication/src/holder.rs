//! The other side of a write: what a holder keeps of what the owner sends.

use steadfast_core::RecordId;

use crate::call::Done;
use crate::context::Context;
use crate::member::Boot;
use crate::message::{Message, Write};
use crate::record::{Entry, Kept, Revision};
use crate::rules::Rule;
use crate::slots::SlotSet;

/// Takes a write of the owner's, tentatively, and acknowledges it, if the record then is here whole.
pub fn on_replicate(
    from: Boot,
    (id, revision): (RecordId, Revision),
    write: Write,
    done: Vec<Done>,
    cx: &mut Context<'_>,
) {
    let before = cx.replicas.confirmed(id);
    let at = |base| before.filter(|entry| entry.revision == base).map(|entry| &entry.kept);
    let kept = match write {
        Write::Whole(kept) => Some(kept),
        Write::Patch(base, delta) => {
            at(base).and_then(Kept::live).map(|copy| Kept::Live(copy.changed(&delta)))
        }
        Write::List(base, change) => {
            at(base).and_then(Kept::list).map(|list| Kept::List(list.changed(&change)))
        }
    };
    let message = match kept {
        Some(kept) => {
            cx.replicas.stage(id, Entry { revision, kept, done }, cx.view.number());
            Message::Acknowledge { id, revision }
        }
        None if cx.rules.keep(Rule::W1) => Message::Lacks { id, revision },
        None => Message::Acknowledge { id, revision },
    };
    cx.out.send(from, message);
}

/// Shows writes that the owner confirmed.
pub fn on_confirm(writes: &[(RecordId, Revision)], cx: &mut Context<'_>) {
    for (id, revision) in writes {
        cx.replicas.confirm(*id, *revision);
    }
}

/// Forgets what the owner forgot: it made sure that this node has it (X2).
pub fn on_forget(records: &[(RecordId, Revision)], cx: &mut Context<'_>) {
    for (id, revision) in records {
        let is_it = |entry: &Entry| entry.revision == *revision;
        if cx.replicas.confirmed(*id).is_some_and(is_it) && cx.replicas.tentative(*id).is_none() {
            cx.replicas.remove(*id);
        }
    }
}

/// Notes that everything of these slots is here (T8), and drops tentative writes that the owner does not
/// have (T10).
pub fn on_complete(from: Boot, slots: SlotSet, cx: &mut Context<'_>) {
    for slot in slots.iter() {
        cx.replicas.set_complete(slot, cx.view.number());
        if cx.rules.keep(Rule::T10) {
            cx.replicas.drop_old_tentatives(slot, cx.view.number());
        }
    }
    cx.out.send(from, Message::Noted(slots));
}

/// Tells a new owner this node's part in slots.
pub fn inspect(from: Boot, slots: &SlotSet, cx: &mut Context<'_>) {
    let parts: Vec<_> = slots.iter().map(|slot| (slot, cx.replicas.inspect(slot))).collect();
    for parts in parts.chunks(INSPECTED) {
        cx.out.send(from, Message::Inspected(parts.to_vec()));
    }
}

/// The highest number of slots in one message.
const INSPECTED: usize = 512;
