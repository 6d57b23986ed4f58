//! Frames: a length, a kind, and the fields of a message one after the other.
//!
//! A frame of an unknown kind is skipped, and so is whatever follows the fields of a known one, so
//! that nodes of different versions understand each other. Nothing is allocated on the word of a
//! peer: a list is never longer than the bytes that are there for it.

use std::time::Duration;

use steadfast_core::{
    Absence, Admission, Applied, Authentication, Carry, Change, Found, KeyId, LimitError, Lookup,
    Op, Outcome, Owner, Patch, Principal, Proof, RawJson, Realm, Record, RecordId, Rejection,
    Replaced, Rotation, RouteLabel, SecretHash, SessionInfo, Values, Version,
};
use time::UtcDateTime;

use crate::engine::Failure;
use crate::engine::message::{
    Ack, Ballot, Base, Held, Kept, Login, Message, Replica, Reply, Request, Status,
};
use crate::record::{Copy, Delta, Head, Stamp};

/// The longest frame: a snapshot's part with one record more than it should have.
pub(crate) const MAX_FRAME: usize = 1 << 20;

/// What a peer sent is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {len} bytes is no message")]
pub(crate) struct WireError {
    len: usize,
}

/// The body of a frame.
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    message.write(&mut out);
    out
}

/// The message in the body of a frame; `None` if it is of a kind that this version does not know.
pub(crate) fn decode(body: &[u8]) -> Result<Option<Message>, WireError> {
    if body.first().is_none_or(|kind| *kind >= Message::KINDS) {
        return if body.is_empty() { Err(WireError { len: 0 }) } else { Ok(None) };
    }
    let mut input = body;
    Message::read(&mut input).map(Some).ok_or(WireError { len: body.len() })
}

/// Something that is written and read.
pub(crate) trait Wire: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(input: &mut &[u8]) -> Option<Self>;
}

impl Wire for u64 {
    /// Seven bits a byte, the lowest first.
    fn write(&self, out: &mut Vec<u8>) {
        let mut rest = *self;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl Wire for i64 {
    fn write(&self, out: &mut Vec<u8>) {
        (((self << 1) ^ (self >> 63)) as u64).write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let value = u64::read(input)?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

impl Wire for u32 {
    fn write(&self, out: &mut Vec<u8>) {
        u64::from(*self).write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        u64::read(input)?.try_into().ok()
    }
}

impl Wire for usize {
    fn write(&self, out: &mut Vec<u8>) {
        (*self as u64).write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        u64::read(input)?.try_into().ok()
    }
}

impl Wire for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(u8::read(input)? != 0)
    }
}

impl Wire for u8 {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        Some(byte)
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (bytes, rest) = input.split_first_chunk()?;
        *input = rest;
        Some(*bytes)
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    bytes.len().write(out);
    out.extend_from_slice(bytes);
}

fn take_bytes<'i>(input: &mut &'i [u8]) -> Option<&'i [u8]> {
    let len = usize::read(input)?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

impl Wire for Box<[u8]> {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        take_bytes(input).map(Into::into)
    }
}

impl Wire for String {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        std::str::from_utf8(take_bytes(input)?).ok().map(Into::into)
    }
}

impl Wire for Box<str> {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        String::read(input).map(Into::into)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        if let Some(some) = self {
            some.write(out);
        }
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        match bool::read(input)? {
            true => T::read(input).map(Some),
            false => Some(None),
        }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn write(&self, out: &mut Vec<u8>) {
        T::write(self, out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        T::read(input).map(Box::new)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.len().write(out);
        self.iter().for_each(|item| item.write(out));
    }

    /// Every item takes a byte at least, so the list is no longer than what is there.
    fn read(input: &mut &[u8]) -> Option<Self> {
        let len = usize::read(input).filter(|len| *len <= input.len())?;
        (0..len).map(|_| T::read(input)).collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some((A::read(input)?, B::read(input)?))
    }
}

impl Wire for Duration {
    fn write(&self, out: &mut Vec<u8>) {
        (self.as_micros() as u64).write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        u64::read(input).map(Self::from_micros)
    }
}

impl Wire for UtcDateTime {
    fn write(&self, out: &mut Vec<u8>) {
        self.unix_timestamp().write(out);
        self.nanosecond().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let seconds = Self::from_unix_timestamp(i64::read(input)?).ok()?;
        seconds.replace_nanosecond(u32::read(input)?).ok()
    }
}

impl Wire for RecordId {
    fn write(&self, out: &mut Vec<u8>) {
        self.as_bytes().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Wire::read(input).map(Self::from_bytes)
    }
}

impl Wire for RouteLabel {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_str().as_bytes(), out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        String::read(input)?.parse().ok()
    }
}

