//! Messages of streams.

use std::time::Duration;

use prost::Message as _;
use steadfast_core::{RecordId, Timestamp};

use super::lists::{list_change, to_step};
use super::proto::call::Request as Asked;
use super::proto::message::Kind;
use super::proto::replicate::Write as Writing;
use super::scalars::{boot, to_nanos};
use super::values::{
    PART, chunks, id, id_bytes, number_of, required, revision, slot, stamp_or_zero_bytes, time,
    to_revision,
};
use super::{WireError, list, pages, proto, slots};
use crate::call::Done;
use crate::frames::BUNDLED;
use crate::member::Boot;
use crate::message::{Message, Write};
use crate::record::{Entry, Held, ListChange, Revision};
use crate::slots::SlotSet;

pub(super) fn encode(message: &Message) -> proto::Message {
    proto::Message { kind: kind(message) }
}

/// A message that this version does not know has no form, and keeps its number.
fn kind(message: &Message) -> Option<Kind> {
    Some(match message {
        Message::Call { number, open, within, request } => Kind::Call(proto::Call {
            number: *number,
            open: *open,
            within: to_nanos(*within),
            request: Some(request.into()),
        }),
        Message::Reply { number, reply } => {
            let (number, reply) = (*number, Some(reply.as_ref().into()));
            Kind::Reply(proto::Reply { number, reply })
        }
        Message::Open(number) => Kind::Open(*number),
        Message::Replicate { id, revision, write, done } => Kind::Replicate(proto::Replicate {
            id: id_bytes(*id),
            revision: to_revision(*revision),
            write: Some(to_write(write)),
            done: to_done(done),
        }),
        Message::Acknowledge { id, revision } => Kind::Acknowledge(written(*id, *revision)),
        Message::Confirm(writes) => Kind::Confirm(writes_bytes(writes)),
        Message::Forget(writes) => Kind::Forget(writes_bytes(writes)),
        Message::Lacks { id, revision } => Kind::Lacks(written(*id, *revision)),
        Message::Records { slot, records, is_last } => Kind::Records(proto::Records {
            slot: slot.index() as u32,
            records: to_held(records),
            is_last: *is_last,
        }),
        Message::Merge { slot, records, is_last } => Kind::Merge(proto::Records {
            slot: slot.index() as u32,
            records: to_held(records),
            is_last: *is_last,
        }),
        Message::Part { id, revision, list } => Kind::Part(proto::Part {
            id: id_bytes(*id),
            revision: to_revision(*revision),
            list: Some(list.into()),
        }),
        Message::Bundle(messages) => {
            let item = messages.iter().map(encode).collect();
            Kind::Bundle(proto::MessageList { item }.encode_to_vec())
        }
        message => return pages::encode(message).or_else(|| about_slots(message)),
    })
}

fn about_slots(message: &Message) -> Option<Kind> {
    Some(match message {
        Message::Inspect(slots) => Kind::Inspect(slots::encode(slots)),
        Message::Compared { equal, differing } => {
            let [equal, differing] = [equal, differing].map(|set| Some(slots::encode(set)));
            Kind::Compared(proto::Compared { equal, differing })
        }
        Message::Complete(slots) => Kind::Complete(slots::encode(slots)),
        Message::Noted(slots) => Kind::Noted(slots::encode(slots)),
        Message::Withdrawn { slots, readers } => {
            let (slots, readers) = (Some(slots::encode(slots)), readers_bytes(readers));
            Kind::Withdrawn(proto::Withdrawn { slots, readers })
        }
        Message::AskReadLease(asked) => Kind::AskReadLease(to_nanos(*asked)),
        Message::ReadLease { slots, asked, length } => Kind::ReadLease(proto::ReadLease {
            slots: Some(slots::encode(slots)),
            asked: to_nanos(*asked),
            length: to_nanos(*length),
        }),
        Message::AskClock { asked, wall } => Kind::AskClock(to_clock(*asked, *wall)),
        Message::Clock { asked, wall } => Kind::Clock(to_clock(*asked, *wall)),
        Message::Listen => Kind::Listen(proto::Empty {}),
        Message::Telling => Kind::Telling(proto::Empty {}),
        Message::Changed(change) => Kind::Changed(change.into()),
        Message::Free(slots) => Kind::Free(slots::encode(slots)),
        Message::Merged(slot) => Kind::Merged(slot.index() as u32),
        Message::AskNames(slots) => Kind::AskNames(slots::encode(slots)),
        Message::Names { slots, lists, is_last } => Kind::Names(proto::Names {
            slots: Some(slots::encode(slots)),
            lists: to_held(lists),
            is_last: *is_last,
        }),
        // Each is named, so that a new message is not forgotten here.
        Message::Unknown
        | Message::Call { .. }
        | Message::Reply { .. }
        | Message::Open(_)
        | Message::Replicate { .. }
        | Message::Acknowledge { .. }
        | Message::Confirm(_)
        | Message::Forget(_)
        | Message::Lacks { .. }
        | Message::Part { .. }
        | Message::Bundle(_)
        | Message::Records { .. }
        | Message::Merge { .. }
        | Message::Inspected(_)
        | Message::Pull { .. }
        | Message::Page { .. }
        | Message::Fetch { .. }
        | Message::Want { .. }
        | Message::Compare(_) => return None,
    })
}

