//! Any message. No text, list or id in one begins with a byte that a message begins with.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;
use steadfast_core::{
    Absence, Admission, Applied, Authentication, Carry, Change, Deleted, EndReason, Facts, Found,
    KeyId, LimitError, Lookup, Outcome, Owner, Patch, Principal, Proof, RawJson, Realm, Record,
    RecordId, Rehash, Rejection, Replaced, Rotation, RouteLabel, SecretHash, SessionInfo,
    Timestamp, Version,
};

use crate::engine::Failure;
use crate::engine::message::{
    Ack, Ballot, Base, Held, Kept, Login, Message, Replica, Reply, Request, Status,
};
use crate::record::{Copy, Delta, Head, Stamp};
use crate::wire::{Hello, scalars};

pub(super) fn message() -> impl Strategy<Value = Message> {
    Union::new([
        status().prop_map(Message::Status).boxed(),
        (number(), span(), request())
            .prop_map(|(number, within, request)| Message::Ask { number, within, request })
            .boxed(),
        (number(), reply()).prop_map(|(number, reply)| Message::Reply { number, reply }).boxed(),
        (number(), id(), stamp_or_zero(), replica())
            .prop_map(|(seq, id, prev, change)| Message::Replicate { seq, id, prev, change })
            .boxed(),
        (number(), ack()).prop_map(|(seq, answer)| Message::Ack { seq, answer }).boxed(),
        stamped().prop_map(Message::Confirm).boxed(),
        ids().prop_map(Message::Unsettled).boxed(),
        ids().prop_map(Message::Expired).boxed(),
        stamped().prop_map(Message::Evicted).boxed(),
        (number(), number())
            .prop_map(|(number, applied)| Message::Lease { number, applied })
            .boxed(),
        (number(), any::<bool>(), span())
            .prop_map(|(number, alive, data)| Message::Grant { number, alive, data })
            .boxed(),
        (number(), id()).prop_map(|(number, id)| Message::Pull { number, id }).boxed(),
        (number(), id(), option::of(held()))
            .prop_map(|(number, id, held)| Message::Pulled { number, id, held })
            .boxed(),
        stamped().prop_map(Message::Offer).boxed(),
        ids().prop_map(Message::Safe).boxed(),
        ids().prop_map(Message::Want).boxed(),
        (id(), held()).prop_map(|(id, held)| Message::Handover { id, held }).boxed(),
        (id(), option::of(id()), number())
            .prop_map(|(from, to, sum)| Message::Digest { from, to, sum })
            .boxed(),
        (id(), option::of(id()), stamped(), any::<bool>())
            .prop_map(|(from, to, stamps, is_answer)| Message::Stamps {
                from,
                to,
                stamps,
                is_answer,
            })
            .boxed(),
        (number(), option::of(id()))
            .prop_map(|(view, after)| Message::Snapshot { view, after })
            .boxed(),
        (number(), vec((id(), kept()), 0..3), option::of(id()))
            .prop_map(|(view, records, next)| Message::Chunk { view, records, next })
            .boxed(),
        ballot().prop_map(Message::Base).boxed(),
        vec(change(), 0..4).prop_map(Message::Changes).boxed(),
    ])
}

pub(super) fn hello() -> impl Strategy<Value = Hello> {
    let numbers = (number(), number(), number());
    (text(), label(), numbers, text(), vec(text(), 0..4)).prop_map(
        |(cluster, name, (protocol, features, wall), address, known)| Hello {
            cluster,
            name,
            protocol,
            features,
            wall,
            address,
            known,
        },
    )
}

fn status() -> impl Strategy<Value = Status> {
    let flags = any::<(bool, bool, bool, bool, bool)>();
    (number(), flags, option::of(base()), number(), members()).prop_map(
        |(incarnation, (complete, draining, leaving, settled, listens), base, view, down)| Status {
            incarnation,
            complete,
            draining,
            leaving,
            base,
            view,
            settled,
            down,
            listens,
        },
    )
}

fn base() -> impl Strategy<Value = Base> {
    (number(), number(), members()).prop_map(|(lineage, epoch, members)| Base {
        lineage,
        epoch,
        members,
    })
}

fn members() -> impl Strategy<Value = Vec<(RouteLabel, u64)>> {
    vec((label(), number()), 0..4)
}

fn ballot() -> impl Strategy<Value = Ballot> {
    let accepted = option::of((number(), base()));
    prop_oneof![
        (number(), number()).prop_map(|(epoch, ballot)| Ballot::Prepare { epoch, ballot }),
        (number(), number(), accepted).prop_map(|(epoch, ballot, accepted)| Ballot::Promise {
            epoch,
            ballot,
            accepted
        }),
        (number(), number(), base()).prop_map(|(epoch, ballot, base)| Ballot::Accept {
            epoch,
            ballot,
            base
        }),
        (number(), number()).prop_map(|(epoch, ballot)| Ballot::Accepted { epoch, ballot }),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (id(), version()).prop_map(|(id, version)| Change::Patched(id, version)),
        (id(), version()).prop_map(|(id, version)| Change::SignedIn(id, version)),
        (id(), end_reason()).prop_map(|(id, reason)| Change::Ended(id, reason)),
        Just(Change::Missed),
    ]
}

