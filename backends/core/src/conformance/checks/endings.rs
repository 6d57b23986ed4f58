//! Endings: an ended record never comes back.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::fixture::{
    Fixture, HELD_AFTER, HOUR, MINUTE, SECOND, UnderWay, Visitor, add, answers, at_once, principal,
    put, rotate,
};
use crate::error::StoreError;
use crate::outcome::Outcome;
use crate::patch::{LoginPolicy, Patch};
use crate::store::{Lookup, RequestHint};
use crate::token::RecordId;

/// After a delete, no node finds the record, and every kind of update is `Gone`.
pub async fn after_a_delete_no_node_finds_the_record(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.member(&alice).await;
    assert!(service.delete(visitor.id, None).await, "it was live");
    assert_ended(&service, visitor).await;
    service.assert_listed(&alice, &[]).await;
}

/// An update that runs while a delete returns is applied before it, or is `Gone`.
pub async fn no_update_under_way_revives_a_deleted_record(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let alice = principal(&format!("alice{polls}"));
        let visitor = service.visitor(&[("n", "1")]).await;
        let updates = UnderWay::start(polls, updates(&service, visitor, &alice)).await;
        let deleted = updates.overtake(service.delete(visitor.id, None)).await;
        assert!(deleted, "a live record is deleted");
        assert!(service.is_absent(visitor.id).await, "delete wins as soon as it returned");
        for (_, outcome) in updates.finish().await {
            answers!(
                outcome,
                Outcome::Applied(_) | Outcome::Gone | Outcome::Superseded,
                "an update is before the delete or gone"
            );
        }
        assert_ended(&service, visitor).await;
        service.assert_listed(&alice, &[]).await;
    }
}

/// A load that runs while a record ends, or its secret is replaced, leaves no copy that serves the
/// record later.
pub async fn no_load_under_way_brings_a_record_back(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let deleted = service.unseen_visitor(&[]).await;
        let rotated = service.unseen_visitor(&[]).await;
        let loads = service.nodes().iter().flat_map(|_| [deleted, rotated]).map(|visitor| {
            let service = Arc::clone(&service);
            async move { service.load(visitor.id, Some(&visitor.proof())).await }
        });
        let loads = UnderWay::start(polls, loads.collect::<Vec<_>>()).await;
        let rotation = rotate(rotated, service.secret());
        let ends = async {
            service.delete(deleted.id, None).await;
            service.apply(rotated.id, &rotation).await
        };
        loads.overtake(ends).await;
        loads.finish().await;
        assert!(service.is_absent(deleted.id).await, "no copy serves what was deleted");
        for lookup in service.loads(rotated.id, Some(&rotated.proof())).await {
            answers!(lookup, Lookup::Superseded, "no copy opens for the replaced secret");
        }
    }
}

/// A delete among many updates ends the record, in every schedule.
pub async fn a_delete_wins_among_many_updates(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for _ in 0..8 {
        let visitor = service.visitor(&[]).await;
        let calls = (0..32).map(|n| {
            let service = Arc::clone(&service);
            async move {
                match n {
                    16 => drop(service.delete(visitor.id, None).await),
                    _ => drop(service.update(visitor.id, &add("n", 1)).await),
                }
            }
        });
        at_once(calls).await;
        assert_ended(&service, visitor).await;
    }
}

/// A second delete reports that there was nothing to delete.
pub async fn a_second_delete_finds_nothing(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let proof = visitor.proof();
    assert!(service.delete(visitor.id, Some(&proof)).await, "it was live");
    for _ in service.nodes() {
        assert!(!service.delete(visitor.id, Some(&proof)).await, "it is no more");
        assert!(!service.delete(visitor.id, None).await, "it is no more");
    }
}

/// A record is gone at its idle deadline, to the millisecond, whether or not it was collected.
pub async fn a_record_is_gone_at_its_idle_deadline(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.member(&alice).await;
    service.advance(30 * MINUTE - SECOND / 1000);
    assert!(service.opens(visitor.id, &visitor.proof()).await, "it lives up to its deadline");
    service.assert_listed(&alice, &[visitor.id]).await;
    service.advance(SECOND / 1000);
    assert_ended(&service, visitor).await;
    service.assert_listed(&alice, &[]).await;
    service.node().collect().await.expect("a healthy store collects");
    assert_ended(&service, visitor).await;
}

