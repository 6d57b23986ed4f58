//! Every message about records.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;
use steadfast_core::{
    Absence, Applied, AtCap, Authentication, Change, ClientState, Deleted, EndReason, Facts, Found,
    KeyId, LimitError, LoginPolicy, Lookup, Outcome, Owner, Patch, Principal, Proof, RawJson,
    Realm, Record, RecordId, Rehash, Rejection, Replaced, Rotation, RouteLabel, SecretHash,
    SessionInfo, Timestamp, Version,
};

use super::strategies::{any_boot, slots};
use crate::call::{CallEffect, CallId, Done, Failure, ListPage, ListRequest, Reply, Request};
use crate::message::{Message, Write};
use crate::record::{
    Copy, Delta, Displaced, Entry, Floor, Head, Held, Kept, List, ListChange, ListEntry, ListStep,
    Revision, Stamp, Tombstone, Unreported,
};
use crate::replicas::{Digest, Inspection, Mark, Page, Summary};
use crate::slots::{SLOTS, Slot};

pub(super) fn message() -> impl Strategy<Value = Message> {
    let bundle = vec(single(), 2..4).prop_map(Message::Bundle);
    prop_oneof![8 => single(), 1 => bundle]
}

fn single() -> impl Strategy<Value = Message> {
    let part = (id(), revision(), list()).prop_map(|(id, revision, list)| Message::Part {
        id,
        revision,
        list,
    });
    prop_oneof![4 => about_records(), 2 => about_slots(), 1 => part]
}

fn about_records() -> impl Strategy<Value = Message> {
    let numbers = (number(), number(), span());
    let write = (write().prop_map(Box::new), vec(done(), 0..3));
    Union::new([
        (numbers, request())
            .prop_map(|((number, open, within), request)| Message::Call {
                number,
                open,
                within,
                request,
            })
            .boxed(),
        (number(), reply().prop_map(Box::new))
            .prop_map(|(number, reply)| Message::Reply { number, reply })
            .boxed(),
        number().prop_map(Message::Open).boxed(),
        (id(), revision(), write)
            .prop_map(|(id, revision, (write, done))| Message::Replicate {
                id,
                revision,
                write,
                done,
            })
            .boxed(),
        (id(), revision()).prop_map(|(id, revision)| Message::Acknowledge { id, revision }).boxed(),
        vec((id(), revision()), 0..4).prop_map(Message::Confirm).boxed(),
        vec((id(), revision()), 0..4).prop_map(Message::Forget).boxed(),
        (id(), revision()).prop_map(|(id, revision)| Message::Lacks { id, revision }).boxed(),
        Just(Message::Unknown).boxed(),
    ])
}

