//! Secrets: only the current one opens a record.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, MINUTE, SECOND, UnderWay, Visitor, add, answers, applied, principal,
    proven, put, rotate,
};
use crate::outcome::{Deleted, Deletion, Outcome};
use crate::patch::{LoginPolicy, Patch};
use crate::principal::Realm;
use crate::proof::{Keyring, Proof};
use crate::record::Record;
use crate::store::Lookup;
use crate::token::Token;

/// The right proof opens the record on every node. So does no proof, which a caller passes after it
/// proved its right earlier.
pub async fn the_right_proof_opens_the_record(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    assert!(service.opens(visitor.id, &visitor.proof()).await, "the right proof opens");
    let lookups = service.loads(visitor.id, None).await;
    for lookup in lookups {
        answers!(lookup, Lookup::Found(_), "a load without a proof finds a live record");
    }
    let patch = proven(put(&[("n", "1")]), visitor);
    applied(service.update(visitor.id, &patch).await, "the right proof may write");
    assert!(service.delete(visitor.id, Some(&visitor.proof())).await, "and may delete");
}

/// A wrong proof gets the same answers as an unknown record, and changes nothing.
pub async fn a_wrong_proof_changes_nothing_and_learns_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let victim = service.visitor(&[("n", "1")]).await;
    let before = service.snapshot(victim.id).await;
    let thief = Visitor { secret: service.secret(), ..victim };
    assert_shut_out(&service, thief).await;
    assert_eq!(service.snapshot(victim.id).await, before, "a wrong proof changes nothing");
    assert!(service.opens(victim.id, &victim.proof()).await, "and the right one still opens");
    service.assert_listed(&principal("mallory"), &[]).await;
}

/// A secret that was hashed under an earlier key opens the record while that key is accepted, and
/// can be re-hashed.
pub async fn a_proof_under_an_earlier_key_is_accepted(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let realm = Realm::default();
    let ring = |name, key| Keyring::keyed(name, &[key; 32]).expect("a key of 32 bytes");
    let (old, new) = (ring("k1", 1), ring("k2", 2));
    let both = new.clone().accept("k1", &[1; 32]).expect("a key of 32 bytes");
    let token = Token::generate(service.id(), service.node().env()).expect("randomness");
    let (id, secret) = (token.id(), token.secret());
    service.create(id, service.record(old.hash(&realm, secret))).await;
    assert!(service.opens(id, &both.prove(&realm, secret)).await, "every hash of a proof counts");
    let holder = Visitor { id, secret: old.hash(&realm, secret) };
    service.apply(id, &rotate(holder, new.hash(&realm, secret))).await;
    assert!(
        service.opens(id, &both.prove(&realm, secret)).await,
        "the new hash is of the same secret"
    );
    assert!(
        service.opens(id, &new.prove(&realm, secret)).await,
        "the old key is not needed any more"
    );
}

/// A rotation replaces only the secret, and the new one immediately opens the record on every node.
pub async fn a_rotation_replaces_the_secret_in_place(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let old = service.visitor(&[("n", "1")]).await;
    let before = service.snapshot(old.id).await;
    let new = rotated(&service, old).await;
    assert!(service.opens(old.id, &new.proof()).await, "the new secret opens");
    let after = service.snapshot(old.id).await;
    let expected = Record {
        secret: new.secret,
        replaced: after.replaced.clone(),
        version: after.version,
        ..before.clone()
    };
    assert_eq!(after, expected, "a rotation changes the secret and nothing else");
    assert!(service.moves_records() || after.version > before.version, "it is a change");
    let replaced = after.replaced.expect("the replaced hash is kept");
    assert_eq!(replaced.hash, old.secret, "the hash that is kept is the one before");
}

/// The replaced secret is `Superseded` for a minute, then unknown. It opens nothing in either case.
pub async fn a_replaced_secret_is_superseded_for_a_minute(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let old = service.visitor(&[("n", "1")]).await;
    let new = rotated(&service, old).await;
    let before = service.snapshot(old.id).await;
    assert_superseded(&service, old).await;
    service.advance(Record::REPLACED_KEPT - SECOND / 1000);
    assert_superseded(&service, old).await;
    assert_eq!(service.snapshot(old.id).await, before, "a replaced secret changes nothing");
    service.advance(SECOND / 1000);
    assert_shut_out(&service, old).await;
    assert!(service.opens(old.id, &new.proof()).await, "the new secret goes on opening");
}

/// The secret before the replaced one is unknown.
pub async fn a_secret_replaced_twice_is_unknown(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let first = service.visitor(&[]).await;
    let second = rotated(&service, first).await;
    let third = rotated(&service, second).await;
    assert_shut_out(&service, first).await;
    assert_superseded(&service, second).await;
    assert!(service.opens(third.id, &third.proof()).await, "the last secret opens");
}

/// A rotation that is sent again is `Applied` and changes nothing.
pub async fn a_rotation_sent_twice_is_applied(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let old = service.visitor(&[]).await;
    let mut rotation = rotate(old, service.secret());
    rotation.put("n", crate::RawJson::from(1)).expect("a plain key");
    service.apply(old.id, &rotation).await;
    let before = service.snapshot(old.id).await;
    for _ in service.nodes() {
        let outcome = service.update(old.id, &rotation).await;
        applied(outcome, "a rotation to the hash that is there was sent twice");
    }
    assert_eq!(service.snapshot(old.id).await, before, "the second time changes nothing");
    assert_superseded(&service, old).await;
}

