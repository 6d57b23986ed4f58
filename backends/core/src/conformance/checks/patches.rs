//! Patches: concurrent writes are all kept, and a rejected patch writes nothing.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, SECOND, UnderWay, Visitor, add, answers, at_once, json, put, replace,
    values,
};
use crate::limits::Limits;
use crate::outcome::Outcome;
use crate::patch::Patch;
use crate::rejection::Rejection;
use crate::values::RawJson;

/// One task per allowed key writes concurrently, and all keys are kept.
pub async fn patches_to_different_keys_all_survive(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let keys = service.node().limits().keys.min(64);
    at_once((0..keys).map(|n| {
        let service = Arc::clone(&service);
        async move { service.apply(visitor.id, &put(&[(&format!("k{n}"), "1")])).await }
    }))
    .await;
    let kept = service.snapshot(visitor.id).await.values.len();
    assert_eq!(kept, keys, "patches to different keys all survive");
}

/// A patch that was paused halfway does not undo the patches that overtook it.
pub async fn a_slow_patch_takes_nothing_back(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[("kept", "0"), ("removed", "0")]).await;
        let slow = (0..3).map(|n| {
            let service = Arc::clone(&service);
            async move { service.apply(visitor.id, &put(&[(&format!("slow{n}"), "1")])).await }
        });
        let slow = UnderWay::start(polls, slow).await;
        let mut quick = put(&[("quick", "1")]);
        quick.remove("removed").expect("a plain key");
        slow.overtake(service.apply(visitor.id, &quick)).await;
        slow.finish().await;
        let expected =
            [("kept", "0"), ("quick", "1"), ("slow0", "1"), ("slow1", "1"), ("slow2", "1")];
        let kept = service.snapshot(visitor.id).await.values;
        assert_eq!(kept, values(&expected), "patches to different keys all survive");
    }
}

/// A hundred concurrent read-modify-write loops on one key, each guarded by an expectation, lose
/// nothing.
pub async fn guarded_updates_of_one_key_lose_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("n", "0")]).await;
    at_once((0..10).map(|_| {
        let service = Arc::clone(&service);
        async move {
            for _ in 0..10 {
                increment_guarded(&service, visitor).await;
            }
        }
    }))
    .await;
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept, values(&[("n", "100")]), "a guarded update loses none before it");
}

/// Exactly one of several concurrent updates that expect the same value is `Applied`.
pub async fn of_updates_with_one_expectation_one_is_applied(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let visitor = service.visitor(&[("n", "0")]).await;
        let calls = (1..=4).map(|n: u8| {
            let service = Arc::clone(&service);
            let patch = replace("n", Some("0"), &n.to_string());
            async move { service.update(visitor.id, &patch).await }
        });
        let outcomes = UnderWay::start(polls, calls).await.finish().await;
        let count = |form: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, o)| form(o)).count();
        let done = count(|outcome| matches!(outcome, Outcome::Applied(_)));
        let refused = count(|outcome| matches!(outcome, Outcome::Conflict));
        assert_eq!((done, refused), (1, 3), "an expectation holds once: {outcomes:?}");
    }
}

/// A hundred concurrent additions answer 1 to 100, each once.
pub async fn concurrent_additions_are_exact(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let mut answers = at_once((0..100).map(|_| {
        let service = Arc::clone(&service);
        async move { added(&service, visitor).await }
    }))
    .await;
    answers.sort_unstable();
    let all: Vec<i64> = (1..=100).collect();
    assert_eq!(answers, all, "each addition answers the value that it made");
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept, values(&[("n", "100")]), "every addition counts");
}