fn about_slots() -> impl Strategy<Value = Message> {
    Union::new([
        slots().prop_map(Message::Inspect).boxed(),
        vec((slot(), inspection()), 0..4).prop_map(Message::Inspected).boxed(),
        (slot(), option::of(number()), option::of(id()))
            .prop_map(|(slot, since, after)| Message::Pull { slot, since, after })
            .boxed(),
        (slot(), page()).prop_map(|(slot, page)| Message::Page { slot, page }).boxed(),
        (slot(), ids()).prop_map(|(slot, ids)| Message::Fetch { slot, ids }).boxed(),
        (slot(), ids(), option::of(id()))
            .prop_map(|(slot, ids, next)| Message::Want { slot, ids, next })
            .boxed(),
        (slot(), vec((id(), held()), 0..3), any::<bool>())
            .prop_map(|(slot, records, is_last)| Message::Records { slot, records, is_last })
            .boxed(),
        vec((slot(), digest()), 0..4).prop_map(Message::Compare).boxed(),
        (slots(), slots())
            .prop_map(|(equal, differing)| Message::Compared { equal, differing })
            .boxed(),
        slots().prop_map(Message::Complete).boxed(),
        slots().prop_map(Message::Noted).boxed(),
        (slots(), vec((any_boot(), span()), 0..3))
            .prop_map(|(slots, readers)| Message::Withdrawn { slots, readers })
            .boxed(),
        span().prop_map(Message::AskReadLease).boxed(),
        (slots(), span(), span())
            .prop_map(|(slots, asked, length)| Message::ReadLease { slots, asked, length })
            .boxed(),
        (span(), time()).prop_map(|(asked, wall)| Message::AskClock { asked, wall }).boxed(),
        (span(), time()).prop_map(|(asked, wall)| Message::Clock { asked, wall }).boxed(),
        Just(Message::Listen).boxed(),
        Just(Message::Telling).boxed(),
        change().prop_map(Message::Changed).boxed(),
        slots().prop_map(Message::Free).boxed(),
        (slot(), vec((id(), held()), 0..3), any::<bool>())
            .prop_map(|(slot, records, is_last)| Message::Merge { slot, records, is_last })
            .boxed(),
        slot().prop_map(Message::Merged).boxed(),
        slots().prop_map(Message::AskNames).boxed(),
        (slots(), vec((id(), held()), 0..3), any::<bool>())
            .prop_map(|(slots, lists, is_last)| Message::Names { slots, lists, is_last })
            .boxed(),
    ])
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (id(), version()).prop_map(|(id, version)| Change::Patched(id, version)),
        (id(), version()).prop_map(|(id, version)| Change::SignedIn(id, version)),
        (id(), end_reason()).prop_map(|(id, reason)| Change::Ended(id, reason)),
        Just(Change::Missed),
        Just(Change::Down),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        (revision(), delta()).prop_map(|(base, delta)| Write::Patch(base, delta)),
        (revision(), list_change()).prop_map(|(base, change)| Write::List(base, change)),
        kept().prop_map(Write::Whole),
    ]
}

fn revision() -> impl Strategy<Value = Revision> {
    (number(), number()).prop_map(|(epoch, number)| Revision { epoch, number })
}

fn call_id() -> impl Strategy<Value = CallId> {
    (any_boot(), number()).prop_map(|(caller, number)| CallId { caller, number })
}

fn done() -> impl Strategy<Value = Done> {
    let counters = btree_map(key().prop_map(Box::from), any::<i64>(), 0..3);
    let applied = (version(), counters, ids()).prop_map(|(version, counters, ended)| {
        let counters = counters.into_iter().collect();
        CallEffect::Applied { version, counters, ended }
    });
    let effect = prop_oneof![Just(CallEffect::Ended), applied];
    (any_boot(), number(), effect)
        .prop_map(|(caller, number, effect)| Done { call: CallId { caller, number }, effect })
}

fn inspection() -> impl Strategy<Value = Inspection> {
    (option::of(number()), digest(), any::<bool>()).prop_map(
        |(complete_in, digest, is_tentative)| Inspection { complete_in, digest, is_tentative },
    )
}

fn digest() -> impl Strategy<Value = Digest> {
    (number(), any::<u64>()).prop_map(|(count, sum)| Digest { count, sum })
}

fn page() -> impl Strategy<Value = Page> {
    let mark = || (revision(), any::<u64>()).prop_map(|(revision, hash)| Mark { revision, hash });
    let summary = (id(), option::of(mark()), option::of(mark()))
        .prop_map(|(id, confirmed, tentative)| Summary { id, confirmed, tentative });
    (option::of(id()), vec(summary, 0..4), option::of(id()))
        .prop_map(|(after, summaries, next)| Page { after, summaries, next })
}

fn held() -> impl Strategy<Value = Held> {
    let entry = || {
        (revision(), kept(), vec(done(), 0..2)).prop_map(|(revision, kept, done)| Entry {
            revision,
            kept,
            done,
        })
    };
    (option::of(entry()), option::of(entry().prop_map(Box::new)), number())
        .prop_map(|(confirmed, tentative, told_in)| Held { confirmed, tentative, told_in })
}

