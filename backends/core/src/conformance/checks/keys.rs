//! Hash keys: hashes move to the newer key, and no write is lost.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, Holder, MINUTE, Rings, SECOND, UnderWay, Visitor, add, answers, principal,
    put, replace, rotate, values,
};
use crate::error::StoreError;
use crate::outcome::{Deletion, Outcome};
use crate::patch::{LoginPolicy, Patch};
use crate::proof::{Keyring, Proof};
use crate::record::Record;
use crate::store::Lookup;

/// If several requests of one browser carry the same re-hash, every patch is applied.
pub async fn of_rehashes_at_once_every_patch_is_applied(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    for polls in HELD_AFTER {
        let holder = Holder::create(&service, &rings.old, &[("guarded", "0")]).await;
        let id = holder.id();
        let update = |patch: Patch| {
            let (service, patch) = (Arc::clone(&service), holder.rehashed(&rings.both, patch));
            async move { service.apply(id, &patch).await }
        };
        let mut written = add("n", 1);
        written.put("slow", 1.into()).expect("a plain key");
        let slow = [written, replace("guarded", Some("0"), "1"), Patch::touch(service.now())];
        let slow = UnderWay::start(polls, slow.map(update)).await;
        let mut written = add("n", 1);
        written.put("quick", 1.into()).expect("a plain key");
        let quick = slow.overtake(update(written)).await;
        let answers = slow.finish().await.into_iter().map(|(_, applied)| applied);
        let mut sums: Vec<_> = answers.chain([quick]).flat_map(|done| done.counters).collect();
        sums.sort();
        assert_eq!(sums, [("n".into(), 1), ("n".into(), 2)], "each addition is counted");
        let record = service.snapshot(id).await;
        let expected = [("guarded", "1"), ("n", "2"), ("quick", "1"), ("slow", "1")];
        assert_eq!(record.values, values(&expected), "no write is lost to a re-hash");
        assert_moved(&service, &holder, &rings).await;
    }
}

/// A re-hash only changes the hash. It replaces no secret and begins no sign-in.
pub async fn a_rehash_replaces_no_secret(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let holder = Holder::create(&service, &rings.old, &[("n", "1")]).await;
    let before = service.snapshot(holder.id()).await;
    service.apply(holder.id(), &holder.rehashed(&rings.both, put(&[("n", "2")]))).await;
    let after = service.snapshot(holder.id()).await;
    let expected = Record {
        secret: holder.under(&rings.new).secret,
        values: values(&[("n", "2")]),
        version: after.version,
        ..before.clone()
    };
    assert_eq!(after, expected, "a re-hash changes only the hash");
    assert_moved(&service, &holder, &rings).await;
}

/// If the record has none of the hashes that a re-hash names, the rest of the patch is applied.
pub async fn a_rehash_of_another_hash_applies_the_rest(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let moved = Holder::create(&service, &rings.new, &[("n", "1")]).await;
    let rotated = Holder::create(&service, &rings.old, &[("n", "1")]).await;
    service.apply(rotated.id(), &rotate(rotated.under(&rings.old), service.secret())).await;
    for holder in [moved, rotated] {
        let before = service.snapshot(holder.id()).await;
        let mut patch = holder.rehashed(&rings.both, add("n", 1)).unproven();
        patch.put("rest", 1.into()).expect("a plain key");
        let done = service.apply(holder.id(), &patch).await;
        assert_eq!(done.counters, [("n".into(), 2)], "the rest is applied");
        let after = service.snapshot(holder.id()).await;
        let values = values(&[("n", "2"), ("rest", "1")]);
        let expected = Record { values, version: after.version, ..before };
        assert_eq!(after, expected, "the other hash stays, and the rest is applied");
    }
}

/// Nodes at neighbouring steps of a key change move a hash to the newer key once, and never back.
pub async fn a_hash_never_moves_back(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let holder = Holder::create(&service, &rings.old, &[]).await;
    let id = holder.id();
    service.apply(id, &holder.rehashed(&rings.accepting, add("n", 1))).await;
    let record = service.snapshot(id).await;
    assert_eq!(record.secret, holder.under(&rings.old).secret, "the old key is still current");
    for ring in [&rings.both, &rings.accepting, &rings.both, &rings.accepting] {
        service.apply(id, &holder.rehashed(ring, add("n", 1))).await;
        assert_moved(&service, &holder, &rings).await;
    }
    let kept = service.snapshot(id).await.values;
    assert_eq!(kept, values(&[("n", "5")]), "no node's write is lost");
}