/// An expectation compares its own key byte for byte, and neither another key nor the version.
pub async fn an_expectation_guards_its_key_and_no_other(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let id = service.visitor(&[("n", r#"{"a": 1}"#)]).await.id;
    let deadline = service.snapshot(id).await.idle_deadline;
    service.apply(id, &put(&[("other", "1")])).await;
    service.apply(id, &Patch::touch(deadline + SECOND)).await;
    let conflicts = [
        replace("n", Some(r#"{"a":1}"#), "2"),
        replace("n", None, "2"),
        replace("missing", Some("null"), "2"),
    ];
    for patch in &conflicts {
        let outcome = service.update(id, patch).await;
        answers!(outcome, Outcome::Conflict, "another value is a conflict");
    }
    service.apply(id, &replace("n", Some(r#"{"a": 1}"#), "2")).await;
    service.apply(id, &replace("missing", None, "3")).await;
    let expected = values(&[("missing", "3"), ("n", "2"), ("other", "1")]);
    assert_eq!(service.snapshot(id).await.values, expected, "what was expected is applied");
}

/// A patch whose expectation fails leaves the whole record unchanged.
pub async fn a_conflict_changes_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("a", "1"), ("b", "2")]).await;
    let before = service.snapshot(visitor.id).await;
    let mut patch = replace("a", Some("0"), "9");
    patch.remove("b").expect("a plain key");
    patch.add("c", 1).expect("an addition to a fresh key");
    patch.keep_until(before.absolute_deadline);
    let outcome = service.update(visitor.id, &patch).await;
    answers!(outcome, Outcome::Conflict, "another value is a conflict");
    assert_eq!(service.snapshot(visitor.id).await, before, "a conflict changes nothing");
}

/// `clear` removes everything applied before it, seen or not. Values that the patch puts after it
/// stay.
pub async fn a_clear_removes_only_what_came_before(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("seen", "1")]).await;
    let mut patch = put(&[("early", "1")]);
    patch.clear();
    patch.put("late", json("2")).expect("a plain key");
    patch.add("count", 3).expect("an addition to a fresh key");
    service.apply(visitor.id, &put(&[("unseen", "1")])).await;
    service.apply(visitor.id, &patch).await;
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept, values(&[("count", "3"), ("late", "2")]), "a clear comes first");
    service.apply(visitor.id, &put(&[("after", "4")])).await;
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept.len(), 3, "a put that is applied after a clear survives");
}

/// Keys and values are kept byte for byte, whichever way they are written and read.
pub async fn values_are_kept_byte_for_byte(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let long = "k".repeat(Limits::KEY_BYTES);
    let mut entries: Vec<(&str, &str)> = AWKWARD_VALUES.to_vec();
    entries.extend(AWKWARD_KEYS.map(|key| (key, "1")));
    entries.push((&long, "1"));
    let created = service.visitor(&entries).await;
    let patched = service.visitor(&[]).await;
    service.apply(patched.id, &put(&entries)).await;
    service.apply(patched.id, &add("counted", 1)).await;
    entries.push(("counted", "1"));
    let kept = service.snapshot(patched.id).await.values;
    assert_eq!(kept, values(&entries), "a patch keeps bytes as they are");
    entries.pop();
    let kept = service.snapshot(created.id).await.values;
    assert_eq!(kept, values(&entries), "a create keeps bytes as they are");
}

/// A patch that exceeds a limit is not applied at all. A patch that reaches the limit is applied
/// entirely.
pub async fn a_patch_over_a_limit_is_rejected_whole(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("n", "0")]).await;
    let limits = *service.node().limits();
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let keys = |count: usize| many(count, "0");
    let whole = many(limits.record_bytes.div_ceil(limits.value_bytes), &text(limits.value_bytes));
    for patch in [
        put(&[("big", &text(limits.value_bytes + 1))]),
        put(&[("deep", &nested(limits.depth + 1))]),
        keys(limits.keys),
        whole,
    ] {
        assert_rejected(&service, visitor, patch, |why| matches!(why, Rejection::Limit(_))).await;
    }
    service.apply(visitor.id, &put(&[("big", &text(limits.value_bytes))])).await;
    service.apply(visitor.id, &put(&[("big", &nested(limits.depth))])).await;
    service.apply(visitor.id, &keys(limits.keys - 2)).await;
}

/// An addition to a value that is not an integer, or beyond the range of `i64`, rejects the whole
/// patch.
pub async fn an_addition_that_cannot_be_is_rejected_whole(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let (max, min) = (i64::MAX.to_string(), i64::MIN.to_string());
    for value in ["\"1\"", "1.0", "1e3", "null", "[1]", "9223372036854775808"] {
        let visitor = service.visitor(&[("n", value)]).await;
        let not_an_integer = |why: &Rejection| *why == Rejection::not_an_integer("n");
        assert_rejected(&service, visitor, add("n", 1), not_an_integer).await;
    }
    for (value, by) in [(&max, 1), (&min, -1), (&max, i64::MAX), (&min, i64::MIN)] {
        let visitor = service.visitor(&[("n", value)]).await;
        let overflow = |why: &Rejection| *why == Rejection::overflow("n");
        assert_rejected(&service, visitor, add("n", by), overflow).await;
    }
}