fn kept() -> impl Strategy<Value = Kept> {
    let unreported = (option::of(principal()), time())
        .prop_map(|(principal, at)| Box::new(Unreported { principal, at }));
    let tombstone = (stamp(), time(), end_reason(), option::of(unreported)).prop_map(
        |(stamp, until, reason, unreported)| Tombstone { stamp, until, reason, unreported },
    );
    prop_oneof![
        copy().prop_map(Kept::Live),
        list().prop_map(Kept::List),
        tombstone.prop_map(Kept::Ended)
    ]
}

fn slot() -> impl Strategy<Value = Slot> {
    (0..SLOTS).prop_map(Slot::at)
}

fn id() -> impl Strategy<Value = RecordId> {
    any::<[u8; 16]>().prop_map(RecordId::from_bytes)
}

fn span() -> impl Strategy<Value = Duration> {
    number().prop_map(Duration::from_nanos)
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
    prop_oneof![
        (id(), record().prop_map(Box::new), policy())
            .prop_map(|(id, record, policy)| Request::Create { id, record, policy }),
        (id(), option::of(proof()), option::of(version()))
            .prop_map(|(id, proof, seen)| Request::Load { id, proof, seen }),
        (id(), patch().prop_map(Box::new)).prop_map(|(id, patch)| Request::Update { id, patch }),
        (id(), option::of(proof()), option::of(number()), end_reason()).prop_map(
            |(id, proof, sign_in, reason)| Request::Delete { id, proof, sign_in, reason }
        ),
        (id(), principal(), end_reason(), option::of(call_id())).prop_map(
            |(id, principal, reason, login)| Request::End { id, principal, reason, login }
        ),
        (id(), principal()).prop_map(|(id, principal)| Request::Describe { id, principal }),
        id().prop_map(|id| Request::MarkReported { id }),
        (principal(), list_request())
            .prop_map(|(principal, request)| Request::List { principal, request }),
    ]
}

fn list_request() -> impl Strategy<Value = ListRequest> {
    prop_oneof![
        (id(), time(), time(), policy()).prop_map(|(id, authenticated, until, policy)| {
            ListRequest::Admit { id, authenticated, until, policy }
        }),
        id().prop_map(ListRequest::Settle),
        id().prop_map(ListRequest::Remove),
        id().prop_map(ListRequest::Release),
        option::of(id()).prop_map(ListRequest::Page),
        number().prop_map(ListRequest::Raise),
    ]
}

fn list_change() -> impl Strategy<Value = ListChange> {
    let step = prop_oneof![
        (id(), list_entry(), ids())
            .prop_map(|(id, entry, displaced)| ListStep::Reserve(id, entry, displaced)),
        id().prop_map(ListStep::Settle),
        ids().prop_map(ListStep::Remove),
        id().prop_map(ListStep::Release),
        floor().prop_map(ListStep::Raise),
    ];
    (stamp_or_zero(), step).prop_map(|(stamp, step)| ListChange { stamp, step })
}

fn list_entry() -> impl Strategy<Value = ListEntry> {
    (time(), time(), any::<bool>()).prop_map(|(authenticated, until, is_settled)| ListEntry {
        authenticated,
        until,
        is_settled,
    })
}

fn floor() -> impl Strategy<Value = Floor> {
    (number(), time()).prop_map(|(epoch, until)| Floor { epoch, until })
}

fn list() -> impl Strategy<Value = List> {
    let displaced = (ids(), time()).prop_map(|(ids, until)| Displaced { ids, until });
    let sessions = (vec((id(), list_entry()), 0..5), vec((id(), displaced), 0..3));
    (principal(), stamp_or_zero(), option::of(floor()), sessions)
        .prop_map(|(principal, stamp, floor, sessions)| List::of(principal, stamp, floor, sessions))
}

