//! The database applies patches exactly like `Record::apply`: with the same answer and the same
//! record.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::Service;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use steadfast_core::{
    Authentication, Counters, Env, Facts, KeyId, Limits, LoginPolicy, ManualClock, Operate,
    Outcome, Owner, Patch, Patched, Principal, Proof, RawJson, Realm, Record, RecordId, Rehash,
    Rejection, Replaced, RequestHint, Rotation, SecretHash, SessionStore, StoreError, Timestamp,
    Version,
};
use steadfast_postgres::PostgresStore;
use tokio::runtime::Runtime;

#[test]
fn the_database_decides_what_the_record_would() {
    let runtime = Runtime::new().unwrap();
    let subject = runtime.block_on(Subject::open());
    let config = Config { cases: 3_000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let cases = (record(), patch(), limits(), select(NOWS.to_vec()));
    let checked =
        TestRunner::new_with_rng(config, rng).run(&cases, |(record, steps, limits, now)| {
            let (seen, expected) = runtime.block_on(subject.both(&record, &steps, limits, now));
            prop_assert_eq!(seen, expected);
            Ok(())
        });
    if let Err(TestError::Fail(why, case)) = checked {
        panic!("{why}\nfor {case:#?}");
    }
}

/// Stores with the drawn limits, on one table with one clock.
struct Subject {
    clock: ManualClock,
    creator: PostgresStore,
    stores: Vec<PostgresStore>,
}

impl Subject {
    async fn open() -> Self {
        let service = Service::new();
        let clock = ManualClock::default();
        let env = Env::with_clock(clock.clone());
        let mut stores = Vec::new();
        for limits in LIMITS {
            let builder = service.builder("app").env(env.clone()).connections(1);
            stores.push(builder.limits(limits).build().await.unwrap());
        }
        Self { clock, creator: service.store(env).await, stores }
    }

    /// Returns the store's answer and record, and the expected ones.
    async fn both(&self, record: &Record, steps: &[Step], limits: usize, now: i64) -> (Seen, Seen) {
        let patch = build(steps);
        let id = self.creator.mint().unwrap();
        self.clock.set(at(0));
        self.creator.create(id, record.clone(), LoginPolicy::default()).await.unwrap();
        self.clock.set(at(now));
        let outcome = self.stores[limits].update(id, &patch, &RequestHint::default()).await;
        let kept = self.kept(id).await;
        let seen = Seen { answer: outcome.into(), record: comparable(kept, at(now)) };
        let expected = match record.apply(&patch, at(now), &LIMITS[limits]) {
            Ok(Patched { record, counters }) => {
                let answer = Answer::Applied(record.version, counters);
                Seen { answer, record: comparable(record, at(now)) }
            }
            Err(refusal) => Seen {
                answer: refusal.answer().into(),
                record: comparable(record.clone(), at(now)),
            },
        };
        (seen, expected)
    }

    /// Returns the row, even if it has expired: it follows the previous id.
    async fn kept(&self, id: RecordId) -> Record {
        let before = u128::from_be_bytes(*id.as_bytes()) - 1;
        let before = RecordId::from_bytes(before.to_be_bytes());
        let mut page = self.creator.scan(Some(before), 1).await.unwrap();
        let scanned = page.records.remove(0);
        assert_eq!(scanned.id, id);
        (*scanned.record.unwrap()).clone()
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    answer: Answer,
    record: Record,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Applied(Version, Counters),
    Gone,
    Superseded,
    Conflict,
    Rejected(Rejection),
    UnknownKey(KeyId, String),
}

impl From<Result<Outcome, StoreError>> for Answer {
    fn from(answer: Result<Outcome, StoreError>) -> Self {
        match answer {
            Ok(Outcome::Applied(applied)) => Self::Applied(applied.version, applied.counters),
            Ok(Outcome::Gone) => Self::Gone,
            Ok(Outcome::Superseded) => Self::Superseded,
            Ok(Outcome::Conflict) => Self::Conflict,
            Ok(Outcome::Rejected(why)) => Self::Rejected(why),
            Err(StoreError::UnknownKey(key)) => Self::UnknownKey(key, key.name().to_owned()),
            other => panic!("an update never answers {other:?}"),
        }
    }
}

/// Ignores a replaced hash that has expired, which may be kept or not.
fn comparable(record: Record, now: Timestamp) -> Record {
    Record { replaced: record.replaced.clone().filter(|replaced| now < replaced.until), ..record }
}

/// A part of a patch.
#[derive(Clone, Debug)]
enum Step {
    Put(&'static str, &'static str),
    Remove(&'static str),
    Add(&'static str, i64),
    Clear,
    Expect(&'static str, Option<&'static str>),
    Prove(u8),
    Within(u64),
    Rotate(u8, u8, Option<Login>),
    Rehash(u8, u8),
    KeepUntil(i64),
    Fence(u64),
    Own(&'static str),
}

/// The absolute deadline, the user and the facts.
type Login = (i64, Option<&'static str>, Option<&'static [u8]>);

fn build(steps: &[Step]) -> Patch {
    let mut patch = Patch::new();
    for step in steps {
        match step {
            Step::Put(key, value) => patch.put(key, json(value)).unwrap(),
            Step::Remove(key) => patch.remove(key).unwrap(),
            // It fails if an earlier step of the patch left a value that is not a counter.
            Step::Add(key, by) => drop(patch.add(key, *by)),
            Step::Clear => patch.clear(),
            Step::Expect(key, value) => patch.expect(key, value.map(json)).unwrap(),
            Step::Prove(secret) => patch.prove(proof(*secret)),
            Step::Rotate(from, to, authentication) => {
                let authentication = authentication.map(|(absolute, who, facts)| Authentication {
                    at: at(3),
                    absolute_deadline: at(absolute),
                    principal: who.map(principal),
                    facts: facts.map(|facts| Facts::new(facts).unwrap()),
                    policy: LoginPolicy::default(),
                });
                patch.rotate(proof(*from), Rotation { hash: secret(*to), authentication });
            }
            Step::Within(sign_in) => patch.within(*sign_in),
            Step::Rehash(from, to) => {
                let (from, to) = (vec![secret(*from), secret(5)], secret(*to));
                patch.rehash(Rehash { from, to });
            }
            Step::KeepUntil(deadline) => patch.keep_until(at(*deadline)),
            Step::Fence(fence) => patch.fence(*fence),
            Step::Own(label) => patch.own(label.parse().unwrap()),
        }
    }
    patch
}

fn patch() -> impl Strategy<Value = Vec<Step>> {
    let expected = prop::option::of(value());
    let facts = select(vec![&b""[..], b"\0facts", OWN_IDLE_LIFE]);
    let who = prop::option::of(select(vec!["alice", "bob"]));
    let login = prop::option::of((deadline(), who, prop::option::of(facts)));
    let step = prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => key().prop_map(Step::Remove),
        6 => (key(), by()).prop_map(|(key, by)| Step::Add(key, by)),
        1 => Just(Step::Clear),
        3 => (key(), expected).prop_map(|(key, value)| Step::Expect(key, value)),
        3 => (0..4_u8).prop_map(Step::Prove),
        3 => (0..4_u8, 0..6_u8, login).prop_map(|(from, to, login)| Step::Rotate(from, to, login)),
        2 => (0..3_u64).prop_map(Step::Within),
        2 => (0..4_u8, 0..6_u8).prop_map(|(from, to)| Step::Rehash(from, to)),
        3 => deadline().prop_map(Step::KeepUntil),
        1 => (0..3_u64).prop_map(Step::Fence),
        1 => select(vec!["n1", "n2"]).prop_map(Step::Own),
    ];
    prop::collection::vec(step, 0..5)
}

fn record() -> impl Strategy<Value = Record> {
    let values = prop::collection::btree_map(key(), value(), 0..4);
    let replaced = prop::option::of((0..4_u8, deadline()));
    let who = prop::option::of(select(vec!["alice", "carol"]));
    let fence = prop::option::of(0..3_u64);
    let parts = (values, replaced, who, deadline(), deadline(), fence, 0..3_u64);
    parts.prop_map(|(values, replaced, who, idle, absolute, fence, sign_in)| Record {
        sign_in,
        facts: Facts::new(&b"'facts"[..]).unwrap(),
        values: values.iter().map(|(key, value)| (key, value.as_bytes())).collect(),
        replaced: replaced
            .map(|(hash, until)| Box::new(Replaced { hash: secret(hash), until: at(until) })),
        principal: who.map(principal),
        authenticated: who.map(|_| at(1)),
        owner: fence.map(|fence| Box::new(Owner { label: "n0".parse().unwrap(), fence })),
        version: Version(7),
        idle_deadline: at(idle),
        ..Record::new(secret(0), at(0), at(idle), at(absolute))
    })
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0_usize), 1 => Just(1_usize), 1 => Just(2_usize)]
}

const LIMITS: [Limits; 3] = [
    Limits { keys: 64, value_bytes: 16 << 10, record_bytes: 64 << 10, depth: 32 },
    Limits { keys: 2, value_bytes: 20, record_bytes: 64 << 10, depth: 1 },
    Limits { keys: 64, value_bytes: 16 << 10, record_bytes: 24, depth: 32 },
];

fn key() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "n", "~", "~n", "\u{e9}", "'; --", "$.a", "\"\\"])
}

