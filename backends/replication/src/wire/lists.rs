//! The sessions of a principal.

use prost::Message as _;
use steadfast_core::{Principal, RecordId, SessionInfo, Timestamp};

use super::proto::listing::Request as Asked;
use super::proto::patched_sessions::Step;
use super::records::facts;
use super::values::{
    PART, chunks, id, id_bytes, id_or_none, id_or_none_bytes, ids, ids_bytes, number_of,
    optional_time, required, stamp_or_zero, stamp_or_zero_bytes, time,
};
use super::{WireError, list, proto};
use crate::call::ListRequest;
use crate::record::{Displaced, Floor, List, ListChange, ListEntry, ListStep};

/// The number of sessions that one message lists.
const SESSIONS: usize = 1 << 16;

pub(super) fn to_listing(principal: &Principal, request: &ListRequest) -> proto::Listing {
    let request = match request {
        ListRequest::Admit { id, authenticated, until, policy } => Asked::Admit(proto::Admit {
            id: id_bytes(*id),
            authenticated: authenticated.as_millis(),
            until: until.as_millis(),
            policy: Some(policy.into()),
        }),
        ListRequest::Settle(id) => Asked::Settle(id_bytes(*id)),
        ListRequest::Remove(id) => Asked::Remove(id_bytes(*id)),
        ListRequest::Release(id) => Asked::Release(id_bytes(*id)),
        ListRequest::Page(after) => Asked::Page(id_or_none_bytes(*after)),
        ListRequest::Raise(epoch) => Asked::Raise(*epoch),
    };
    proto::Listing { principal: Some(principal.into()), request: Some(request) }
}

pub(super) fn list_request(asked: Option<Asked>) -> Result<ListRequest, WireError> {
    Ok(match asked.ok_or(WireError::Part("what is asked of a list"))? {
        Asked::Admit(admit) => ListRequest::Admit {
            id: id(&admit.id)?,
            authenticated: time(admit.authenticated)?,
            until: time(admit.until)?,
            policy: required(admit.policy, "the terms of a login")?,
        },
        Asked::Settle(of) => ListRequest::Settle(id(&of)?),
        Asked::Remove(of) => ListRequest::Remove(id(&of)?),
        Asked::Release(of) => ListRequest::Release(id(&of)?),
        Asked::Page(after) => ListRequest::Page(id_or_none(&after)?),
        Asked::Raise(epoch) => ListRequest::Raise(epoch),
    })
}

pub(super) fn to_step(step: &ListStep) -> Step {
    match step {
        ListStep::Reserve(id, ListEntry { authenticated, until, is_settled }, displaced) => {
            Step::Reserve(proto::Reservation {
                id: id_bytes(*id),
                authenticated: authenticated.as_millis(),
                until: until.as_millis(),
                is_settled: *is_settled,
                displaced: ids_bytes(displaced),
            })
        }
        ListStep::Settle(id) => Step::Settle(id_bytes(*id)),
        ListStep::Remove(ids) => Step::Remove(ids_bytes(ids)),
        ListStep::Release(id) => Step::Release(id_bytes(*id)),
        ListStep::Raise(floor) => Step::Raise(to_floor(*floor)),
    }
}

pub(super) fn list_change(patched: &proto::PatchedSessions) -> Result<ListChange, WireError> {
    let step = match patched.step.as_ref().ok_or(WireError::Part("a step of a list"))? {
        Step::Reserve(of) => {
            let (authenticated, until) = (time(of.authenticated)?, time(of.until)?);
            let entry = ListEntry { authenticated, until, is_settled: of.is_settled };
            ListStep::Reserve(id(&of.id)?, entry, ids(&of.displaced)?)
        }
        Step::Settle(of) => ListStep::Settle(id(of)?),
        Step::Remove(of) => ListStep::Remove(ids(of)?),
        Step::Release(of) => ListStep::Release(id(of)?),
        Step::Raise(of) => ListStep::Raise(floor(*of)?),
    };
    Ok(ListChange { stamp: stamp_or_zero(&patched.stamp)?, step })
}

