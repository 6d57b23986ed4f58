//! Resending: a call whose answer was lost is sent again and takes effect once.

use std::sync::Arc;

use crate::conformance::Subject;
use crate::conformance::faults::{Call, Fault, FaultyStore};
use crate::conformance::fixture::{
    Fixture, Visitor, answers, applied, principal, proven, put, rotate, values,
};
use crate::error::StoreError;
use crate::outcome::{Applied, Deleted, Deletion, EndReason, Outcome, Revocation};
use crate::patch::{LoginPolicy, Patch};
use crate::store::{Lookup, RequestHint, SessionStore};
use crate::token::RecordId;

/// A create that is sent again after a lost answer is `Applied`, and there is one record.
pub async fn a_create_is_repeatable_after_a_lost_answer(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.stranger();
    let record = service.record_of(visitor.secret, &alice);
    let store = losing(&service, Call::Create);
    let create = || store.create(visitor.id, record.clone(), LoginPolicy::default());
    answers!(create().await, Err(StoreError::Timeout), "the answer is lost");
    let outcome = create().await.expect("the store answers again");
    let applied = applied(outcome, "a create with the hash that is there was sent twice");
    assert_eq!(applied.ended, [], "nothing ended for it");
    service.assert_listed(&alice, &[visitor.id]).await;
    assert!(service.opens(visitor.id, &visitor.proof()).await, "the record is there");
}

/// A patch that puts and removes has the same result when it is sent again.
pub async fn a_patch_is_repeatable_after_a_lost_answer(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[("a", "1"), ("b", "1")]).await;
    let mut patch = proven(put(&[("a", "2")]), visitor);
    patch.remove("b").expect("a plain key");
    assert!(!patch.is_once_only(), "it can be sent again");
    sent_twice(&service, visitor.id, &patch).await;
    let kept = service.snapshot(visitor.id).await.values;
    assert_eq!(kept, values(&[("a", "2")]), "a patch sent twice is applied once");
}

/// A rotation that is sent again after a lost answer is `Applied`, and one secret is live.
pub async fn a_rotation_is_repeatable_after_a_lost_answer(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let old = service.visitor(&[]).await;
    let secret = service.secret();
    let new = Visitor { secret, ..old };
    sent_twice(&service, old.id, &rotate(old, secret)).await;
    assert!(service.opens(old.id, &new.proof()).await, "the new secret opens");
    let by_old = service.load(old.id, Some(&old.proof())).await;
    answers!(by_old, Lookup::Superseded, "the old secret was replaced once");
}

/// A login that is sent again after a lost answer is `Applied` and counts once.
pub async fn a_login_is_repeatable_after_a_lost_answer(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let alice = principal("alice");
    let visitor = service.visitor(&[]).await;
    let capped = LoginPolicy::capped(1);
    let login = service.login(visitor, service.secret(), &alice, capped);
    let second = sent_twice(&service, visitor.id, &login).await;
    assert_eq!(second.ended, [], "a login sent twice counts once");
    service.assert_listed(&alice, &[visitor.id]).await;
}

/// A delete whose answer was lost took effect, and sending it again is not an error.
pub async fn a_delete_is_repeatable_after_a_lost_answer(subject: &impl Subject) {
    let service = Fixture::open(subject).await;
    let visitor = service.visitor(&[]).await;
    let store = losing(&service, Call::Delete);
    let proof = visitor.proof();
    let logout = Deletion::for_reason(EndReason::Logout);
    let deletion = Deletion { proof: Some(&proof), ..logout };
    let lost = store.delete(visitor.id, &deletion).await;
    answers!(lost, Err(StoreError::Timeout), "the answer is lost");
    let again = store.delete(visitor.id, &deletion).await;
    answers!(again, Ok(Deleted::Gone), "a delete sent twice finds nothing");
    assert!(service.is_absent(visitor.id).await, "the record is gone");
}

/// A `delete_all` whose answer was lost took effect, and sending it again is not an error.
pub async fn a_delete_all_is_repeatable_after_lost_answers(subject: &impl Subject) {
    let Some(service) = Fixture::with_index(subject).await else {
        return;
    };
    let alice = principal("alice");
    service.member(&alice).await;
    let store = losing(&service, Call::DeleteAll);
    let logout = Revocation::for_reason(EndReason::Logout);
    let revocation = Revocation { epoch: Some(1), ..logout };
    let lost = store.delete_all(&alice, revocation).await;
    answers!(lost, Err(StoreError::Timeout), "the answer is lost");
    let again = store.delete_all(&alice, revocation).await;
    answers!(again, Ok(0), "a delete_all sent twice finds nothing");
    service.assert_listed(&alice, &[]).await;
}

/// Wraps a node so that it loses its first answer to a call.
fn losing(service: &Fixture, call: Call) -> FaultyStore {
    let store = FaultyStore::new(Arc::clone(service.node()));
    store.once(call, Fault::AckLost);
    store
}

async fn sent_twice(service: &Fixture, id: RecordId, patch: &Patch) -> Applied {
    let store = losing(service, Call::Update);
    let lost = store.update(id, patch, &RequestHint::default()).await;
    answers!(lost, Err(StoreError::Timeout), "the answer is lost");
    let outcome: Outcome =
        store.update(id, patch, &RequestHint::default()).await.expect("the store answers again");
    assert_eq!(store.calls(Call::Update), 2, "it was sent twice");
    applied(outcome, "what was not confirmed can be sent again")
}