fn to_clock(asked: Duration, wall: Timestamp) -> proto::Clock {
    proto::Clock { asked: to_nanos(asked), wall: wall.as_millis() }
}

fn written(id: RecordId, revision: Revision) -> proto::Written {
    proto::Written { id: id_bytes(id), revision: to_revision(revision) }
}

fn to_write(write: &Write) -> Writing {
    match write {
        Write::Patch(base, delta) => {
            let (base, delta) = (to_revision(*base), Some(delta.into()));
            Writing::Patch(proto::Patched { base, delta })
        }
        Write::List(base, ListChange { stamp, step }) => Writing::List(proto::PatchedSessions {
            base: to_revision(*base),
            stamp: stamp_or_zero_bytes(*stamp),
            step: Some(to_step(step)),
        }),
        Write::Whole(kept) => Writing::Whole(kept.into()),
    }
}

fn to_done(done: &[Done]) -> Vec<u8> {
    proto::DoneList { item: done.iter().map(Into::into).collect() }.encode_to_vec()
}

fn to_held(records: &[(RecordId, Held)]) -> Vec<u8> {
    let held = |(id, held): &(RecordId, Held)| proto::Held {
        id: id_bytes(*id),
        confirmed: held.confirmed.as_ref().map(to_entry),
        tentative: held.tentative.as_deref().map(to_entry),
        told_in: held.told_in,
    };
    proto::HeldList { item: records.iter().map(held).collect() }.encode_to_vec()
}

fn to_entry(entry: &Entry) -> proto::Entry {
    let Entry { revision, kept, done } = entry;
    let (revision, kept) = (to_revision(*revision), Some(kept.into()));
    proto::Entry { revision, kept, done: to_done(done) }
}

