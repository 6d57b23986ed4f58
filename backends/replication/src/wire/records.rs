//! Records, copies and what changes them.

use std::collections::BTreeMap;

use steadfast_core::{
    AtCap, Authentication, Change, Facts, LimitError, Limits, LoginPolicy, Op, Owner, Patch,
    Principal, RawJson, Realm, Record, Rehash, Rejection, Replaced, Rotation, Timestamp, Values,
    Version,
};

use super::proto::kept::Kept as Keeping;
use super::proto::record_change::Change as Happened;
use super::scalars::name;
use super::values::{
    KEY, by_key, end_reason, end_reason_number, hash, hashes, hashes_bytes, id, id_bytes, length,
    optional, optional_time, proof, proof_bytes, required, stamp, stamp_bytes, stamp_or_zero,
    stamp_or_zero_bytes, stamps, stamps_bytes, time,
};
use super::{WireError, proto};
use crate::record::{Copy, Delta, Head, Kept, Tombstone, Unreported};

impl From<&Record> for proto::Record {
    fn from(record: &Record) -> Self {
        let entry = |(key, json): (&str, &[u8])| (key.to_owned(), json.to_vec());
        Self {
            head: Some((&Head::of(record)).into()),
            version: record.version.0,
            idle_deadline: record.idle_deadline.as_millis(),
            values: record.values.iter().map(entry).collect(),
        }
    }
}

impl TryFrom<proto::Record> for Record {
    type Error = WireError;

    fn try_from(wire: proto::Record) -> Result<Self, WireError> {
        let head: Head = required(wire.head, "the head of a record")?;
        Ok(Self {
            secret: head.secret,
            replaced: head.replaced,
            version: Version(wire.version),
            values: values(&wire.values)?,
            created: head.created,
            authenticated: head.authenticated,
            idle_deadline: time(wire.idle_deadline)?,
            absolute_deadline: head.absolute_deadline,
            principal: head.principal,
            sign_in: head.sign_in,
            facts: head.facts,
            owner: head.owner,
        })
    }
}

fn values(wire: &BTreeMap<String, Vec<u8>>) -> Result<Values, WireError> {
    let all_fit = wire.keys().all(|key| Limits::check_key(key).is_ok());
    let entries = wire.iter().map(|(key, json)| (key, json.as_slice()));
    all_fit.then(|| entries.collect()).ok_or(WireError::Part(KEY))
}