fn replica() -> impl Strategy<Value = Replica> {
    prop_oneof![
        delta().prop_map(Replica::Delta),
        (copy(), any::<bool>()).prop_map(|(copy, is_confirmed)| Replica::Full(copy, is_confirmed)),
        (stamp(), time(), end_reason()).prop_map(|(stamp, until, reason)| Replica::Dead {
            stamp,
            until,
            reason
        }),
    ]
}

fn delta() -> impl Strategy<Value = Delta> {
    let ops = btree_map(key().prop_map(Box::from), option::of(json().prop_map(Box::from)), 0..4);
    let head = option::of(head().prop_map(Box::new));
    (stamp(), version(), any::<bool>(), ops, head, time()).prop_map(
        |(stamp, version, clear, ops, head, idle_deadline)| Delta {
            stamp,
            version,
            clear,
            ops: ops.into_iter().collect(),
            head,
            idle_deadline,
        },
    )
}

fn ack() -> impl Strategy<Value = Ack> {
    let gap = held().prop_map(|held| Ack::Gap(Box::new(held)));
    prop_oneof![Just(Ack::Held), Just(Ack::Refused), gap]
}

fn held() -> impl Strategy<Value = Held> {
    (kept(), option::of(copy())).prop_map(|(kept, tentative)| Held { kept, tentative })
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![
        Just(Kept::Nothing),
        copy().prop_map(Kept::Live),
        (stamp(), time(), end_reason()).prop_map(|(stamp, until, reason)| Kept::Dead {
            stamp,
            until,
            reason
        }),
    ]
}