impl Wire for Version {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        u64::read(input).map(Self)
    }
}

impl Wire for SecretHash {
    fn write(&self, out: &mut Vec<u8>) {
        self.key().0.write(out);
        self.digest().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(Self::from_parts(KeyId(u32::read(input)?), Wire::read(input)?))
    }
}

impl Wire for Proof {
    fn write(&self, out: &mut Vec<u8>) {
        self.hashes().copied().collect::<Vec<_>>().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let mut hashes = Vec::<SecretHash>::read(input)?.into_iter();
        let current = Self::from(hashes.next()?);
        Some(hashes.fold(current, Self::with_earlier))
    }
}

impl Wire for Principal {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self.realm().as_str().as_bytes(), out);
        put_bytes(self.id().as_bytes(), out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let realm = Realm::new(&String::read(input)?).ok()?;
        Self::new(realm, &String::read(input)?).ok()
    }
}

impl Wire for RawJson {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        take_bytes(input).map(Self::copied)
    }
}

impl Wire for Values {
    fn write(&self, out: &mut Vec<u8>) {
        self.len().write(out);
        for (key, json) in self.iter() {
            put_bytes(key.as_bytes(), out);
            put_bytes(json, out);
        }
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let entries = Vec::<(String, Box<[u8]>)>::read(input)?;
        let fits = |key: &str| steadfast_core::Limits::check_key(key).is_ok();
        let all_fit = entries.iter().all(|(key, _)| fits(key));
        all_fit.then(|| entries.iter().map(|(key, json)| (key, json.as_ref())).collect())
    }
}

impl Wire for Patch {
    fn write(&self, out: &mut Vec<u8>) {
        self.proof().cloned().write(out);
        self.rotation().cloned().write(out);
        self.is_clear().write(out);
        let ops: Vec<_> = self.ops().map(|(key, op)| (Box::<str>::from(key), op.clone())).collect();
        ops.write(out);
        let expected =
            self.expectations().map(|(key, json)| (Box::<str>::from(key), json.cloned()));
        expected.collect::<Vec<_>>().write(out);
        self.expected_fence().write(out);
        self.idle_deadline().write(out);
        self.owner().cloned().write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let mut patch = Self::new();
        match (Option::<Proof>::read(input)?, Option::<Rotation>::read(input)?) {
            (Some(proof), Some(rotation)) => patch.rotate(proof, rotation),
            (Some(proof), None) => patch.prove(proof),
            (None, None) => {}
            (None, Some(_)) => return None,
        }
        if bool::read(input)? {
            patch.clear();
        }
        for (key, op) in Vec::<(String, Op)>::read(input)? {
            match op {
                Op::Put(json) => patch.put(&key, json).ok()?,
                Op::Remove => patch.remove(&key).ok()?,
                Op::Add(by) => patch.add(&key, by).ok()?,
            }
        }
        for (key, json) in Vec::<(String, Option<RawJson>)>::read(input)? {
            patch.expect(&key, json).ok()?;
        }
        if let Some(fence) = Option::read(input)? {
            patch.fence(fence);
        }
        if let Some(deadline) = Option::read(input)? {
            patch.keep_until(deadline);
        }
        if let Some(owner) = Option::read(input)? {
            patch.own(owner);
        }
        Some(patch)
    }
}

