//! Messages about what a node has of slots.

use prost::Message as _;

use super::proto::message::Kind;
use super::values::{
    PART, chunks, id, id_bytes, id_or_none, id_or_none_bytes, ids, ids_bytes, number_of, revision,
    slot, to_revision,
};
use super::{WireError, list, proto};
use crate::message::Message;
use crate::replicas::{Digest, Inspection, Mark, Page, Summary};
use crate::slots::Slot;

/// The slot was complete in an epoch.
const WAS_COMPLETE: u8 = 1;

/// Something of the slot is tentative.
const IS_TENTATIVE: u8 = 2;

/// The message; `None` if it is not about that.
pub(super) fn encode(message: &Message) -> Option<Kind> {
    Some(match message {
        Message::Inspected(parts) => Kind::Inspected(inspections_bytes(parts)),
        Message::Pull { slot, since, after } => {
            let (slot, after) = (slot.index() as u32, id_or_none_bytes(*after));
            Kind::Pull(proto::Pull { slot, since: *since, after })
        }
        Message::Page { slot, page: Page { after, summaries, next } } => Kind::Page(proto::Page {
            slot: slot.index() as u32,
            after: id_or_none_bytes(*after),
            summaries: to_summaries(summaries),
            next: id_or_none_bytes(*next),
        }),
        Message::Fetch { slot, ids } => {
            let (slot, ids) = (slot.index() as u32, ids_bytes(ids));
            Kind::Fetch(proto::Ids { slot, ids, next: Vec::new() })
        }
        Message::Want { slot, ids, next } => {
            let (slot, ids) = (slot.index() as u32, ids_bytes(ids));
            Kind::Want(proto::Ids { slot, ids, next: id_or_none_bytes(*next) })
        }
        Message::Compare(slots) => Kind::Compare(digests_bytes(slots)),
        _ => return None,
    })
}

fn inspections_bytes(parts: &[(Slot, Inspection)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (slot, Inspection { complete_in, digest, is_tentative }) in parts {
        let was_complete = if complete_in.is_some() { WAS_COMPLETE } else { 0 };
        let tentative = if *is_tentative { IS_TENTATIVE } else { 0 };
        bytes.extend((slot.index() as u16).to_be_bytes());
        bytes.push(was_complete | tentative);
        bytes.extend(complete_in.unwrap_or_default().to_be_bytes());
        bytes.extend(digest.count.to_be_bytes());
        bytes.extend(digest.sum.to_be_bytes());
    }
    bytes
}

fn digests_bytes(slots: &[(Slot, Digest)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (slot, Digest { count, sum }) in slots {
        bytes.extend((slot.index() as u16).to_be_bytes());
        bytes.extend(count.to_be_bytes());
        bytes.extend(sum.to_be_bytes());
    }
    bytes
}

fn to_summaries(summaries: &[Summary]) -> Vec<u8> {
    let mark = |mark: Mark| proto::Mark { revision: to_revision(mark.revision), hash: mark.hash };
    let summary = |summary: &Summary| proto::Summary {
        id: id_bytes(summary.id),
        confirmed: summary.confirmed.map(mark),
        tentative: summary.tentative.map(mark),
    };
    proto::SummaryList { item: summaries.iter().map(summary).collect() }.encode_to_vec()
}

pub(super) fn decode(kind: Kind) -> Result<Message, WireError> {
    Ok(match kind {
        Kind::Inspected(parts) => Message::Inspected(inspections(&parts)?),
        Kind::Pull(proto::Pull { slot: of, since, after }) => {
            Message::Pull { slot: slot(of)?, since, after: id_or_none(&after)? }
        }
        Kind::Page(page) => {
            let (after, next) = (id_or_none(&page.after)?, id_or_none(&page.next)?);
            let summaries = list::decode(&page.summaries, PART, summary)?;
            Message::Page { slot: slot(page.slot)?, page: Page { after, summaries, next } }
        }
        Kind::Fetch(proto::Ids { slot: of, ids: all, .. }) => {
            Message::Fetch { slot: slot(of)?, ids: ids(&all)? }
        }
        Kind::Want(proto::Ids { slot: of, ids: all, next }) => {
            Message::Want { slot: slot(of)?, ids: ids(&all)?, next: id_or_none(&next)? }
        }
        Kind::Compare(slots) => Message::Compare(digests(&slots)?),
        _ => Message::Unknown,
    })
}

fn inspections(bytes: &[u8]) -> Result<Vec<(Slot, Inspection)>, WireError> {
    let inspection = |bytes: &[u8; 27]| {
        let (head, rest) = bytes.split_at(3);
        let (complete_in, digest) = rest.split_at(8);
        let flags = head[2];
        let was_complete = flags & WAS_COMPLETE != 0;
        let complete_in = was_complete.then(|| number_of(complete_in));
        let is_tentative = flags & IS_TENTATIVE != 0;
        let part = Inspection { complete_in, digest: self::digest(digest), is_tentative };
        Ok((slot(number_of(&head[..2]) as u32)?, part))
    };
    chunks(bytes, "a part of a slot")?.iter().map(inspection).collect()
}

fn digests(bytes: &[u8]) -> Result<Vec<(Slot, Digest)>, WireError> {
    let digest = |bytes: &[u8; 18]| {
        let (head, digest) = bytes.split_at(2);
        Ok((slot(number_of(head) as u32)?, self::digest(digest)))
    };
    chunks(bytes, "a digest")?.iter().map(digest).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    let (count, sum) = bytes.split_at(8);
    Digest { count: number_of(count), sum: number_of(sum) }
}

fn summary(summary: proto::Summary) -> Result<Summary, WireError> {
    let proto::Summary { id: of, confirmed, tentative } = summary;
    let mark = |mark: proto::Mark| Mark { revision: revision(mark.revision), hash: mark.hash };
    Ok(Summary { id: id(&of)?, confirmed: confirmed.map(mark), tentative: tentative.map(mark) })
}