/// When two rotations replace the same secret, one is `Applied` and the other `Superseded`. One secret is
/// live.
pub async fn one_of_two_concurrent_rotations_is_superseded(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let old = service.visitor(&[]).await;
        let rotation = |service: &Arc<Fixture>| {
            let (service, secret) = (Arc::clone(service), service.secret());
            let new = Visitor { secret, ..old };
            async move { (new, service.update(old.id, &rotate(old, secret)).await) }
        };
        let slow = UnderWay::start(polls, [rotation(&service)]).await;
        let quick = slow.overtake(rotation(&service)).await;
        let (_, slow) = slow.finish().await.remove(0);
        let (winner, loser) = match (&slow.1, &quick.1) {
            (Outcome::Applied(_), Outcome::Superseded) => (slow.0, quick.0),
            (Outcome::Superseded, Outcome::Applied(_)) => (quick.0, slow.0),
            other => panic!("replacing a secret is compare-and-set: {other:?}"),
        };
        assert!(service.opens(old.id, &winner.proof()).await, "the secret that won opens");
        assert_shut_out(&service, loser).await;
        assert_superseded(&service, old).await;
    }
}

/// A write that proves the old secret is applied before the rotation, or is `Superseded`.
pub async fn a_write_precedes_the_rotation_or_is_superseded(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let old = service.visitor(&[("kept", "1")]).await;
        let writes = (0..5).map(|n: usize| {
            let service = Arc::clone(&service);
            let key = format!("k{n}");
            async move {
                let patch = proven(put(&[(&key, "1")]), old);
                (key, service.update(old.id, &patch).await)
            }
        });
        let writes = UnderWay::start(polls, writes).await;
        let new = writes.overtake(rotated(&service, old)).await;
        let written = writes.finish().await;
        let record = service.snapshot(old.id).await;
        for (_, (key, outcome)) in &written {
            let kept = record.values.get(key).is_some();
            match outcome {
                Outcome::Applied(_) => assert!(kept, "what is applied survives a rotation"),
                Outcome::Superseded => assert!(!kept, "a superseded write is not written"),
                other => panic!("a late write is applied or superseded: {other:?}"),
            }
        }
        assert_eq!(record.secret, new.secret, "a late write brings no secret back");
        assert_eq!(record.values.get("kept"), Some(&b"1"[..]), "a rotation keeps the values");
        assert_superseded(&service, old).await;
    }
}

/// Writes without a proof, whose callers proved their right earlier, are kept during a rotation.
pub async fn a_rotation_under_way_loses_no_write(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let old = service.visitor(&[]).await;
        let new = service.secret();
        let rotation = Arc::clone(&service);
        let rotation = async move { rotation.apply(old.id, &rotate(old, new)).await };
        let rotation = UnderWay::start(polls, [rotation]).await;
        rotation.overtake(service.apply(old.id, &put(&[("n", "1")]))).await;
        rotation.finish().await;
        let record = service.snapshot(old.id).await;
        assert_eq!(record.values.get("n"), Some(&b"1"[..]), "a rotation loses no update");
        assert_eq!(record.secret, new, "an update loses no rotation");
    }
}

async fn rotated(service: &Fixture, old: Visitor) -> Visitor {
    let secret = service.secret();
    service.apply(old.id, &rotate(old, secret)).await;
    Visitor { secret, ..old }
}

/// Returns every kind of patch that a client with this secret may send.
fn attempts(service: &Fixture, client: Visitor) -> Vec<Patch> {
    let mallory = principal("mallory");
    let touch = Patch::touch(service.now() + 40 * MINUTE);
    let mut own = Patch::new();
    own.own("mallory".parse().expect("a plain label"));
    vec![
        proven(Patch::new(), client),
        proven(put(&[("n", "2")]), client),
        proven(add("n", 1), client),
        proven(touch, client),
        proven(own, client),
        rotate(client, service.secret()),
        service.login(client, service.secret(), &mallory, LoginPolicy::default()),
    ]
}

async fn assert_shut_out(service: &Fixture, client: Visitor) {
    let proof: Proof = client.proof();
    for lookup in service.loads(client.id, Some(&proof)).await {
        answers!(lookup, Lookup::Absent(_), "a wrong proof finds nothing");
    }
    for patch in attempts(service, client) {
        for _ in service.nodes() {
            let outcome = service.update(client.id, &patch).await;
            answers!(outcome, Outcome::Gone, "a wrong proof finds no record");
        }
    }
    let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
    let deleted = service.end(client.id, &deletion).await;
    assert_eq!(deleted, Deleted::Gone, "a wrong proof finds no record");
}

async fn assert_superseded(service: &Fixture, client: Visitor) {
    let proof: Proof = client.proof();
    for lookup in service.loads(client.id, Some(&proof)).await {
        answers!(lookup, Lookup::Superseded, "a replaced secret is superseded");
    }
    for patch in attempts(service, client) {
        for _ in service.nodes() {
            let outcome = service.update(client.id, &patch).await;
            answers!(outcome, Outcome::Superseded, "a replaced secret is superseded");
        }
    }
    let deletion = Deletion { proof: Some(&proof), ..Deletion::LOGOUT };
    let deleted = service.end(client.id, &deletion).await;
    assert_eq!(deleted, Deleted::Superseded, "a replaced secret is superseded");
}