fn to_floor(floor: Floor) -> proto::Floor {
    proto::Floor { epoch: floor.epoch, until: floor.until.as_millis() }
}

fn floor(floor: proto::Floor) -> Result<Floor, WireError> {
    Ok(Floor { epoch: floor.epoch, until: time(floor.until)? })
}

impl From<&List> for proto::Sessions {
    fn from(list: &List) -> Self {
        let mut entries = Vec::new();
        for (id, ListEntry { authenticated, until, is_settled }) in list.iter() {
            entries.extend(id.as_bytes());
            entries.extend(authenticated.as_millis().to_be_bytes());
            entries.extend(until.as_millis().to_be_bytes());
            entries.push(u8::from(*is_settled));
        }
        Self {
            principal: Some((&list.principal).into()),
            stamp: stamp_or_zero_bytes(list.stamp),
            floor: list.floor().map(to_floor),
            entries,
            displaced: to_displaced(list),
        }
    }
}

impl TryFrom<proto::Sessions> for List {
    type Error = WireError;

    fn try_from(wire: proto::Sessions) -> Result<Self, WireError> {
        let principal = required(wire.principal, "a principal")?;
        let floor = wire.floor.map(floor).transpose()?;
        let entries: Result<Vec<_>, _> =
            chunks(&wire.entries, "a session of a principal")?.iter().map(entry).collect();
        let displaced = list::decode(&wire.displaced, PART, |of| displaced(&of))?;
        Ok(Self::of(principal, stamp_or_zero(&wire.stamp)?, floor, (entries?, displaced)))
    }
}

fn to_displaced(list: &List) -> Vec<u8> {
    let item = list.displaced().map(|(id, Displaced { ids, until })| proto::Displaced {
        id: id_bytes(id),
        until: until.as_millis(),
        displaced: ids_bytes(ids),
    });
    proto::DisplacedList { item: item.collect() }.encode_to_vec()
}

fn displaced(wire: &proto::Displaced) -> Result<(RecordId, Displaced), WireError> {
    let (ids, until) = (ids(&wire.displaced)?, time(wire.until)?);
    Ok((id(&wire.id)?, Displaced { ids, until }))
}

fn entry(bytes: &[u8; 33]) -> Result<(RecordId, ListEntry), WireError> {
    let (of, times) = bytes.split_at(16);
    let (authenticated, rest) = times.split_at(8);
    let (until, flags) = rest.split_at(8);
    let time = |bytes: &[u8]| time(number_of(bytes) as i64);
    let (authenticated, until) = (time(authenticated)?, time(until)?);
    Ok((id(of)?, ListEntry { authenticated, until, is_settled: flags != [0] }))
}

pub(super) fn to_listed(sessions: &[SessionInfo]) -> Vec<u8> {
    proto::SessionList { item: sessions.iter().map(Into::into).collect() }.encode_to_vec()
}

pub(super) fn listed(sessions: &[u8]) -> Result<Vec<SessionInfo>, WireError> {
    list::decode(sessions, SESSIONS, |of: proto::Session| of.try_into())
}

impl From<&SessionInfo> for proto::Session {
    fn from(session: &SessionInfo) -> Self {
        let millis = |time: Timestamp| time.as_millis();
        Self {
            id: id_bytes(session.id),
            created: millis(session.created.into()),
            authenticated: session.authenticated.map(|at| millis(at.into())),
            deadline: millis(session.deadline.into()),
            idle_deadline: millis(session.idle_deadline.into()),
            facts: session.facts.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<proto::Session> for SessionInfo {
    type Error = WireError;

    fn try_from(wire: proto::Session) -> Result<Self, WireError> {
        let (created, deadline) = (time(wire.created)?, time(wire.deadline)?);
        let info = Self::new(id(&wire.id)?, created, optional_time(wire.authenticated)?, deadline);
        Ok(info.with_facts(time(wire.idle_deadline)?, facts(wire.facts)?))
    }
}