fn writes_bytes(writes: &[(RecordId, Revision)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (id, Revision { epoch, number }) in writes {
        bytes.extend(id.as_bytes());
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

fn readers_bytes(readers: &[(Boot, Duration)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (boot, left) in readers {
        bytes.extend(boot.to_bytes());
        bytes.extend(to_nanos(*left).to_be_bytes());
    }
    bytes
}

/// Decodes a message. A message of an unknown kind counts in the stream, but has no effect.
pub(super) fn decode(message: proto::Message) -> Result<Message, WireError> {
    match message.kind {
        Some(Kind::Bundle(bundle)) => {
            let one = |message: proto::Message| single(message.kind);
            Ok(Message::Bundle(list::decode(&bundle, BUNDLED, one)?))
        }
        kind => single(kind),
    }
}

fn single(kind: Option<Kind>) -> Result<Message, WireError> {
    let Some(kind) = kind else {
        return Ok(Message::Unknown);
    };
    Ok(match kind {
        Kind::Bundle(_) => return Err(WireError::Part("a message in a bundle")),
        Kind::Part(proto::Part { id: of, revision: which, list }) => {
            let list = required(list, "a part of a list")?;
            Message::Part { id: id(&of)?, revision: revision(which), list }
        }
        Kind::Call(call) => return self::call(call),
        Kind::Reply(proto::Reply { number, reply: Some(reply) }) => {
            Message::Reply { number, reply: Box::new(reply.try_into()?) }
        }
        Kind::Open(number) => Message::Open(number),
        Kind::Replicate(replicate) => return self::replicate(replicate),
        Kind::Acknowledge(proto::Written { id: of, revision: which }) => {
            Message::Acknowledge { id: id(&of)?, revision: revision(which) }
        }
        Kind::Confirm(writes) => Message::Confirm(self::writes(&writes)?),
        Kind::Forget(writes) => Message::Forget(self::writes(&writes)?),
        Kind::Lacks(proto::Written { id: of, revision: which }) => {
            Message::Lacks { id: id(&of)?, revision: revision(which) }
        }
        Kind::Records(proto::Records { slot: of, records, is_last }) => {
            Message::Records { slot: slot(of)?, records: held(&records)?, is_last }
        }
        Kind::Merge(proto::Records { slot: of, records, is_last }) => {
            Message::Merge { slot: slot(of)?, records: held(&records)?, is_last }
        }
        Kind::Inspected(_)
        | Kind::Pull(_)
        | Kind::Page(_)
        | Kind::Fetch(_)
        | Kind::Want(_)
        | Kind::Compare(_) => return pages::decode(kind),
        kind => return decode_about_slots(kind),
    })
}

fn decode_about_slots(kind: Kind) -> Result<Message, WireError> {
    Ok(match kind {
        Kind::Inspect(slots) => Message::Inspect(slots::decode(&slots)?),
        Kind::Compared(proto::Compared { equal, differing }) => {
            Message::Compared { equal: set(equal)?, differing: set(differing)? }
        }
        Kind::Complete(slots) => Message::Complete(slots::decode(&slots)?),
        Kind::Noted(slots) => Message::Noted(slots::decode(&slots)?),
        Kind::Withdrawn(proto::Withdrawn { slots, readers }) => {
            Message::Withdrawn { slots: set(slots)?, readers: self::readers(&readers)? }
        }
        Kind::AskReadLease(asked) => Message::AskReadLease(Duration::from_nanos(asked)),
        Kind::ReadLease(proto::ReadLease { slots, asked, length }) => {
            let [asked, length] = [asked, length].map(Duration::from_nanos);
            Message::ReadLease { slots: set(slots)?, asked, length }
        }
        Kind::AskClock(clock) => {
            let (asked, wall) = self::clock(clock)?;
            Message::AskClock { asked, wall }
        }
        Kind::Clock(clock) => {
            let (asked, wall) = self::clock(clock)?;
            Message::Clock { asked, wall }
        }
        Kind::Listen(_) => Message::Listen,
        Kind::Telling(_) => Message::Telling,
        Kind::Changed(change) => Message::Changed(change.try_into()?),
        Kind::Free(slots) => Message::Free(slots::decode(&slots)?),
        Kind::Merged(of) => Message::Merged(slot(of)?),
        Kind::AskNames(slots) => Message::AskNames(slots::decode(&slots)?),
        Kind::Names(proto::Names { slots, lists, is_last }) => {
            Message::Names { slots: set(slots)?, lists: held(&lists)?, is_last }
        }
        // A reply of a kind that this version does not know.
        _ => Message::Unknown,
    })
}

fn clock(clock: proto::Clock) -> Result<(Duration, Timestamp), WireError> {
    Ok((Duration::from_nanos(clock.asked), time(clock.wall)?))
}

fn set(slots: Option<proto::Slots>) -> Result<SlotSet, WireError> {
    slots::decode(&slots.unwrap_or_default())
}

fn call(call: proto::Call) -> Result<Message, WireError> {
    let proto::Call { number, open, within, request } = call;
    let within = Duration::from_nanos(within);
    let request = match request {
        None | Some(Asked::List(proto::Listing { request: None, .. })) => {
            return Ok(Message::Unknown);
        }
        Some(request) => request,
    };
    Ok(Message::Call { number, open, within, request: request.try_into()? })
}

fn replicate(replicate: proto::Replicate) -> Result<Message, WireError> {
    let write = match replicate.write {
        Some(Writing::Patch(proto::Patched { base, delta })) => {
            Write::Patch(revision(base), required(delta, "what a write changes")?)
        }
        Some(Writing::List(patched)) => Write::List(revision(patched.base), list_change(&patched)?),
        Some(Writing::Whole(kept)) => Write::Whole(kept.try_into()?),
        None => return Err(WireError::Part("a write")),
    };
    Ok(Message::Replicate {
        id: id(&replicate.id)?,
        revision: revision(replicate.revision),
        write: Box::new(write),
        done: done(&replicate.done)?,
    })
}

fn done(done: &[u8]) -> Result<Vec<Done>, WireError> {
    list::decode(done, PART, |of: proto::Done| of.try_into())
}

fn held(records: &[u8]) -> Result<Vec<(RecordId, Held)>, WireError> {
    list::decode(records, PART, |of: proto::Held| {
        let confirmed = of.confirmed.map(entry).transpose()?;
        let tentative = of.tentative.map(entry).transpose()?.map(Box::new);
        Ok((id(&of.id)?, Held { confirmed, tentative, told_in: of.told_in }))
    })
}

fn entry(entry: proto::Entry) -> Result<Entry, WireError> {
    let kept = required(entry.kept, "what is kept")?;
    Ok(Entry { revision: revision(entry.revision), kept, done: done(&entry.done)? })
}

fn writes(bytes: &[u8]) -> Result<Vec<(RecordId, Revision)>, WireError> {
    let write = |bytes: &[u8; 32]| {
        let (id, revision) = bytes.split_at(16);
        let (epoch, number) = revision.split_at(8);
        let revision = Revision { epoch: number_of(epoch), number: number_of(number) };
        Ok((self::id(id)?, revision))
    };
    chunks(bytes, "a write")?.iter().map(write).collect()
}

fn readers(bytes: &[u8]) -> Result<Vec<(Boot, Duration)>, WireError> {
    let reader = |bytes: &[u8; 24]| {
        let (boot, left) = bytes.split_at(16);
        Ok((self::boot(boot)?, Duration::from_nanos(number_of(left))))
    };
    chunks(bytes, "a reader")?.iter().map(reader).collect()
}