fn value() -> impl Strategy<Value = &'static str> {
    let numbers = vec!["0", "-0", "7", "-7", " 7", "\t7\r\n", "7.0", "7e0", "-1"];
    let edges = vec![
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "-9223372036854775809",
        "99999999999999999999",
        "9223372036854775806",
    ];
    let others = vec![
        "null",
        "\"7\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\u{e9}\"",
        "{\"a\":1, \"a\":2}",
        "[[[]]]",
        "\"'; drop table sessions; --\"",
        "\"\\\\\"",
    ];
    prop_oneof![2 => select(numbers), 1 => select(edges), 1 => select(others)]
}

fn by() -> impl Strategy<Value = i64> {
    select(vec![0, 1, -1, 5, i64::MAX, i64::MIN])
}

/// Draws minutes. At each time of a patch, some have passed.
fn deadline() -> impl Strategy<Value = i64> {
    prop_oneof![1 => 1..12_i64, 4 => 12..200_i64]
}

const NOWS: [i64; 3] = [4, 5, 11];

fn at(minute: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(60 * (30_000_000 + minute as u64))
}

fn secret(n: u8) -> SecretHash {
    let key = KeyId::from_parts(u32::from(n / 3), ["", "k1"][usize::from(n / 3)]);
    SecretHash::from_parts(key.unwrap(), [n; 32])
}

fn proof(n: u8) -> Proof {
    secret(n).into()
}

fn json(text: &str) -> RawJson {
    RawJson::parse(text).unwrap()
}

fn principal(id: &str) -> Principal {
    Principal::new(Realm::default(), id).unwrap()
}

/// Facts that name an idle life of 5 min and an absolute one of 8 h.
const OWN_IDLE_LIFE: &[u8] = b"\x01\0\0\0\0\0\0\x04\x93\xe0\0\0\0\0\x01\xb7\x74\0";
