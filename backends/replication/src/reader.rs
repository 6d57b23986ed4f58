//! Reads that a holder answers from its own copy.

use std::time::Duration;

use steadfast_core::{
    Absence, ClientState, EndReason, Found, Lookup, Proof, RecordId, Verdict, Version,
};

use crate::call::{Failure, Reply};
use crate::context::Context;
use crate::readers::Readers;
use crate::record::{Kept, Tombstone};
use crate::rules::Rule;

/// The answer to a read, if the copy of this node may give it: the node has everything of the slot in this
/// epoch, a read lease, what the client has seen, nothing tentative beside it, and the deadline is not near.
pub fn read(
    id: RecordId,
    (proof, seen): (Option<&Proof>, Option<Version>),
    readers: &Readers,
    cx: &Context<'_>,
) -> Option<Reply> {
    let slot = cx.slot_of(id);
    let owner = cx.view.owner(slot)?;
    let is_complete = cx.replicas.complete_in(slot) == Some(cx.view.number());
    if !is_complete || !readers.may_read(owner, slot, cx.now.mono) {
        return None;
    }
    let held = cx.replicas.get(id)?;
    if held.tentative.is_some() && cx.rules.keep(Rule::W3) {
        return None;
    }
    let copy = match &held.latest()?.kept {
        Kept::Live(copy) => copy,
        Kept::Ended(Tombstone { reason: EndReason::Expired, .. }) => {
            return Some(Reply::Lookup(Lookup::Absent(Absence::Expired)));
        }
        Kept::Ended(_) => return Some(Reply::Lookup(Lookup::Absent(Absence::Unknown))),
        Kept::List(_) => return None,
    };
    let record = &copy.record;
    let margin = if cx.rules.keep(Rule::K3) { MARGIN } else { Duration::ZERO };
    let is_near = record.is_expired(cx.now.wall + margin);
    if is_near || seen.is_some_and(|seen| record.version < seen) {
        return None;
    }
    Some(match proof.map(|proof| record.verify(proof, cx.now.wall)) {
        None | Some(Verdict::Right) => {
            let client_state =
                ClientState { routes: cx.view.routes(slot), version: Some(record.version) };
            Reply::Lookup(Lookup::Found(Found { id, record: record.clone(), client_state }))
        }
        Some(Verdict::Superseded) => Reply::Lookup(Lookup::Superseded),
        Some(Verdict::Wrong) => Reply::Lookup(Lookup::Absent(Absence::Unknown)),
        Some(Verdict::UnknownKey(key)) => Reply::Failed(Failure::UnknownKey(key)),
    })
}

/// The time before a deadline in which only the owner answers, since its clock decides (K3).
const MARGIN: Duration = Duration::from_secs(5);