/// A touch may carry a re-hash: it moves both the deadline and the hash.
pub async fn a_touch_moves_the_hash_too(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let holder = Holder::create(&service, &rings.old, &[("n", "1")]).await;
    let before = service.snapshot(holder.id()).await;
    for minutes in [40, 50] {
        let until = service.now() + minutes * MINUTE;
        let patch = holder.rehashed(&rings.both, Patch::touch(until));
        service.apply(holder.id(), &patch).await;
        let after = service.snapshot(holder.id()).await;
        assert_eq!(after.idle_deadline, until, "the touch is applied beside the re-hash");
        assert_eq!(after.values, before.values, "a touch changes no value");
        assert!(service.moves_records() || after.version > before.version, "a hash is a change");
        assert_moved(&service, &holder, &rings).await;
    }
}

/// A refused patch moves no hash.
pub async fn a_refused_patch_moves_no_hash(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let holder = Holder::create(&service, &rings.old, &[("n", "\"1\"")]).await;
    let before = service.snapshot(holder.id()).await;
    let conflict = holder.rehashed(&rings.both, replace("n", Some("2"), "3"));
    let conflict = service.update(holder.id(), &conflict).await;
    answers!(conflict, Outcome::Conflict, "another value is a conflict");
    let rejected = holder.rehashed(&rings.both, add("n", 1));
    let rejected = service.update(holder.id(), &rejected).await;
    answers!(rejected, Outcome::Rejected(_), "text cannot be added to");
    let after = service.snapshot(holder.id()).await;
    assert_eq!(after, before, "a refused patch changes nothing");
}

/// A rotation replaces a re-hashed secret, and the secret is then superseded under either key.
pub async fn a_moved_secret_can_be_replaced(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let holder = Holder::create(&service, &rings.old, &[]).await;
    service.apply(holder.id(), &holder.rehashed(&rings.both, put(&[("n", "1")]))).await;
    let next = Holder::of(&service, holder.id()).under(&rings.new);
    let mut rotation = rotate(holder.under(&rings.new), next.secret);
    rotation.rotate(holder.proof(&rings.both), rotation.rotation().expect("it rotates").clone());
    service.apply(holder.id(), &rotation).await;
    for lookup in service.loads(holder.id(), Some(&holder.proof(&rings.both))).await {
        answers!(lookup, Lookup::Superseded, "a replaced secret is superseded");
    }
    let late = holder.rehashed(&rings.both, put(&[("n", "2")]));
    let late = service.update(holder.id(), &late).await;
    answers!(late, Outcome::Superseded, "a re-hash does not open for a replaced secret");
    let kept = service.snapshot(holder.id()).await;
    assert_eq!(kept.values, values(&[("n", "1")]), "a replaced secret writes nothing");
}

/// A hash keeps the name of its key, so that a node without the key can name it.
pub async fn a_hash_keeps_the_name_of_its_key(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    for ring in [&Keyring::unkeyed(), &rings.old, &rings.new] {
        let holder = Holder::create(&service, ring, &[]).await;
        let name = holder.under(ring).secret.key().name().to_owned();
        let record = service.snapshot(holder.id()).await;
        assert_eq!(record.secret.key().name(), name, "a created hash keeps its key's name");
        let next = Holder::of(&service, holder.id()).under(&rings.new);
        let mut patch = rotate(holder.under(ring), next.secret);
        patch.put("n", 1.into()).expect("a plain key");
        service.apply(holder.id(), &patch).await;
        let record = service.snapshot(holder.id()).await;
        let replaced = record.replaced.expect("the replaced hash is kept");
        assert_eq!(replaced.hash.key().name(), name, "a replaced hash keeps its key's name");
        let expected = next.secret.key();
        assert_eq!(record.secret.key().name(), expected.name(), "and so does the new one");
    }
}