/// A record is gone at its absolute deadline, however much it is used.
pub async fn a_record_is_gone_at_its_absolute_deadline(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let absolute = service.snapshot(visitor.id).await.absolute_deadline;
    for _ in 0..16 {
        assert!(service.opens(visitor.id, &visitor.proof()).await, "a session in use lives on");
        service.apply(visitor.id, &Patch::touch(service.now() + 40 * MINUTE)).await;
        service.advance(30 * MINUTE);
    }
    assert_eq!(service.now(), absolute, "eight hours are over");
    assert_ended(&service, visitor).await;
}

/// Updates and touches that run while a record expires do not revive it.
pub async fn no_update_under_way_revives_an_expired_record(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    for polls in HELD_AFTER {
        let alice = principal(&format!("alice{polls}"));
        let visitor = service.visitor(&[("n", "1")]).await;
        let updates = UnderWay::start(polls, updates(&service, visitor, &alice)).await;
        updates.overtake(async { service.advance(9 * HOUR) }).await;
        for (_, outcome) in updates.finish().await {
            answers!(
                outcome,
                Outcome::Applied(_) | Outcome::Gone | Outcome::Superseded,
                "an update is before the deadline or gone"
            );
        }
        assert_ended(&service, visitor).await;
        service.assert_listed(&alice, &[]).await;
    }
}

/// A corrupt record is absent to `load`, an error to `update`, otherwise unchanged, and deletable.
///
/// Checks nothing if [`Subject::corrupt`] cannot make one.
pub async fn a_corrupt_record_is_absent_and_deletable(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("n", "1")]).await;
    if !subject.corrupt(visitor.id).await {
        return;
    }
    for _ in 0..2 {
        assert!(service.is_absent(visitor.id).await, "a corrupt record is absent to load");
        assert_corrupt(&service, visitor.id).await;
    }
    let other = service.record(service.secret());
    let created = service.node().create(visitor.id, other, LoginPolicy::default()).await;
    answers!(
        created,
        Ok(Outcome::Exists) | Err(StoreError::Corrupt(_)),
        "a corrupt record is left as it is"
    );
    service.delete(visitor.id, None).await;
    assert_ended(&service, visitor).await;
}

async fn assert_corrupt(service: &Fixture, id: RecordId) {
    for node in service.nodes() {
        let answer = node.update(id, &put(&[("n", "2")]), &RequestHint::default()).await;
        answers!(answer, Err(StoreError::Corrupt(_)), "a corrupt record is an error to update");
    }
}

async fn assert_ended(service: &Fixture, visitor: Visitor) {
    assert!(service.is_absent(visitor.id).await, "a record that ended never lives again");
    let touch = Patch::touch(service.now() + 30 * MINUTE);
    for patch in [put(&[("n", "1")]), touch, rotate(visitor, service.secret())] {
        for _ in service.nodes() {
            let outcome = service.update(visitor.id, &patch).await;
            answers!(outcome, Outcome::Gone, "an update never revives");
        }
    }
    assert!(!service.delete(visitor.id, None).await, "what ended was not live");
    assert!(service.is_absent(visitor.id).await, "a record that ended never lives again");
}

/// One update of each kind, each asking for the latest possible deadline.
fn updates(
    service: &Arc<Fixture>,
    visitor: Visitor,
    principal: &crate::Principal,
) -> Vec<impl Future<Output = Outcome> + Send + 'static> {
    let until = service.record(visitor.secret).absolute_deadline;
    let login = service.login(visitor, service.secret(), principal, LoginPolicy::default());
    let patches = [
        put(&[("n", "2")]),
        add("m", 1),
        Patch::touch(until),
        rotate(visitor, service.secret()),
        login,
    ];
    let update = |mut patch: Patch| {
        let service = Arc::clone(service);
        patch.keep_until(until);
        async move { service.update(visitor.id, &patch).await }
    };
    patches.map(update).into_iter().collect()
}