/// Counters are exact over the whole range of `i64`, and a missing one starts at 0.
pub async fn a_counter_has_the_range_of_i64(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    // An `f64` cannot represent 2^53 + 1. A store that counts with doubles fails here.
    for (by, sum) in [
        (9_007_199_254_740_993, 9_007_199_254_740_993),
        (-9_007_199_254_740_993, 0),
        (i64::MAX, i64::MAX),
        (-1, i64::MAX - 1),
        (-i64::MAX, -1),
        (i64::MIN + 1, i64::MIN),
    ] {
        let applied = service.apply(visitor.id, &add("n", by)).await;
        assert_eq!(applied.counters, [("n".into(), sum)], "a counter is exact");
    }
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept.get("n"), Some(i64::MIN.to_string().as_bytes()), "and is kept as it is");
}

/// Every change except a touch increments the version, and the answer contains the new one.
pub async fn the_version_grows_with_every_change(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("a", "1")]).await;
    let (mut remove, mut clear) = (Patch::new(), Patch::new());
    remove.remove("a").expect("a plain key");
    clear.clear();
    let mut last = service.authoritative(visitor.id).await.expect("a live record").version;
    for patch in [put(&[("b", "1")]), put(&[("b", "1")]), remove, add("n", 0), clear] {
        let version = service.apply(visitor.id, &patch).await.version;
        assert!(version > last, "a version grows with every change");
        last = version;
    }
    let kept = service.authoritative(visitor.id).await.expect("a live record");
    assert!(kept.version >= last, "the record has the version that was answered");
}

async fn increment_guarded(service: &Fixture, visitor: Visitor) {
    loop {
        let record = service.authoritative(visitor.id).await.expect("a live record");
        let read = RawJson::parse(record.values.get("n").expect("the counter"));
        let read = read.expect("the counter is JSON").as_integer().expect("it is an integer");
        let patch = replace("n", Some(&read.to_string()), &(read + 1).to_string());
        match service.update(visitor.id, &patch).await {
            Outcome::Applied(_) => return,
            Outcome::Conflict => tokio::task::yield_now().await,
            other => panic!("an expectation holds or is a conflict: {other:?}"),
        }
    }
}

async fn added(service: &Fixture, visitor: Visitor) -> i64 {
    let applied = service.apply(visitor.id, &add("n", 1)).await;
    match &applied.counters[..] {
        [(key, value)] if &**key == "n" => *value,
        other => panic!("an addition answers its counter and no other: {other:?}"),
    }
}

/// Sends the patch together with changes that are valid on their own.
async fn assert_rejected(
    service: &Fixture,
    visitor: Visitor,
    mut patch: Patch,
    expected: impl Fn(&Rejection) -> bool,
) {
    let before = service.snapshot(visitor.id).await;
    patch.add("a fine counter", 1).expect("an addition to a fresh key");
    patch.keep_until(before.absolute_deadline);
    match service.update(visitor.id, &patch).await {
        Outcome::Rejected(why) if expected(&why) => {}
        other => panic!("what cannot be done is rejected, by its reason: {other:?}"),
    }
    assert_eq!(service.snapshot(visitor.id).await, before, "a patch is rejected whole");
}

fn many(keys: usize, value: &str) -> Patch {
    let mut patch = Patch::new();
    for n in 0..keys {
        patch.put(&format!("k{n}"), json(value)).expect("a plain key");
    }
    patch
}

const AWKWARD_VALUES: [(&str, &str); 14] = [
    ("null", "null"),
    ("empty string", "\"\""),
    ("empty object", "{}"),
    ("empty array", "[]"),
    ("spaces", " {\"a\" :\t[ 1 ,\n2 ] } "),
    ("nul", r#""\u0000 and \u0000""#),
    ("escaped", r#""\u00e9 \/ \ud83d\ude00""#),
    ("lone surrogate", r#""\ud800""#),
    ("unicode", "\"é 😀 \u{2028} \u{7f}\""),
    ("beyond a double", "9007199254740993"),
    ("beyond an i64", "123456789012345678901234567890"),
    ("fraction", "1.10"),
    ("exponent", "1E+2"),
    ("same key twice", r#"{"a":1,"a":2}"#),
];

const AWKWARD_KEYS: [&str; 9] =
    ["é", "😀", " ", "a.b", "$a[0]", "{a}", "a:b*", "'; --", "\u{fffd}\"\\"];