fn session() -> impl Strategy<Value = SessionInfo> {
    let times = (time(), option::of(time()), time(), time());
    (id(), times, facts()).prop_map(|(id, (created, authenticated, deadline, idle), facts)| {
        SessionInfo::new(id, created, authenticated, deadline).with_facts(idle, facts)
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
    let authentication = (time(), time(), who, policy()).prop_map(
        |(at, absolute_deadline, (principal, facts), policy)| Authentication {
            facts,
            at,
            absolute_deadline,
            principal,
            policy,
        },
    );
    (hash(), option::of(authentication))
        .prop_map(|(hash, authentication)| Rotation { hash, authentication })
}

fn policy() -> impl Strategy<Value = LoginPolicy> {
    (any::<u32>(), option::of(number()), any::<bool>()).prop_map(|(cap, epoch, refuses)| {
        let at_cap = if refuses { AtCap::Refuse } else { AtCap::EndOldest };
        LoginPolicy { cap: cap as usize, epoch, at_cap }
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        outcome().prop_map(Reply::Outcome),
        lookup().prop_map(Reply::Lookup),
        prop::sample::select(DELETED).prop_map(Reply::Deleted),
        ids().prop_map(Reply::Admitted),
        ids().prop_map(Reply::Crowded),
        Just(Reply::Busy),
        (ids(), ids(), option::of(id())).prop_map(|(settled, reserved, next)| {
            Reply::Page(ListPage { settled, reserved, next })
        }),
        option::of(session()).prop_map(Reply::Described),
        Just(Reply::Done),
        vec(session(), 0..4).prop_map(Reply::Listed),
        number().prop_map(Reply::Count),
        prop::sample::select(&[Failure::Timeout, Failure::GivenUp]).prop_map(Reply::Failed),
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
    (version(), counters, ids(), client_state(), any::<bool>()).prop_map(
        |(version, counters, ended, client_state, degraded)| Applied {
            version,
            counters: counters.into_iter().collect(),
            ended,
            client_state,
            degraded,
        },
    )
}

fn client_state() -> impl Strategy<Value = ClientState> {
    (vec(label(), 0..3), option::of(version()))
        .prop_map(|(routes, version)| ClientState { routes, version })
}

fn rejection() -> impl Strategy<Value = Rejection> {
    prop_oneof![
        limit().prop_map(Rejection::Limit),
        key().prop_map(|key| Rejection::not_an_integer(&key)),
        key().prop_map(|key| Rejection::overflow(&key)),
        Just(Rejection::StaleEpoch),
        Just(Rejection::AtCap),
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
        (id(), record(), client_state()).prop_map(|(id, record, client_state)| Lookup::Found(
            Found { id, record: record.into(), client_state }
        )),
        Just(Lookup::Superseded),
        prop::sample::select(ABSENCES).prop_map(Lookup::Absent),
    ]
}

fn ids() -> impl Strategy<Value = Vec<RecordId>> {
    vec(id(), 0..4)
}

fn stamp() -> impl Strategy<Value = Stamp> {
    any::<(u64, u32)>().prop_map(|(time, writer)| Stamp { time, writer })
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
        .prop_map(|(print, name)| KeyId::from_parts(print, &name).unwrap())
}

fn rehash() -> impl Strategy<Value = Rehash> {
    (vec(hash(), 1..3), hash()).prop_map(|(from, to)| Rehash { from, to })
}

fn end_reason() -> impl Strategy<Value = EndReason> {
    prop::sample::select(&EndReason::ALL)
}

fn time() -> impl Strategy<Value = Timestamp> {
    let (first, last) = (Timestamp::MIN, Timestamp::MAX);
    (first.as_millis()..=last.as_millis()).prop_map(Timestamp::from_millis)
}

fn version() -> impl Strategy<Value = Version> {
    number().prop_map(Version)
}

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

const DELETED: &[Deleted] = &[Deleted::Ended, Deleted::Gone, Deleted::Superseded];

const ABSENCES: &[Absence] = &[Absence::Unknown, Absence::Expired, Absence::Lost];