/// If a proof has no hash under the record's key, every call is an error and changes nothing.
pub async fn hashes_under_an_unknown_key_are_errors(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let (rings, plain) = (Rings::new(), Keyring::unkeyed());
    for (at, stranger) in [(&rings.old, &rings.new), (&rings.new, &plain), (&plain, &rings.both)] {
        let holder = Holder::create(&service, at, &[("n", "1")]).await;
        let name = holder.under(at).secret.key().name().to_owned();
        let before = service.snapshot(holder.id()).await;
        let other = Holder::of(&service, holder.id());
        for client in [&holder, &other] {
            assert_unknown_key(&service, client, stranger, &name).await;
        }
        assert_eq!(service.snapshot(holder.id()).await, before, "nothing was changed");
        assert!(
            service.opens(holder.id(), &holder.proof(at)).await,
            "the right secret still opens"
        );
        service.assert_listed(&principal("mallory"), &[]).await;
        let known = holder.rehashed(at, put(&[("n", "2")]));
        service.apply(holder.id(), &known).await;
    }
}

/// A proof that does not match the current hash, and has no hash under the key of the replaced one,
/// is an error as long as the replaced hash is kept. The request may have raced with the rotation.
pub async fn a_replaced_hash_needs_a_known_key(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let rings = Rings::new();
    let old = Holder::create(&service, &rings.old, &[("n", "1")]).await;
    let new = Holder::of(&service, old.id());
    let mut rotation = rotate(old.under(&rings.old), new.under(&rings.new).secret);
    rotation.rotate(old.proof(&rings.both), rotation.rotation().expect("it rotates").clone());
    service.apply(old.id(), &rotation).await;
    let before = service.snapshot(old.id()).await;
    assert_unknown_key(&service, &old, &rings.new, Rings::OLD).await;
    assert_eq!(service.snapshot(old.id()).await, before, "nothing was changed");
    assert!(service.opens(old.id(), &new.proof(&rings.new)).await, "the new secret opens");
    service.advance(Record::REPLACED_KEPT);
    let proof = old.proof(&rings.new);
    for lookup in service.loads(old.id(), Some(&proof)).await {
        answers!(lookup, Lookup::Absent(_), "a minute later the replaced secret is unknown");
    }
    let mut late = put(&[("n", "2")]);
    late.prove(proof);
    answers!(service.update(old.id(), &late).await, Outcome::Gone, "and writes nothing");
}

/// Asserts that the record's hash is under the newer key and that the secret still opens it.
async fn assert_moved(service: &Fixture, holder: &Holder, rings: &Rings) {
    let record = service.snapshot(holder.id()).await;
    let expected = holder.under(&rings.new).secret;
    assert_eq!(record.secret, expected, "the hash is under the newer key");
    assert_eq!(record.secret.key().name(), expected.key().name(), "and names it");
    assert_eq!(record.replaced, None, "a re-hash replaces no secret");
    for ring in [&rings.both, &rings.accepting, &rings.new] {
        let opens = service.opens(holder.id(), &holder.proof(ring)).await;
        assert!(opens, "the same secret opens under every ring with the newer key");
    }
}

/// Asserts that every call of a node with this ring fails and names the missing key.
async fn assert_unknown_key(service: &Fixture, client: &Holder, ring: &Keyring, name: &str) {
    let (id, proof) = (client.id(), client.proof(ring));
    for hint in [crate::RequestHint::default(), service.hint(id)] {
        for node in service.nodes() {
            let answer = node.load(id, Some(&proof), &hint).await;
            assert_names_key(answer, name);
            for patch in attempts(service, client.under(ring), &proof) {
                assert_names_key(node.update(id, &patch, &hint).await, name);
            }
            let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
            assert_names_key(node.delete(id, &deletion).await, name);
        }
    }
}

#[track_caller]
fn assert_names_key<T: std::fmt::Debug>(answer: Result<T, StoreError>, name: &str) {
    match answer {
        Err(StoreError::UnknownKey(key)) => {
            assert_eq!(key.name(), name, "the error names the key that is missing");
        }
        other => panic!("a hash under an unknown key is an error: {other:?}"),
    }
}

fn attempts(service: &Fixture, client: Visitor, proof: &Proof) -> Vec<Patch> {
    let mallory = principal("mallory");
    let mut clear = Patch::new();
    clear.clear();
    let proven = [Patch::new(), put(&[("n", "2")]), add("n", 1), clear].map(|mut patch| {
        patch.prove(proof.clone());
        patch.keep_until(service.now() + 40 * MINUTE + SECOND);
        patch
    });
    let login = service.login(client, service.secret(), &mallory, LoginPolicy::default());
    let secrets = [rotate(client, service.secret()), login].map(|mut patch| {
        patch.rotate(proof.clone(), patch.rotation().expect("it rotates").clone());
        patch
    });
    proven.into_iter().chain(secrets).collect()
}