/// What a limit said travels as what it is about; the numbers are for the node that asked.
impl Wire for LimitError {
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, is, limit) = match *self {
            Self::Key { len } => (0_u8, len, 0),
            Self::Keys { keys, limit } => (1, keys, limit),
            Self::Value { len, limit } => (2, len, limit),
            Self::Record { len, limit } => (3, len, limit),
            Self::Depth { depth, limit } => (4, depth, limit),
            _ => (5, 0, 0),
        };
        (kind, (is, limit)).write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let (kind, (is, limit)) = <(u8, (usize, usize))>::read(input)?;
        Some(match kind {
            0 => Self::Key { len: is },
            1 => Self::Keys { keys: is, limit },
            4 => Self::Depth { depth: is, limit },
            2 => Self::Value { len: is, limit },
            _ => Self::Record { len: is, limit },
        })
    }
}

impl Wire for Rejection {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Limit(limit) => (0_u8, *limit).write(out),
            Self::NotAnInteger { key } => (1_u8, key.clone()).write(out),
            Self::Overflow { key } => (2_u8, key.clone()).write(out),
            Self::BelowFloor => 3_u8.write(out),
            _ => 4_u8.write(out),
        }
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(match u8::read(input)? {
            0 => Self::Limit(Wire::read(input)?),
            1 => Self::NotAnInteger { key: Wire::read(input)? },
            2 => Self::Overflow { key: Wire::read(input)? },
            3 => Self::BelowFloor,
            4 => Self::Draining,
            _ => return None,
        })
    }
}

impl Wire for Record {
    fn write(&self, out: &mut Vec<u8>) {
        Head::of(self).write(out);
        self.version.write(out);
        self.idle_deadline.write(out);
        self.values.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let head = Head::read(input)?;
        let mut record = Self::new(head.secret, head.created, head.created, head.created);
        record.version = Wire::read(input)?;
        record.idle_deadline = Wire::read(input)?;
        record.values = Wire::read(input)?;
        Some(head.with(&record))
    }
}

impl Wire for Copy {
    fn write(&self, out: &mut Vec<u8>) {
        self.record.as_ref().write(out);
        (self.stamp, (self.head, self.floor)).write(out);
        self.written.to_vec().write(out);
        self.removed.write(out);
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        let record = Record::read(input)?;
        let (stamp, (head, floor)) = Wire::read(input)?;
        let written = Vec::read(input).filter(|written| written.len() == record.values.len())?;
        let removed = Vec::read(input)?;
        Some(Self { record: record.into(), stamp, head, floor, written: written.into(), removed })
    }
}

impl Wire for Lookup {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Found(found) => {
                0_u8.write(out);
                found.id.write(out);
                found.record.as_ref().write(out);
                found.carry.write(out);
            }
            Self::Superseded => 1_u8.write(out),
            Self::Absent(Absence::Unknown) => 2_u8.write(out),
            Self::Absent(Absence::Expired) => 3_u8.write(out),
            Self::Absent(Absence::Lost) => 4_u8.write(out),
        }
    }

    fn read(input: &mut &[u8]) -> Option<Self> {
        Some(match u8::read(input)? {
            0 => Self::Found(Found {
                id: Wire::read(input)?,
                record: Record::read(input)?.into(),
                carry: Wire::read(input)?,
            }),
            1 => Self::Superseded,
            2 => Self::Absent(Absence::Unknown),
            3 => Self::Absent(Absence::Expired),
            4 => Self::Absent(Absence::Lost),
            _ => return None,
        })
    }
}

/// Writes and reads the fields of a struct in this order.
macro_rules! fields {
    ($($type:ident { $($field:ident),* })*) => {
        $(impl Wire for $type {
            fn write(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
            }

            fn read(input: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Wire::read(input)?),* })
            }
        })*
    };
}

fields! {
    Stamp { time, node }
    Base { lineage, epoch, members }
    Status { incarnation, complete, draining, base, view, settled, down, listens }
    Held { kept, tentative }
    Delta { stamp, version, clear, ops, head, idle_deadline }
    Head { secret, replaced, created, authenticated, absolute_deadline, principal, owner }
    Replaced { hash, until }
    Owner { label, fence }
    Admission { cap, epoch }
    Authentication { at, absolute_deadline, principal, admission }
    Rotation { hash, authentication }
    Login { id, principal, until, admission }
    SessionInfo { id, created, authenticated, deadline }
    Carry { routes, version }
    Applied { version, counters, ended, carry, degraded }
}

