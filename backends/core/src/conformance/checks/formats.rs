//! Formats: facts, and records written by a later release.

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, MINUTE, Visitor, add, answers, applied, principal, put, rotate,
};
use crate::error::StoreError;
use crate::facts::Facts;
use crate::outcome::{Deletion, Outcome};
use crate::patch::{Authentication, LoginPolicy, Patch};
use crate::record::Record;
use crate::store::RequestHint;

/// Facts are kept byte for byte. No write, touch or rotation changes them.
pub async fn facts_are_kept_byte_for_byte(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    for facts in [vec![], vec![0], every_byte, vec![b'\''; Facts::MAX]] {
        let facts = Facts::new(facts).expect("within the limit");
        let visitor = service.stranger();
        let record = Record { facts: facts.clone(), ..service.record(visitor.secret) };
        applied(service.create(visitor.id, record).await, "a create under a fresh id is applied");
        let kept = service.snapshot(visitor.id).await.facts;
        assert_eq!(kept.as_bytes(), facts.as_bytes(), "facts are kept as they were created");
        let mut clear = put(&[("n", "1")]);
        clear.clear();
        let touch = Patch::touch(service.now() + 40 * MINUTE);
        for patch in [add("n", 1), clear, touch, rotate(visitor, service.secret())] {
            service.apply(visitor.id, &patch).await;
            let kept = service.snapshot(visitor.id).await.facts;
            assert_eq!(kept.as_bytes(), facts.as_bytes(), "no such patch changes facts");
        }
    }
}

/// An authentication that brings facts replaces them. Other authentications keep them.
pub async fn facts_change_with_an_authentication_only(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let mut visitor = service.visitor(&[]).await;
    let facts = |bytes: &[u8]| Facts::new(bytes).expect("a few bytes");
    for (who, brought, expected) in [
        (Some(&alice), Some(facts(b"\0one")), facts(b"\0one")),
        (Some(&alice), None, facts(b"\0one")),
        (None, None, facts(b"\0one")),
        (None, Some(facts(&[0xff; 300])), facts(&[0xff; 300])),
        (Some(&alice), Some(facts(b"")), facts(b"")),
    ] {
        let secret = service.secret();
        let authentication = Authentication {
            principal: who.cloned(),
            facts: brought,
            ..service.elevation(LoginPolicy::default())
        };
        let patch = service.authenticate(visitor, secret, authentication);
        service.apply(visitor.id, &patch).await;
        visitor = Visitor { secret, ..visitor };
        let kept = service.snapshot(visitor.id).await.facts;
        assert_eq!(
            kept.as_bytes(),
            expected.as_bytes(),
            "only facts that were brought replace them"
        );
        assert!(
            service.opens(visitor.id, &visitor.proof()).await,
            "the new secret opens the record"
        );
    }
}

/// A record in a newer format is an error to `load` and `update` that names both formats. It is not
/// changed, and can be deleted.
///
/// Checks nothing if [`Subject::set_format`] cannot make one.
pub async fn records_of_a_newer_format_stay_unchanged(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.member(&alice).await;
    service.apply(visitor.id, &put(&[("n", "1")])).await;
    let before = service.snapshot(visitor.id).await;
    let newer = Record::FORMAT + 1;
    if !subject.set_format(visitor.id, newer).await {
        return;
    }
    assert_newer(&service, visitor, newer).await;
    assert!(subject.set_format(visitor.id, before.format()).await, "it is still there");
    assert_eq!(service.snapshot(visitor.id).await, before, "it was not changed");
    service.assert_listed(&alice, &[visitor.id]).await;

    assert!(subject.set_format(visitor.id, u16::MAX).await, "it is still there");
    assert_newer(&service, visitor, u16::MAX).await;
    let deleted = service.node().delete(visitor.id, &Deletion::LOGOUT).await;
    deleted.expect("a record of a newer format can be deleted");
    assert!(service.is_absent(visitor.id).await, "and is gone then");
    service.assert_listed(&alice, &[]).await;
}

async fn assert_newer(service: &Fixture, visitor: Visitor, newer: u16) {
    let proof = visitor.proof();
    for node in service.nodes() {
        for hint in [RequestHint::default(), service.hint(visitor.id)] {
            for proof in [None, Some(&proof)] {
                assert_names_formats(node.load(visitor.id, proof, &hint).await, newer);
            }
            for patch in attempts(service, visitor) {
                assert_names_formats(node.update(visitor.id, &patch, &hint).await, newer);
            }
        }
        let other = service.record(service.secret());
        let created = node.create(visitor.id, other, LoginPolicy::default()).await;
        answers!(
            created,
            Ok(Outcome::Exists) | Err(StoreError::NewerFormat { .. }),
            "a create never overwrites"
        );
        node.collect().await.expect("a healthy store collects");
    }
}

fn attempts(service: &Fixture, visitor: Visitor) -> Vec<Patch> {
    let (mut clear, mut own) = (Patch::new(), Patch::new());
    clear.clear();
    own.own("n1".parse().expect("a plain label"));
    let login = service.login(visitor, service.secret(), &principal("bob"), LoginPolicy::default());
    let touch = Patch::touch(service.now() + 40 * MINUTE);
    let rotation = rotate(visitor, service.secret());
    vec![Patch::new(), put(&[("n", "2")]), add("n", 1), clear, own, touch, rotation, login]
}

#[track_caller]
fn assert_names_formats<T: std::fmt::Debug>(answer: Result<T, StoreError>, newer: u16) {
    match answer {
        Err(StoreError::NewerFormat { found, known }) => {
            assert_eq!((found, known), (newer, Record::FORMAT), "the error names both formats");
        }
        other => panic!("a record of a newer format is an error: {other:?}"),
    }
}
