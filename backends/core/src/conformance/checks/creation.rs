//! Creation: a new record never overwrites another.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, add, answers, applied, at_once, principal, put, rotate,
};
use crate::outcome::Outcome;
use crate::patch::{LoginPolicy, Patch};
use crate::record::Record;
use crate::rejection::Rejection;
use crate::store::Lookup;
use crate::values::Values;
use crate::version::Version;

/// Every node loads the record that `create` stored.
pub async fn a_created_record_is_found_on_every_node(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.stranger();
    let record = Record {
        values: [("cart", b"[1]".as_slice())].into_iter().collect(),
        ..service.record_of(visitor.secret, &principal("alice"))
    };
    let outcome = service.create(visitor.id, record.clone()).await;
    applied(outcome, "a create under a fresh id is applied");
    for lookup in service.loads(visitor.id, Some(&visitor.proof())).await {
        let Lookup::Found(found) = lookup else {
            panic!("every node finds a record that was created: {lookup:?}");
        };
        let kept = Record { owner: None, version: record.version, ..(*found.record).clone() };
        assert_eq!(found.id, visitor.id, "the record is the one asked for");
        assert_eq!(kept, record, "a record is kept as it was created");
    }
}

/// A create that is sent again with the same hash is `Applied`, and keeps what was written since.
pub async fn a_create_sent_twice_overwrites_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("n", "1")]).await;
    service.apply(visitor.id, &put(&[("n", "2")])).await;
    let before = service.snapshot(visitor.id).await;
    let outcome = service.create(visitor.id, service.record(visitor.secret)).await;
    applied(outcome, "a create with the hash that is there was sent twice");
    assert_eq!(service.snapshot(visitor.id).await, before, "create overwrites nothing");
}

/// A create with another hash under a taken id is `Exists` and changes nothing.
pub async fn a_create_under_a_taken_id_is_refused(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("n", "1")]).await;
    let before = service.snapshot(visitor.id).await;
    let other = service.record_of(service.secret(), &principal("mallory"));
    for _ in service.nodes() {
        let outcome = service.create(visitor.id, other.clone()).await;
        answers!(outcome, Outcome::Exists, "another record has this id");
    }
    assert_eq!(service.snapshot(visitor.id).await, before, "create overwrites nothing");
    service.assert_listed(&principal("mallory"), &[]).await;
}

/// Exactly one of many concurrent creates under one id, with different hashes, is `Applied`.
pub async fn one_of_several_concurrent_creates_is_applied(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let id = service.id();
    let outcomes = at_once((0..8).map(|_| {
        let service = Arc::clone(&service);
        let record = service.record(service.secret());
        async move { (record.secret, service.create(id, record).await) }
    }))
    .await;
    let winners: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Applied(_))).collect();
    assert_eq!(winners.len(), 1, "create never overwrites: {outcomes:?}");
    let record = service.authoritative(id).await.expect("the one that was applied");
    assert_eq!(record.secret, winners[0].0, "the record is the one that was applied");
}

/// A record that exceeds a limit of the store is `Rejected` and not stored.
pub async fn a_record_over_a_limit_is_not_created(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.stranger();
    let keys = service.node().limits().keys + 1;
    let values: Values = (0..keys).map(|n| (format!("k{n}"), b"0".as_slice())).collect();
    let record = Record { values, ..service.record(visitor.secret) };
    let outcome = service.create(visitor.id, record).await;
    answers!(outcome, Outcome::Rejected(Rejection::Limit(_)), "a record over a limit is rejected");
    assert!(service.is_absent(visitor.id).await, "what is rejected is not stored");
}

/// No update creates a record.
pub async fn an_update_never_creates(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let stranger = service.stranger();
    let login =
        service.login(stranger, service.secret(), &principal("alice"), LoginPolicy::default());
    let touch = Patch::touch(service.record(stranger.secret).absolute_deadline);
    let rotation = rotate(stranger, service.secret());
    for patch in [put(&[("n", "1")]), add("n", 1), Patch::new(), touch, rotation, login] {
        let outcome = service.update(stranger.id, &patch).await;
        answers!(outcome, Outcome::Gone, "an update of what is not there is gone");
    }
    assert!(service.is_absent(stranger.id).await, "an update never creates");
    service.assert_listed(&principal("alice"), &[]).await;
}

/// A missing record is not an error: the answers are `Absent`, `false`, an empty list and zero
/// ended.
pub async fn a_missing_record_is_not_an_error(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let stranger = service.stranger();
    assert!(service.is_absent(stranger.id).await, "an unknown record is absent");
    for proof in [None, Some(stranger.proof())] {
        let deleted = service.delete(stranger.id, proof.as_ref()).await;
        assert!(!deleted, "an unknown record was not live");
    }
    service.assert_listed(&principal("nobody"), &[]).await;
}

/// A record that comes from another store keeps its version and continues from it.
pub async fn a_version_continues_where_the_created_record_stood(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.stranger();
    let record = Record { version: Version(41_000), ..service.record(visitor.secret) };
    let created =
        applied(service.create(visitor.id, record).await, "a create under a fresh id is applied");
    let patched = service.apply(visitor.id, &put(&[("n", "1")])).await;
    assert!(created.version >= Version(41_000), "a version never restarts");
    assert!(patched.version > created.version, "a version grows with a change");
}

/// Minted ids are distinct, on one node and across nodes.
pub async fn minted_ids_are_distinct(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let ids: std::collections::HashSet<_> = (0..1_000).map(|_| service.id()).collect();
    assert_eq!(ids.len(), 1_000, "an id is minted once");
}