fn copy() -> impl Strategy<Value = Copy> {
    let values = btree_map(key(), (json(), stamp()), 0..4);
    let removed = btree_map(key().prop_map(Box::from), stamp(), 0..3);
    let stamps = (stamp(), stamp(), stamp_or_zero());
    (record(), values, removed, stamps).prop_map(
        |(record, values, removed, (stamp, head, floor))| {
            let written = values.values().map(|(_, stamp)| *stamp).collect();
            let values = values.iter().map(|(key, (json, _))| (key, json.as_slice())).collect();
            let record = Record { values, ..record }.into();
            Copy { record, stamp, head, written, removed: removed.into_iter().collect(), floor }
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    (head(), version(), time(), entries()).prop_map(|(head, version, idle_deadline, values)| {
        let (start, values) = (head.created, values.iter());
        let values = values.map(|(key, json)| (key, json.as_slice())).collect();
        let rest = Record::new(head.secret, start, start, start);
        head.with(&Record { version, idle_deadline, values, ..rest })
    })
}

fn head() -> impl Strategy<Value = Head> {
    let replaced = (hash(), time()).prop_map(|(hash, until)| Box::new(Replaced { hash, until }));
    let owner = (label(), number()).prop_map(|(label, fence)| Box::new(Owner { label, fence }));
    let times = (time(), option::of(time()), time());
    let who = (option::of(principal()), number(), facts());
    (hash(), option::of(replaced), times, who, option::of(owner)).prop_map(
        |(secret, replaced, times, (principal, sign_in, facts), owner)| {
            let (created, authenticated, absolute_deadline) = times;
            Head {
                sign_in,
                facts,
                secret,
                replaced,
                created,
                authenticated,
                absolute_deadline,
                principal,
                owner,
            }
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    prop_oneof![Just(Facts::default()), json().prop_map(|bytes| Facts::new(bytes).unwrap())]
}

fn request() -> impl Strategy<Value = Request> {
    let except = option::of(id());
    prop_oneof![
        (id(), record().prop_map(Box::new), admission())
            .prop_map(|(id, record, admission)| Request::Create { id, record, admission }),
        (id(), option::of(proof()), option::of(version()))
            .prop_map(|(id, proof, seen)| Request::Load { id, proof, seen }),
        (id(), patch().prop_map(Box::new)).prop_map(|(id, patch)| Request::Update { id, patch }),
        (id(), option::of(proof()), option::of(number()), end_reason()).prop_map(
            |(id, proof, sign_in, reason)| Request::Delete { id, proof, sign_in, reason }
        ),
        login().prop_map(|login| Request::Admit(Box::new(login))),
        principal().prop_map(|principal| Request::List { principal }),
        (principal(), except, option::of(number()), end_reason()).prop_map(
            |(principal, except, epoch, reason)| Request::DeleteAll {
                principal,
                except,
                epoch,
                reason
            }
        ),
        (id(), principal()).prop_map(|(id, principal)| Request::Peek { id, principal }),
        (id(), principal(), end_reason()).prop_map(|(id, principal, reason)| Request::End {
            id,
            principal,
            reason
        }),
    ]
}

fn login() -> impl Strategy<Value = Login> {
    (id(), principal(), time(), admission()).prop_map(|(id, principal, until, admission)| Login {
        id,
        principal,
        until,
        admission,
    })
}

fn patch() -> impl Strategy<Value = Patch> {
    let secrets = option::of((proof(), option::of(rotation())));
    let expected = btree_map(key(), json(), 0..3);
    let rest = (option::of(number()), option::of(time()), option::of(label()));
    let seen = (option::of(number()), option::of(rehash()));
    (secrets, writes(), expected, option::of(key()), rest, seen).prop_map(
        |(secrets, mut patch, present, absent, (fence, deadline, owner), (sign_in, rehash))| {
            match secrets {
                Some((proof, Some(rotation))) => patch.rotate(proof, rotation),
                Some((proof, None)) => patch.prove(proof),
                None => {}
            }
            for (key, json) in present {
                patch.expect(&key, Some(RawJson::copied(&json))).unwrap();
            }
            absent.iter().for_each(|key| patch.expect(key, None).unwrap());
            fence.into_iter().for_each(|fence| patch.fence(fence));
            deadline.into_iter().for_each(|deadline| patch.keep_until(deadline));
            owner.into_iter().for_each(|owner| patch.own(owner));
            sign_in.into_iter().for_each(|sign_in| patch.within(sign_in));
            rehash.into_iter().for_each(|rehash| patch.rehash(rehash));
            patch
        },
    )
}

fn writes() -> impl Strategy<Value = Patch> {
    let removed = vec(key(), 0..3);
    let added = btree_map(key(), any::<i64>(), 0..3);
    (any::<bool>(), added, entries(), removed).prop_map(|(clear, added, put, removed)| {
        let mut patch = Patch::new();
        if clear {
            patch.clear();
        }
        added.iter().for_each(|(key, by)| patch.add(key, *by).unwrap());
        put.iter().for_each(|(key, json)| patch.put(key, RawJson::copied(json)).unwrap());
        removed.iter().for_each(|key| patch.remove(key).unwrap());
        patch
    })
}

fn rotation() -> impl Strategy<Value = Rotation> {
    let who = (option::of(principal()), option::of(facts()));
    let authentication = (time(), time(), who, admission()).prop_map(
        |(at, absolute_deadline, (principal, facts), admission)| Authentication {
            facts,
            at,
            absolute_deadline,
            principal,
            admission,
        },
    );
    (hash(), option::of(authentication))
        .prop_map(|(hash, authentication)| Rotation { hash, authentication })
}

fn admission() -> impl Strategy<Value = Admission> {
    (any::<u32>(), option::of(number()))
        .prop_map(|(cap, epoch)| Admission { cap: cap as usize, epoch })
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        outcome().prop_map(Reply::Outcome),
        lookup().prop_map(Reply::Lookup),
        prop::sample::select(DELETED).prop_map(Reply::Ended),
        vec(id(), 1..4).prop_map(Reply::Admitted),
        Just(Reply::BelowFloor),
        vec(session(), 0..4).prop_map(Reply::Listed),
        number().prop_map(Reply::Count),
        option::of(session()).prop_map(Reply::Peeked),
        Just(Reply::Refused),
        prop::sample::select(FAILURES).prop_map(Reply::Failed),
        key_id().prop_map(|key| Reply::Failed(Failure::UnknownKey(key))),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        applied().prop_map(Outcome::Applied),
        Just(Outcome::Exists),
        Just(Outcome::Gone),
        Just(Outcome::Superseded),
        Just(Outcome::Conflict),
        rejection().prop_map(Outcome::Rejected),
    ]
}

fn applied() -> impl Strategy<Value = Applied> {
    let counters = btree_map(key().prop_map(Box::from), any::<i64>(), 0..4);
    (version(), counters, ids(), carry(), any::<bool>()).prop_map(
        |(version, counters, ended, carry, degraded)| Applied {
            version,
            counters: counters.into_iter().collect(),
            ended,
            carry,
            degraded,
        },
    )
}

fn carry() -> impl Strategy<Value = Carry> {
    (vec(label(), 0..3), option::of(version()))
        .prop_map(|(routes, version)| Carry { routes, version })
}

fn rejection() -> impl Strategy<Value = Rejection> {
    prop_oneof![
        limit().prop_map(Rejection::Limit),
        key().prop_map(|key| Rejection::not_an_integer(&key)),
        key().prop_map(|key| Rejection::overflow(&key)),
        Just(Rejection::BelowFloor),
        Just(Rejection::Draining),
    ]
}

fn limit() -> impl Strategy<Value = LimitError> {
    (0..6, any::<u16>(), any::<u16>()).prop_map(|(kind, is, limit)| {
        let (is, limit) = (is.into(), limit.into());
        match kind {
            0 => LimitError::Key { len: is },
            1 => LimitError::Keys { keys: is, limit },
            2 => LimitError::Value { len: is, limit },
            3 => LimitError::Record { len: is, limit },
            4 => LimitError::Facts { len: is, limit },
            _ => LimitError::Depth { depth: is, limit },
        }
    })
}

fn lookup() -> impl Strategy<Value = Lookup> {
    prop_oneof![
        (id(), record(), carry()).prop_map(|(id, record, carry)| Lookup::Found(Found {
            id,
            record: record.into(),
            carry
        })),
        Just(Lookup::Superseded),
        prop::sample::select(ABSENCES).prop_map(Lookup::Absent),
    ]
}

fn session() -> impl Strategy<Value = SessionInfo> {
    let times = (time(), option::of(time()), time(), time());
    (id(), times, facts()).prop_map(|(id, (created, authenticated, deadline, idle), facts)| {
        SessionInfo::new(id, created, authenticated, deadline).with_facts(idle, facts)
    })
}

fn stamped() -> impl Strategy<Value = Vec<(RecordId, Stamp)>> {
    vec((id(), stamp()), 0..4)
}

fn ids() -> impl Strategy<Value = Vec<RecordId>> {
    vec(id(), 0..4)
}

fn id() -> impl Strategy<Value = RecordId> {
    any::<[u8; 15]>().prop_map(|rest| {
        let mut bytes = [7; 16];
        bytes[1..].copy_from_slice(&rest);
        RecordId::from_bytes(bytes)
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(u64, u32)>().prop_map(|(time, node)| Stamp { time: 7 << 56 | time >> 8, node })
}

fn stamp_or_zero() -> impl Strategy<Value = Stamp> {
    prop_oneof![Just(Stamp::ZERO), stamp()]
}

fn proof() -> impl Strategy<Value = Proof> {
    (hash(), vec(hash(), 0..3))
        .prop_map(|(current, earlier)| earlier.into_iter().fold(current.into(), Proof::with_other))
}

fn hash() -> impl Strategy<Value = SecretHash> {
    (key_id(), any::<[u8; 32]>()).prop_map(|(key, digest)| SecretHash::from_parts(key, digest))
}

fn key_id() -> impl Strategy<Value = KeyId> {
    (any::<u32>(), "(w[a-z0-9._-]{0,15})?")
        .prop_map(|(print, name)| KeyId::from_parts(7 << 24 | print >> 8, &name).unwrap())
}

fn rehash() -> impl Strategy<Value = Rehash> {
    (vec(hash(), 1..3), hash()).prop_map(|(from, to)| Rehash { from, to })
}

fn end_reason() -> impl Strategy<Value = EndReason> {
    prop::sample::select(&EndReason::ALL)
}

fn time() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN, Timestamp::MAX);
    (scalars::millis(first)..=scalars::millis(last))
        .prop_map(|millis| scalars::time(millis).unwrap())
}

fn span() -> impl Strategy<Value = Duration> {
    number().prop_map(Duration::from_micros)
}

fn version() -> impl Strategy<Value = Version> {
    number().prop_map(Version)
}

/// A number, often one that takes few bytes.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300_u64, any::<u64>()]
}

fn principal() -> impl Strategy<Value = Principal> {
    ("w[a-z]{0,9}", "w[a-z@. ]{0,9}")
        .prop_map(|(realm, id)| Principal::new(Realm::new(&realm).unwrap(), &id).unwrap())
}

fn label() -> impl Strategy<Value = RouteLabel> {
    "w[a-z0-9_-]{0,9}".prop_map(|label| label.parse().unwrap())
}

fn entries() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    btree_map(key(), json(), 0..4)
}

fn key() -> impl Strategy<Value = String> {
    "w[a-z\u{e9}]{0,3}"
}

fn json() -> impl Strategy<Value = Vec<u8>> {
    "7[0-9]{0,9}".prop_map(String::into_bytes)
}

fn text() -> impl Strategy<Value = String> {
    "w[a-z.:0-9]{0,9}"
}

const FAILURES: &[Failure] = &[
    Failure::NoMajority,
    Failure::Unacknowledged,
    Failure::Unreachable,
    Failure::Moving,
    Failure::NotConfirmed,
    Failure::Timeout,
];

const DELETED: &[Deleted] = &[Deleted::Ended, Deleted::Gone, Deleted::Superseded];

const ABSENCES: &[Absence] = &[Absence::Unknown, Absence::Expired, Absence::Lost];