impl From<&Head> for proto::Head {
    fn from(head: &Head) -> Self {
        Self {
            secret: head.secret.to_bytes(),
            replaced: head.replaced.as_deref().map(Into::into),
            created: head.created.as_millis(),
            authenticated: head.authenticated.map(Timestamp::as_millis),
            absolute_deadline: head.absolute_deadline.as_millis(),
            principal: head.principal.as_ref().map(Into::into),
            owner: head.owner.as_deref().map(Into::into),
            sign_in: head.sign_in,
            facts: head.facts.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<proto::Head> for Head {
    type Error = WireError;

    fn try_from(wire: proto::Head) -> Result<Self, WireError> {
        Ok(Self {
            secret: hash(&wire.secret)?,
            replaced: optional(wire.replaced)?.map(Box::new),
            created: time(wire.created)?,
            authenticated: optional_time(wire.authenticated)?,
            absolute_deadline: time(wire.absolute_deadline)?,
            principal: optional(wire.principal)?,
            sign_in: wire.sign_in,
            facts: facts(wire.facts)?,
            owner: optional(wire.owner)?.map(Box::new),
        })
    }
}

pub(super) fn facts(bytes: Vec<u8>) -> Result<Facts, WireError> {
    Facts::new(bytes).map_err(|_| WireError::Part("what a session says of itself"))
}

impl From<&Replaced> for proto::Replaced {
    fn from(replaced: &Replaced) -> Self {
        Self { hash: replaced.hash.to_bytes(), until: replaced.until.as_millis() }
    }
}

impl TryFrom<proto::Replaced> for Replaced {
    type Error = WireError;

    fn try_from(wire: proto::Replaced) -> Result<Self, WireError> {
        Ok(Self { hash: hash(&wire.hash)?, until: time(wire.until)? })
    }
}

impl From<&Principal> for proto::Principal {
    fn from(principal: &Principal) -> Self {
        Self { realm: principal.realm().as_str().into(), id: principal.id().into() }
    }
}

impl TryFrom<proto::Principal> for Principal {
    type Error = WireError;

    fn try_from(wire: proto::Principal) -> Result<Self, WireError> {
        let realm = Realm::new(&wire.realm).map_err(|_| WireError::Part("a realm"))?;
        Self::new(realm, &wire.id).map_err(|_| WireError::Part("a principal"))
    }
}

impl From<&Owner> for proto::Owner {
    fn from(owner: &Owner) -> Self {
        Self { label: owner.label.as_str().into(), fence: owner.fence }
    }
}

impl TryFrom<proto::Owner> for Owner {
    type Error = WireError;

    fn try_from(wire: proto::Owner) -> Result<Self, WireError> {
        Ok(Self { label: name(&wire.label)?, fence: wire.fence })
    }
}

impl From<&Copy> for proto::Copy {
    fn from(copy: &Copy) -> Self {
        let removed = copy.removed.iter();
        Self {
            record: Some(copy.record.as_ref().into()),
            stamp: stamp_bytes(copy.stamp),
            head: stamp_bytes(copy.head),
            written: stamps_bytes(&copy.written),
            removed: removed.map(|(key, at)| (key.to_string(), stamp_bytes(*at))).collect(),
            floor: stamp_or_zero_bytes(copy.floor),
        }
    }
}

impl TryFrom<proto::Copy> for Copy {
    type Error = WireError;

    fn try_from(wire: proto::Copy) -> Result<Self, WireError> {
        let record: Record = required(wire.record, "the record of a copy")?;
        let written = stamps(&wire.written)?;
        if written.len() != record.values.len() {
            return Err(WireError::Part("the stamp of a value"));
        }
        Ok(Self {
            record: record.into(),
            stamp: stamp(&wire.stamp)?,
            head: stamp(&wire.head)?,
            written: written.into(),
            removed: by_key(wire.removed, |at| stamp(&at))?,
            floor: stamp_or_zero(&wire.floor)?,
        })
    }
}

impl From<&Kept> for proto::Kept {
    fn from(kept: &Kept) -> Self {
        let kept = match kept {
            Kept::Live(copy) => Keeping::Live(copy.into()),
            Kept::Ended(tombstone) => Keeping::Ended(tombstone.into()),
            Kept::List(list) => Keeping::List(list.into()),
        };
        Self { kept: Some(kept) }
    }
}

impl TryFrom<proto::Kept> for Kept {
    type Error = WireError;

    fn try_from(wire: proto::Kept) -> Result<Self, WireError> {
        Ok(match wire.kept.ok_or(WireError::Part("what is kept"))? {
            Keeping::Live(copy) => Self::Live(copy.try_into()?),
            Keeping::Ended(tombstone) => Self::Ended(tombstone.try_into()?),
            Keeping::List(list) => Self::List(list.try_into()?),
        })
    }
}

impl From<&Tombstone> for proto::Tombstone {
    fn from(tombstone: &Tombstone) -> Self {
        Self {
            stamp: stamp_bytes(tombstone.stamp),
            until: tombstone.until.as_millis(),
            reason: end_reason_number(tombstone.reason),
            unreported: tombstone.unreported.as_deref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Tombstone> for Tombstone {
    type Error = WireError;

    fn try_from(wire: proto::Tombstone) -> Result<Self, WireError> {
        Ok(Self {
            stamp: stamp(&wire.stamp)?,
            until: time(wire.until)?,
            reason: end_reason(wire.reason),
            unreported: optional(wire.unreported)?.map(Box::new),
        })
    }
}

impl From<&Unreported> for proto::Unreported {
    fn from(Unreported { principal, at }: &Unreported) -> Self {
        Self { principal: principal.as_ref().map(Into::into), at: at.as_millis() }
    }
}

impl TryFrom<proto::Unreported> for Unreported {
    type Error = WireError;

    fn try_from(wire: proto::Unreported) -> Result<Self, WireError> {
        Ok(Self { principal: optional(wire.principal)?, at: time(wire.at)? })
    }
}

impl From<&Change> for proto::RecordChange {
    fn from(change: &Change) -> Self {
        let version_of = |id, version: Version| {
            let (id, version) = (id_bytes(id), version.0);
            proto::VersionOf { id, version }
        };
        let change = match *change {
            Change::Patched(id, version) => Happened::Patched(version_of(id, version)),
            Change::SignedIn(id, version) => Happened::SignedIn(version_of(id, version)),
            Change::Ended(id, reason) => {
                let (id, reason) = (id_bytes(id), end_reason_number(reason));
                Happened::Ended(proto::EndOf { id, reason })
            }
            Change::Missed => Happened::Missed(proto::Empty {}),
            Change::Down => Happened::Down(proto::Empty {}),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<proto::RecordChange> for Change {
    type Error = WireError;

    fn try_from(wire: proto::RecordChange) -> Result<Self, WireError> {
        Ok(match wire.change {
            Some(Happened::Patched(of)) => Self::Patched(id(&of.id)?, Version(of.version)),
            Some(Happened::SignedIn(of)) => Self::SignedIn(id(&of.id)?, Version(of.version)),
            Some(Happened::Ended(of)) => Self::Ended(id(&of.id)?, end_reason(of.reason)),
            Some(Happened::Missed(_)) | None => Self::Missed,
            Some(Happened::Down(_)) => Self::Down,
        })
    }
}

impl From<&Delta> for proto::Delta {
    fn from(delta: &Delta) -> Self {
        let mut wire = Self {
            stamp: stamp_bytes(delta.stamp),
            version: delta.version.0,
            clear: delta.clear,
            head: delta.head.as_deref().map(Into::into),
            idle_deadline: delta.idle_deadline.as_millis(),
            ..Self::default()
        };
        for (key, written) in &delta.ops {
            match written {
                Some(json) => drop(wire.put.insert(key.to_string(), json.to_vec())),
                None => wire.removed.push(key.to_string()),
            }
        }
        wire
    }
}

impl TryFrom<proto::Delta> for Delta {
    type Error = WireError;

    fn try_from(wire: proto::Delta) -> Result<Self, WireError> {
        let put = wire.put.into_iter().map(|(key, json)| (key, Some(json.into())));
        let removed = wire.removed.into_iter().map(|key| (key, None));
        Ok(Self {
            stamp: stamp(&wire.stamp)?,
            version: Version(wire.version),
            clear: wire.clear,
            ops: by_key(put.chain(removed).collect(), Ok)?,
            head: optional(wire.head)?.map(Box::new),
            idle_deadline: time(wire.idle_deadline)?,
        })
    }
}

impl From<&Patch> for proto::Patch {
    fn from(patch: &Patch) -> Self {
        let mut wire = Self {
            proof: proof_bytes(patch.proof()),
            rotation: patch.rotation().map(Into::into),
            clear: patch.is_clear(),
            fence: patch.expected_fence(),
            idle_deadline: patch.idle_deadline().map(Timestamp::as_millis),
            owner: patch.owner().map(|label| label.as_str().into()),
            within: patch.sign_in(),
            rehash: patch.rehashing().map(Into::into),
            ..Self::default()
        };
        for (key, op) in patch.ops() {
            match op {
                Op::Put(json) => drop(wire.put.insert(key.into(), json.as_bytes().into())),
                Op::Remove => wire.removed.push(key.into()),
                Op::Add(by) => drop(wire.added.insert(key.into(), *by)),
            }
        }
        for (key, json) in patch.expectations() {
            match json {
                Some(json) => drop(wire.present.insert(key.into(), json.as_bytes().into())),
                None => wire.absent.push(key.into()),
            }
        }
        wire
    }
}

impl TryFrom<proto::Patch> for Patch {
    type Error = WireError;

    fn try_from(wire: proto::Patch) -> Result<Self, WireError> {
        let mut patch = Self::new();
        if wire.clear {
            patch.clear();
        }
        write(&mut patch, &wire).map_err(|_| WireError::Part(KEY))?;
        expect(&mut patch, &wire).map_err(|_| WireError::Part(KEY))?;
        match (proof(&wire.proof)?, optional(wire.rotation)?) {
            (Some(proof), Some(rotation)) => patch.rotate(proof, rotation),
            (Some(proof), None) => patch.prove(proof),
            (None, None) => {}
            (None, Some(_)) => return Err(WireError::Part("the proof of a rotation")),
        }
        if let Some(fence) = wire.fence {
            patch.fence(fence);
        }
        if let Some(deadline) = optional_time(wire.idle_deadline)? {
            patch.keep_until(deadline);
        }
        if let Some(owner) = wire.owner {
            patch.own(name(&owner)?);
        }
        if let Some(sign_in) = wire.within {
            patch.within(sign_in);
        }
        if let Some(rehash) = optional(wire.rehash)? {
            patch.rehash(rehash);
        }
        Ok(patch)
    }
}

fn write(patch: &mut Patch, wire: &proto::Patch) -> Result<(), Rejection> {
    for (key, json) in &wire.put {
        patch.put(key, RawJson::copied(json))?;
    }
    for key in &wire.removed {
        patch.remove(key)?;
    }
    wire.added.iter().try_for_each(|(key, by)| patch.add(key, *by))
}

fn expect(patch: &mut Patch, wire: &proto::Patch) -> Result<(), LimitError> {
    for (key, json) in &wire.present {
        patch.expect(key, Some(RawJson::copied(json)))?;
    }
    wire.absent.iter().try_for_each(|key| patch.expect(key, None))
}

impl From<&Rehash> for proto::Rehash {
    fn from(rehash: &Rehash) -> Self {
        Self { from: hashes_bytes(&rehash.from), to: rehash.to.to_bytes() }
    }
}

impl TryFrom<proto::Rehash> for Rehash {
    type Error = WireError;

    fn try_from(wire: proto::Rehash) -> Result<Self, WireError> {
        Ok(Self { from: hashes(&wire.from)?, to: hash(&wire.to)? })
    }
}

impl From<&Rotation> for proto::Rotation {
    fn from(rotation: &Rotation) -> Self {
        Self {
            hash: rotation.hash.to_bytes(),
            authentication: rotation.authentication.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Rotation> for Rotation {
    type Error = WireError;

    fn try_from(wire: proto::Rotation) -> Result<Self, WireError> {
        Ok(Self { hash: hash(&wire.hash)?, authentication: optional(wire.authentication)? })
    }
}

impl From<&Authentication> for proto::Authentication {
    fn from(authentication: &Authentication) -> Self {
        Self {
            at: authentication.at.as_millis(),
            absolute_deadline: authentication.absolute_deadline.as_millis(),
            principal: authentication.principal.as_ref().map(Into::into),
            policy: Some((&authentication.policy).into()),
            facts: authentication.facts.as_ref().map(|facts| facts.as_bytes().to_vec()),
        }
    }
}

impl TryFrom<proto::Authentication> for Authentication {
    type Error = WireError;

    fn try_from(wire: proto::Authentication) -> Result<Self, WireError> {
        Ok(Self {
            at: time(wire.at)?,
            absolute_deadline: time(wire.absolute_deadline)?,
            principal: optional(wire.principal)?,
            facts: wire.facts.map(facts).transpose()?,
            policy: required(wire.policy, "the terms of a login")?,
        })
    }
}

impl From<&LoginPolicy> for proto::LoginPolicy {
    fn from(policy: &LoginPolicy) -> Self {
        let refuses = policy.at_cap == AtCap::Refuse;
        Self { cap: policy.cap as u64, epoch: policy.epoch, refuses }
    }
}

impl TryFrom<proto::LoginPolicy> for LoginPolicy {
    type Error = WireError;

    fn try_from(wire: proto::LoginPolicy) -> Result<Self, WireError> {
        let at_cap = if wire.refuses { AtCap::Refuse } else { AtCap::EndOldest };
        Ok(Self { cap: length(wire.cap)?, epoch: wire.epoch, at_cap })
    }
}