/// Writes and reads the kind of an enum as a byte, and then its fields.
macro_rules! kinds {
    ($($type:ident {
        $($kind:literal => $variant:ident $({ $($field:ident),* })? $(( $($part:ident),* ))?,)*
    } $count:literal)*) => {
        $(impl $type {
            #[allow(dead_code, reason = "asked of messages only")]
            pub(crate) const KINDS: u8 = $count;
        }

        impl Wire for $type {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $({ $($field),* })? $(( $($part),* ))? => {
                        out.push($kind);
                        $($($field.write(out);)*)?
                        $($($part.write(out);)*)?
                    })*
                }
            }

            fn read(input: &mut &[u8]) -> Option<Self> {
                Some(match u8::read(input)? {
                    $($kind => Self::$variant
                        $({ $($field: Wire::read(input)?),* })?
                        $(( $({ let $part = Wire::read(input)?; $part }),* ))?,)*
                    _ => return None,
                })
            }
        })*
    };
}

kinds! {
    Message {
        0 => Status(status),
        1 => Ask { number, within, request },
        2 => Reply { number, reply },
        3 => Replicate { seq, id, prev, change },
        4 => Ack { seq, answer },
        5 => Confirm(confirmed),
        6 => Unsettled(ids),
        7 => Deadlines { touched, expired },
        8 => Lease { number, applied },
        9 => Grant { number, alive, data },
        10 => Pull { number, id },
        11 => Pulled { number, id, held },
        12 => Offer(offered),
        13 => Safe(ids),
        14 => Want(ids),
        15 => Handover { id, held },
        16 => Digest { from, to, sum },
        17 => Stamps { from, to, stamps, is_answer },
        18 => Snapshot { view, after },
        19 => Chunk { view, records, next },
        20 => Base(ballot),
        21 => Changes(changes),
    } 22
    Ballot {
        0 => Prepare { epoch, ballot },
        1 => Promise { epoch, ballot, accepted },
        2 => Accept { epoch, ballot, base },
        3 => Accepted { epoch, ballot },
    } 4
    Kept {
        0 => Nothing,
        1 => Live(copy),
        2 => Dead { stamp, until },
    } 3
    Replica {
        0 => Delta(delta),
        1 => Full(copy, is_confirmed),
        2 => Dead { stamp, until },
    } 3
    Ack {
        0 => Held,
        1 => Refused,
        2 => Gap(held),
    } 3
    Request {
        0 => Create { id, record, admission },
        1 => Load { id, proof, seen },
        2 => Update { id, patch },
        3 => Delete { id, proof },
        4 => Admit(login),
        5 => List { principal },
        6 => DeleteAll { principal, except, epoch },
        7 => Peek { id, principal },
        8 => End { id, principal },
    } 9
    Reply {
        0 => Outcome(outcome),
        1 => Lookup(lookup),
        2 => Ended(was_live),
        3 => Admitted(ended),
        4 => BelowFloor,
        5 => Listed(sessions),
        6 => Count(count),
        7 => Peeked(session),
        8 => Refused,
        9 => Failed(failure),
    } 10
    Failure {
        0 => NoMajority,
        1 => Unacknowledged,
        2 => Unreachable,
        3 => Moving,
        4 => NotConfirmed,
        5 => Timeout,
    } 6
}

/// Enums of the core, which may not get constants here.
macro_rules! foreign_kinds {
    ($($type:ident { $($kind:literal => $variant:ident $(( $($part:ident),* ))?,)* })*) => {
        $(impl Wire for $type {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant $(( $($part),* ))? => {
                        out.push($kind);
                        $($($part.write(out);)*)?
                    })*
                }
            }

            fn read(input: &mut &[u8]) -> Option<Self> {
                Some(match u8::read(input)? {
                    $($kind => Self::$variant
                        $(( $({ let $part = Wire::read(input)?; $part }),* ))?,)*
                    _ => return None,
                })
            }
        })*
    };
}

foreign_kinds! {
    Outcome {
        0 => Applied(applied),
        1 => Exists,
        2 => Gone,
        3 => Superseded,
        4 => Conflict,
        5 => Rejected(rejection),
    }
    Op {
        0 => Put(json),
        1 => Remove,
        2 => Add(by),
    }
    Change {
        0 => Patched(id, version),
        1 => Ended(id),
        2 => Missed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_round_trip() {
        for message in messages() {
            let back = decode(&encode(&message)).unwrap().unwrap();
            assert_eq!(format!("{back:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        assert!(decode(&[Message::KINDS, 1, 2, 3]).unwrap().is_none());
        for message in messages() {
            let longer = [encode(&message), vec![7; 9]].concat();
            assert!(decode(&longer).unwrap().is_some());
        }
    }

    #[test]
    fn a_cut_frame_is_no_message_and_no_panic() {
        for message in messages() {
            let body = encode(&message);
            for end in 0..body.len() {
                assert!(decode(&body[..end]).is_err(), "{message:?} cut at {end}");
            }
        }
    }

    #[test]
    fn cl_07_a_list_is_no_longer_than_its_bytes() {
        for kind in [5, 6, 12, 19, 21] {
            let bomb = [&[kind][..], &[0xff; 9], &[0x01]].concat();
            assert!(decode(&bomb).is_err());
        }
    }

    #[test]
    fn cl_08_arbitrary_bytes_are_refused_without_a_panic() {
        let mut random = 1_u64;
        for _ in 0..100_000 {
            let body: Vec<u8> = (0..random % 90)
                .map(|n| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n | 1);
                    (random >> 33) as u8 % 40
                })
                .collect();
            let _ = decode(&body);
            random = random.wrapping_add(1).rotate_left(9);
        }
    }

    fn messages() -> Vec<Message> {
        let id = RecordId::from_bytes([3; 16]);
        let hash = SecretHash::from_parts(KeyId(7), [9; 32]);
        let (start, end) = (UtcDateTime::UNIX_EPOCH, UtcDateTime::MAX);
        let values = [("a", b"1".as_slice()), ("\u{e9}", b"[]")].into_iter().collect();
        let record = Record { values, ..Record::new(hash, start, end, end) };
        let stamp = Stamp { time: u64::MAX, node: 5 };
        let copy = Copy::new(record.clone(), stamp);
        let mut patch = Patch::new();
        patch.add("n", -3).unwrap();
        patch.remove("gone").unwrap();
        patch.expect("a", Some(1.into())).unwrap();
        let principal = Principal::new(Realm::default(), "alice").unwrap();
        let authentication = Authentication {
            at: start,
            absolute_deadline: end,
            principal: Some(principal.clone()),
            admission: Admission::default(),
        };
        let rotation = Rotation { hash, authentication: Some(authentication) };
        patch.rotate(Proof::from(hash).with_earlier(hash), rotation);
        let ask = |request| Message::Ask { number: 1, within: Duration::from_secs(1), request };
        let create = Request::Create { id, record: record.into(), admission: Admission::default() };
        let held = Held { kept: Kept::Live(copy.clone()), tentative: Some(copy.clone()) };
        let outcome = Outcome::Rejected(Rejection::NotAnInteger { key: "n".into() });
        vec![
            ask(create),
            ask(Request::Update { id, patch: patch.into() }),
            ask(Request::DeleteAll { principal, except: Some(id), epoch: None }),
            Message::Replicate { seq: 9, id, prev: stamp, change: Replica::Full(copy, true) },
            Message::Ack { seq: 300, answer: Ack::Gap(held.into()) },
            Message::Reply { number: 1, reply: Reply::Outcome(outcome) },
            Message::Confirm(vec![(id, stamp), (id, Stamp::ZERO)]),
            Message::Changes(vec![Change::Ended(id), Change::Missed]),
        ]
    }
}
